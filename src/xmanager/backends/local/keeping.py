"""Tasks that run in containers: how their keepers are started, started again, and believed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from xmanager.backend import Task, TaskObservation, Unit
from xmanager.backends.local.container_spec import container_name
from xmanager.backends.local.leases import Leases
from xmanager.backends.local.processes import (
    boot_nanoseconds,
    boot_seconds,
    read_mark,
    read_process,
    read_start,
    start_between,
)
from xmanager.backends.local.programs import CannotStartError
from xmanager.backends.local.rendering import render_task
from xmanager.backends.local.runs import Run, own_peak
from xmanager.backends.local.signals import send
from xmanager.backends.local.spawn import Command, Ready, spawn
from xmanager.containers.body import SECRET_PREFIX
from xmanager.containers.endings import Ending, is_removed, read_ending, read_keepers
from xmanager.containers.signals import HANDLED
from xmanager.errors import EngineError
from xmanager.runner import record

_QUICK_TAKEOVERS = 5
_LONGEST_PAUSE = 30.0  # Seconds from one keeper that did not live to the next.
_REMOVAL = 5.0
_GIB = 1024**3
# All that a keeper takes of the launcher's environment: how its interpreter finds its libraries, and whose it is.
_INHERITED = ('PATH', 'HOME', 'LANG', 'LD_LIBRARY_PATH', 'XM_HOME')
_SOURCE = str(Path(__file__).resolve().parents[3])
_BOOTSTRAP = (
    'import sys; sys.path.insert(0, sys.argv.pop(1)); '
    'from xmanager.containers.keeper import main; main()'
)


def prepare(command: Command, environ: Mapping[str, str]) -> Ready:
    """The keeper of a task's container, to be started for the first time. Raises CannotStartError."""
    container = command.container
    assert container is not None
    for name in command.secrets.values():
        if name not in environ:
            raise CannotStartError(
                f'secret {name} is not set in the environment of the supervisor. '
                f'Set it where you launch: export {name}=…'
            )
    if not container['engine']:
        from xmanager.containers import find_engine

        try:
            container = {**container, 'engine': find_engine(environ).url}
        except EngineError as error:
            raise CannotStartError(str(error)) from error
    files = {f'{_subfolder(command.attempt)}/container.json': json.dumps(container).encode()}
    return attrs.evolve(_ready(command, environ), files=files)


class Keepers:
    """Sees to it that each container has a keeper until its end is known. `environ` is the supervisor's."""

    def __init__(
        self, environ: Mapping[str, str], boot: str, leases: Leases, clock: Callable[[], float]
    ) -> None:
        self._environ = environ
        self._clock = clock
        self._boot = boot
        self._leases = leases

    def current(self, unit: Unit, task: Task, pid: int, start: int) -> tuple[int, int]:
        """The runner of a task by number and start: another one than is remembered, if it went on under that."""
        found = record.read_record(unit.task_folder(task) / 'status')
        if not task.image or found is None or found.attempt != unit.attempt or found.pid == pid:
            return pid, start
        process, mark = read_process(found.pid), read_mark(found.pid)
        if process is None or mark is None or mark.key != unit.key or found.boot != self._boot:
            return found.pid, 0
        return found.pid, process.start

    def settle(self, run: Run) -> bool:
        """Notes how a container ended that has no keeper any more.

        False if there is more to do: then it has a new keeper, or gets one at `run.takeover_at`.
        """
        if not run.pid:
            return True
        folder = _folder(run.unit, run.task)
        ending = read_ending(str(folder), run.unit.key)
        if ending is not None:
            if not is_removed(str(folder)) and not run.tidied:
                run.tidied = True
                if self._take_over(run):
                    return False
            _believe(run, ending)
            return True
        found = run.record()
        if found is None or found.boot == self._boot:
            if (folder / 'container.json').exists():
                self._take_over_in_time(run)
                return False
            reason = 'lost its keeper, the process that sees how its container ends'
            trouble = _remove(run)
            reason = f'{reason}; {trouble}' if trouble else reason
            run.end = TaskObservation('vanished', ended_at=time.time(), reason=reason)
        return True

    def _take_over_in_time(self, run: Run) -> None:
        """Starts a keeper, or has that done later: each that did not live is followed after a longer pause."""
        now, is_due = self._clock(), run.takeover_at is not None
        pause = min(_LONGEST_PAUSE, 2.0 ** min(run.takeovers - _QUICK_TAKEOVERS, 10))
        if is_due or run.takeovers < _QUICK_TAKEOVERS:
            run.takeover_at = None
            if self._take_over(run):
                return
            run.takeovers += 1
        run.takeover_at, run.end = now + pause, None

    def _take_over(self, run: Run) -> bool:
        """Starts a keeper for a container that has lost its own; False if none can be."""
        _end_keepers(run)
        command = render_task(run.unit, run.task, '', self._boot)
        lease, peak = self._leases.hold(run.unit.key), own_peak()
        before = boot_nanoseconds()
        try:
            began = run.began if run.began is not None else began_at(run.unit, run.task)
            pid = spawn(_ready(command, self._environ), lease)
        except (CannotStartError, OSError):  # Such as a machine that has no process to give.
            return False
        finally:
            os.close(lease)
        run.began = began
        run.pid, run.start = pid, start_between(before, boot_nanoseconds()) or read_start(pid)
        run.is_child, run.spawner_peak = True, peak
        run.end, run.ended_ticks = None, float('inf')
        run.takeovers += 1
        return True


