"""The verbs of the local back end: units are processes of this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from xmanager.backend import (
    KEY_VARIABLE,
    Capacity,
    Grant,
    Observation,
    Rejected,
    Submitted,
    Task,
    Unit,
)
from xmanager.backends.local import requirements, startable
from xmanager.backends.local.endings import Endings, Scan
from xmanager.backends.local.machine import Machine, detect
from xmanager.backends.local.processes import (
    JOB_VARIABLE,
    Owner,
    Process,
    boot_seconds,
    child_start,
    read_start,
    scan_processes,
)
from xmanager.backends.local.programs import CannotStartError
from xmanager.backends.local.runs import (
    Run,
    UnitRun,
    adopt,
    conclude,
    format_reference,
    own_peak,
    poll_child,
)
from xmanager.backends.local.signals import Watch, send_group
from xmanager.backends.local.spawn import Command, prepare, start
from xmanager.runner.record import read_record

_IDLE_PERIOD = 1.0
_WATCH_PERIOD = 0.05
_BIRTH = 1.0


@attrs.frozen
class Launch:
    """What `submit` starts: the unit and the commands of its tasks."""

    unit: Unit
    commands: tuple[Command, ...]


def create(environ: Mapping[str, str]) -> LocalBackend:
    """The entry point: a back end for this machine, whose jobs inherit `environ`."""
    return LocalBackend(environ, detect(environ))


class LocalBackend:
    """Runs each task as a process group of its own, beside which a few lines of shell keep the exit code.

    Jobs outlive this object and its process: a new one takes them over by reference, or finds them by key.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        machine: Machine,
        *,
        clock: Callable[[], float] = boot_seconds,
        scan: Scan = scan_processes,
    ) -> None:
        self._environ = dict(environ)
        self._machine = machine
        self._clock = clock
        self._scan = scan
        self._watch = Watch()
        self._endings = Endings(scan, clock)
        self._units: dict[str, UnitRun] = {}

    @property
    def period(self) -> float:
        """Short while something is being ended or a task is no child of ours, whose end sends no SIGCHLD."""
        period = _WATCH_PERIOD if self._watch else _IDLE_PERIOD
        return min(period, self._endings.period) if self._endings else period

    @property
    def busy(self) -> bool:
        """Something that was left behind by a task, whose end was told already, is still being ended."""
        return bool(self._endings)

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises ExecutorError if one can't be started, or the machine is too small for what they state together."""
        startable.check(tasks)
        requirements.check(tasks, self.capacity())

    def capacity(self) -> Capacity:
        """The CPUs, memory and GPUs that this process may use."""
        machine = self._machine
        amounts = {
            requirements.CPU: machine.cpus,
            requirements.RAM: machine.ram,
            requirements.GPU: len(machine.gpus),
        }
        return Capacity(amounts, {requirements.GPU: machine.gpus} if machine.gpus else {})

    def demand(self, tasks: Sequence[Task]) -> Mapping[str, Mapping[str, float]]:
        """One CPU for a task that states none; see `requirements.demand` for large groups."""
        return requirements.demand(tasks, self.capacity())

    def render(self, unit: Unit, grant: Grant) -> Launch:
        """The commands of a unit's tasks, with the variables that tell a job where it is."""
        return Launch(
            unit, tuple(_render(unit, task, grant.get(task.name, {})) for task in unit.tasks)
        )

    def submit(self, requests: Sequence[Launch]) -> Sequence[Submitted | Rejected]:
        """Starts all tasks of each unit, or none: those already running are killed if one can't start."""
        return [self._start(launch) for launch in requests]

    def find(self, units: Sequence[Unit]) -> Mapping[str, str]:
        """By what runners recorded of this very attempt, and by the mark that every process of a unit bears."""
        marked: dict[str, list[Process]] = {}
        for process in self._scan_settled() if units else ():
            if process.mark is not None:
                marked.setdefault(process.mark.key, []).append(process)
        found = {}
        for unit in units:
            mine = marked.get(unit.key, [])
            processes = [_find_runner(unit, task, mine) for task in unit.tasks]
            if mine or any(pid for pid, _ in processes):
                found[unit.key] = format_reference(unit.tasks, processes)
        return found

    def _scan_settled(self) -> Sequence[Process]:
        """All processes, once none of them is just being born, whose mark can't be read yet."""
        latest = time.monotonic() + _BIRTH
        processes = self._scan(0)
        while any(process.nascent for process in processes) and time.monotonic() < latest:
            time.sleep(0.001)
            processes = self._scan(0)
        return processes

    def observe(self, refs: Mapping[str, Unit]) -> Mapping[str, Observation]:
        """How all tasks fare. Also ends what is due: late tasks, tasks past their grace time, what tasks left."""
        for ref, unit in refs.items():
            self._recall(ref, unit)
        self._poll()
        self._endings.advance()
        observations = {ref: self._units[ref].observation() for ref in refs}
        # A unit that is asked for no more is forgotten, but not before nothing of it is left.
        self._units = {
            ref: unit for ref, unit in self._units.items() if ref in refs or not unit.is_over
        }
        return observations

    def stop(self, refs: Mapping[str, Unit], grace: float | None) -> None:
        """Sends TERM to every process of the units, whatever group or session it moved to."""
        runs: list[Run] = []
        for ref, unit in refs.items():
            known = self._recall(ref, unit)
            known.stopping = True
            runs += known.runs
        self._endings.begin(runs, grace)

    def close(self) -> None:
        """Closes what watches processes and forgets all units; one that is asked for again is taken over again."""
        self._watch.close()
        self._endings = Endings(self._scan, self._clock)
        self._units = {}

    def _start(self, launch: Launch) -> Submitted | Rejected:
        runs: list[Run] = []
        name = ''
        try:
            all_ready = []
            for command in launch.commands:
                name = command.name
                all_ready.append(prepare(command, self._environ))
            peak = own_peak()
            for task, ready in zip(launch.unit.tasks, all_ready, strict=True):
                name = task.name
                pid = start(ready)
                runs.append(Run(launch.unit, task, pid, read_start(pid), True, peak))
        except CannotStartError as error:
            self._undo(runs)
            return Rejected(str(error), name)
        return Submitted(self._remember(runs))

    def _remember(self, runs: Sequence[Run]) -> str:
        ref = format_reference([run.task for run in runs], [(run.pid, run.start) for run in runs])
        self._units[ref] = UnitRun(tuple(runs))
        return ref

    def _undo(self, runs: Sequence[Run]) -> None:
        """Kills what was started of a unit that can't be started whole; `observe` sees to the rest."""
        for run in runs:
            send_group(run.pid, signal.SIGKILL)
        if runs:
            self._remember(runs)
            self._endings.begin(runs, 0.0)

    def _recall(self, ref: str, unit: Unit) -> UnitRun:
        """What is known of a unit, which is taken over if it was not submitted here."""
        known = self._units.get(ref)
        if known is None:
            known = self._units[ref] = adopt(ref, unit, self._watch)
            for run in known.runs:
                if run.end is not None:
                    self._endings.sweep(run)
        return known

    def _poll(self) -> None:
        now = self._clock()
        gone = self._watch.ended()
        late = []
        for unit in self._units.values():
            for run in unit.runs:
                if run.end is not None:
                    continue
                if poll_child(run) if run.is_child else run.pid in gone:
                    if run.end is None:
                        conclude(run)
                    self._endings.sweep(run)
                elif run.is_late(now):
                    run.reason = f'timed out after {run.timeout} s'
                    late.append(run)
        if late:
            self._endings.begin(late, None)


