"""Tasks that run in containers: how their keepers are started, started again, and believed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import attrs

from xmanager.backend import Task, TaskObservation, Unit
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
from xmanager.backends.local.spawn import Command, Ready, spawn
from xmanager.containers.body import SECRET_PREFIX
from xmanager.containers.endings import Ending, read_ending
from xmanager.containers.signals import HANDLED
from xmanager.errors import EngineError
from xmanager.runner import record

_MOST_TAKEOVERS = 5
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

    def __init__(self, environ: Mapping[str, str], boot: str, leases: Leases) -> None:
        self._environ = environ
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
        """Notes how a container ended that has no keeper any more. False if it goes on: then it has a new one."""
        if not run.pid:
            return True
        ending = read_ending(str(_folder(run.unit, run.task)), run.unit.key)
        if ending is not None:
            _believe(run, ending)
            return True
        found = run.record()
        if found is None or found.boot == self._boot:
            if run.takeovers < _MOST_TAKEOVERS and self._take_over(run):
                return False
            reason = 'lost its keeper, the process that sees how its container ends'
            run.end = TaskObservation('vanished', ended_at=time.time(), reason=reason)
        return True

    def _take_over(self, run: Run) -> bool:
        """Starts a keeper for a container that has lost its own; False if none can be."""
        command = render_task(run.unit, run.task, '', self._boot)
        lease, peak = self._leases.hold(run.unit.key), own_peak()
        before = boot_nanoseconds()
        try:
            began = _began(run)
            pid = spawn(_ready(command, self._environ), lease)
        except (CannotStartError, OSError):  # Its folder was removed.
            return False
        finally:
            os.close(lease)
        run.began = began
        run.pid, run.start = pid, start_between(before, boot_nanoseconds()) or read_start(pid)
        run.is_child, run.spawner_peak = True, peak
        run.end, run.ended_ticks = None, float('inf')
        run.takeovers += 1
        return True


def _began(run: Run) -> float:
    """When the container was begun, in seconds since boot: its keeper's folder was made then."""
    if run.began is not None:
        return run.began
    written = os.stat(_folder(run.unit, run.task) / 'container.json').st_mtime
    return boot_seconds() - max(0.0, time.time() - written)


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