def began_at(unit: Unit, task: Task) -> float | None:
    """When a container was begun, in seconds since boot: its keeper's folder was made then. None if that is gone."""
    try:
        written = os.stat(_folder(unit, task) / 'container.json').st_mtime
    except OSError:
        return None
    return boot_seconds() - max(0.0, time.time() - written)


def _end_keepers(run: Run) -> None:
    """Kills what is left of earlier keepers, which nothing that is sent to the task reaches once their runner is gone.

    A keeper may be killed anywhere: the next one goes on where it was.
    """
    for pid in read_keepers(str(_folder(run.unit, run.task))):
        process = read_process(pid)
        if process is not None and pid != os.getpid() and read_mark(pid) == run.owner:
            with contextlib.suppress(PermissionError):
                send(process, signal.SIGKILL)


def _remove(run: Run) -> str:
    """Has the engine remove a container whose folder is gone; what went wrong, '' if nothing did."""
    from xmanager.containers import Engine
    from xmanager.containers.wire import WireError

    name = container_name(run.unit, run.task)
    url = str(run.task.executable.get('engine', ''))
    if not url:
        return f'its container {name} may still run'
    try:
        engine = Engine.connect(url, _REMOVAL)
        query = {'force': '1', 'v': '1'}
        engine.request('DELETE', f'/containers/{name}', query=query, timeout=_REMOVAL)
    except (WireError, EngineError) as error:
        if isinstance(error, EngineError) and error.status == 404:
            return ''
        return f'its container {name} may still run: {error}'
    return ''


def _ready(command: Command, environ: Mapping[str, str]) -> Ready:
    environment = {name: environ[name] for name in _INHERITED if name in environ}
    # What a successor lacks was given to the container by the keeper that created it.
    for variable, name in command.secrets.items():
        if name in environ:
            environment[SECRET_PREFIX + variable] = environ[name]
    environment.update(command.marks)
    folder = str(command.folder / _subfolder(command.attempt))
    argv = (sys.executable, '-I', '-S', '-c', _BOOTSTRAP, _SOURCE, folder)
    return Ready(command, argv, environment, '/', blocked=HANDLED)


def _folder(unit: Unit, task: Task) -> Path:
    return unit.task_folder(task) / _subfolder(unit.attempt)


def _subfolder(attempt: int) -> str:
    return f'container.{attempt}'


def _believe(run: Run, ending: Ending) -> None:
    """Takes the keeper's word for how a task ended. What the runner measured was the keeper, not the job."""
    ended_at = time.time() if run.end is None else run.end.ended_at
    if ending.vanished:
        run.end = TaskObservation('vanished', ended_at=ended_at, reason=ending.reason)
        return
    how = record.Ending.from_shell(ending.exit_code)
    run.end = TaskObservation(
        'exited', exit_code=how.exit_code, signal=how.signal, ended_at=ended_at
    )
    said = [_out_of_memory(run.task)] if ending.oom and ending.exit_code else []
    said += [ending.reason] if ending.reason else []
    run.reason = run.reason or '; '.join(said)


def _out_of_memory(task: Task) -> str:
    limit = task.requirements.get('ram')
    if not limit:
        return 'was killed for want of memory: this host had none left'
    return (
        f'was killed for want of memory: it used more than its limit of {limit / _GIB:.3g} GiB. '
        'Ask for more: Local(requirements=xm.JobRequirements(ram=…))'
    )