def _render(unit: Unit, task: Task, devices: Mapping[str, tuple[str, ...]]) -> Command:
    folder = unit.task_folder(task)
    marks = {
        'XM_EXPERIMENT_ID': str(unit.experiment_id),
        'XM_WORK_UNIT_ID': unit.label,
        JOB_VARIABLE: task.name,
        'XM_OUTPUT_DIR': str(folder / 'out'),
        'XM_ATTEMPT': str(unit.attempt),
        KEY_VARIABLE: unit.key,
        'PYTHONUNBUFFERED': '1',
    }
    # A job that says nothing of GPUs sees all of them: scripts written before there was a queue rely on it.
    if requirements.GPU in task.requirements:
        marks['CUDA_VISIBLE_DEVICES'] = ','.join(devices.get(requirements.GPU, ()))
    return Command(
        name=task.name,
        folder=folder,
        attempt=unit.attempt,
        key=unit.key,
        argv=task.argv,
        cwd=os.path.abspath(task.cwd),
        env=task.env,
        secrets=task.secrets,
        marks=marks,
    )


def _find_runner(unit: Unit, task: Task, marked: Sequence[Process]) -> tuple[int, int]:
    """A task's runner by number and start: start 0 if it is gone, number 0 if it never was."""
    record = read_record(unit.task_folder(task) / 'status')
    if record is not None and record.attempt == unit.attempt:
        starts = [process.start for process in marked if process.pid == record.pid]
        return record.pid, starts[0] if starts else child_start(record.pid)
    # A runner that has recorded nothing yet has no children either: it is the only one to lead a session.
    owner = Owner(unit.key, task.name)
    leaders = [p for p in marked if p.mark == owner and p.pid == p.session]
    return (leaders[0].pid, leaders[0].start) if leaders else (0, 0)
