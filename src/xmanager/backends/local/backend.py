"""The verbs of the local back end: units are processes of this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from xmanager import faults
from xmanager.backend import (
    Capacity,
    Grant,
    Observation,
    Rejected,
    Submitted,
    Task,
    Unit,
)
from xmanager.backends.local import keeping, requirements, startable
from xmanager.backends.local.endings import Endings, Scan
from xmanager.backends.local.gpus import Strangers
from xmanager.backends.local.keeping import Keepers
from xmanager.backends.local.leases import Leases
from xmanager.backends.local.limits import (
    explain_end,
    is_due_for_warning,
    patience,
    time_out,
    warn,
)
from xmanager.backends.local.machine import Machine, detect
from xmanager.backends.local.processes import (
    Process,
    boot_id,
    boot_nanoseconds,
    boot_seconds,
    processes_with_lock,
    read_start,
    scan_processes,
    start_between,
)
from xmanager.backends.local.programs import CannotStartError
from xmanager.backends.local.rendering import Launch, render_task
from xmanager.backends.local.runs import (
    Run,
    UnitRun,
    conclude,
    find_runner,
    format_reference,
    own_peak,
    poll_child,
    read_reference,
    take_over,
)
from xmanager.backends.local.signals import Watch, send_group
from xmanager.backends.local.spawn import LEASE, is_begun, start
from xmanager.backends.local.spawn import prepare as prepare_process
from xmanager.ledger import locks

_IDLE_PERIOD = 1.0
_WATCH_PERIOD = 0.05
_BIRTH = 1.0


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
        self._boot = boot_id(self._environ)
        self._clock = clock
        self._scan = scan
        self._watch = Watch()
        self._endings = Endings(scan, clock, self._strays)
        self._strangers = Strangers(environ, machine.gpus)
        self._leases = Leases(self._environ)
        self._keepers = Keepers(self._environ, self._boot, self._leases, clock)
        self._units: dict[str, UnitRun] = {}
        self._live: dict[str, UnitRun] = {}  # Those of them of which a task has not ended.

    @property
    def period(self) -> float:
        """Short while something is being ended or a task is no child of ours, whose end sends no SIGCHLD.

        Never longer than until the next warning or timeout.
        """
        period = _WATCH_PERIOD if self._watch else _IDLE_PERIOD
        runs = (run for unit in self._live.values() for run in unit.runs)
        period = min(period, patience(runs, self._clock()))
        return min(period, self._endings.period) if self._endings else period

    @property
    def busy(self) -> bool:
        """Something that a task left behind, whose end was told already, is still being ended."""
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
        devices = {requirements.GPU: machine.gpus} if machine.gpus else {}
        return Capacity(amounts, devices, ledger=self._leases.place.folder)

    def strangers(self) -> Mapping[str, frozenset[str]]:
        """GPUs on which anything computes, our own jobs too: the ledger knows which devices it leased to them."""
        taken = self._strangers.look()
        return {requirements.GPU: taken} if taken else {}

    def demand(self, tasks: Sequence[Task]) -> Mapping[str, Mapping[str, float]]:
        """One CPU for a task that states none; see `requirements.demand` for large groups."""
        return requirements.demand(tasks, self.capacity())

    def render(self, unit: Unit, grant: Grant) -> Launch:
        """The commands of a unit's tasks, with the variables that tell a job where it is."""
        home = self._environ.get('HOME', '')
        visible = {task.name: self._visible(grant, task) for task in unit.tasks}
        return Launch(
            unit,
            tuple(render_task(unit, t, visible[t.name], self._boot, home) for t in unit.tasks),
        )

    def _visible(self, grant: Grant, task: Task) -> str:
        return self._machine.visible(grant.get(task.name, {}).get(requirements.GPU, ()))

    def submit(self, requests: Sequence[Launch]) -> Sequence[Submitted | Rejected]:
        """Starts all tasks of each unit, or none: those already running are killed if one can't start.

        A unit that was begun before, by whomever, is completed: only those of its tasks are started that never were.
        """
        begun = {
            launch.unit.key
            for launch in requests
            if os.path.exists(launch.unit.folder) and any(is_begun(one) for one in launch.commands)
        }
        marked = self._marked() if begun else {}
        return [
            self._start(
                launch, self._known(launch.unit, marked) if launch.unit.key in begun else {}
            )
            for launch in requests
        ]

    def find(self, units: Sequence[Unit]) -> Mapping[str, str]:
        """By what runners recorded of this very attempt, and by the mark that every process of a unit bears."""
        marked = self._marked() if units else {}
        found = {}
        for unit in units:
            mine = marked.get(unit.key, [])
            processes = [find_runner(unit, task, mine, self._boot) for task in unit.tasks]
            if mine or any(pid for pid, _ in processes):
                found[unit.key] = format_reference(unit.tasks, processes, self._boot)
        return found

    def _marked(self) -> dict[str, list[Process]]:
        """All processes that bear a mark, by the key of their unit."""
        marked: dict[str, list[Process]] = {}
        for process in self._scan_settled():
            if process.mark is not None:
                marked.setdefault(process.mark.key, []).append(process)
        return marked

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
        has_looked = self._endings.advance()
        observations = {ref: self._units[ref].observation() for ref in refs}
        if has_looked:
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
        faults.pass_by('stop.sent')

    def close(self) -> None:
        """Closes what watches processes and forgets all units; one that is asked for again is taken over again."""
        self._watch.close()
        self._strangers.close()
        self._leases.close()
        self._endings = Endings(self._scan, self._clock, self._strays)
        self._units = {}
        self._live = {}

    def _known(self, unit: Unit, marked: Mapping[str, Sequence[Process]]) -> dict[str, Run]:
        """What was started of a unit before, by task."""
        for held in self._units.values():
            if held.runs[0].unit.key == unit.key:
                return {run.task.name: run for run in held.runs}
        mine = marked.get(unit.key, [])
        runners = [(task, *find_runner(unit, task, mine, self._boot)) for task in unit.tasks]
        return {
            task.name: self._adopt(unit, task, pid, began) for task, pid, began in runners if pid
        }

    def _start(self, launch: Launch, known: Mapping[str, Run]) -> Submitted | Rejected:
        """Starts all tasks but the known ones; none any more if one of those has gone wrong."""
        unit, runs, name = launch.unit, dict(known), ''
        wanted = () if any(run.has_gone_wrong for run in known.values()) else launch.commands
        lease = -1
        try:
            all_ready = {}
            for command in wanted:
                name = command.name
                if name not in known:
                    prepare = prepare_process if command.container is None else keeping.prepare
                    all_ready[name] = prepare(command, self._environ)
            peak = own_peak()
            lease = self._leases.hold(unit.key)
            for task in unit.tasks:
                name = task.name
                if name in all_ready:
                    before = boot_nanoseconds()
                    pid = start(all_ready[name], lease)
                    began = start_between(before, boot_nanoseconds()) or read_start(pid)
                    runs[name] = Run(unit, task, pid, began, True, self._boot, peak)
                elif name not in known:
                    runs[name] = self._adopt(unit, task, 0, 0)
        except CannotStartError as error:
            self._undo([*runs.values()])
            return Rejected(str(error), name)
        finally:
            if lease >= 0:
                os.close(lease)
        return Submitted(self._remember([runs[task.name] for task in unit.tasks]))

    def _remember(self, runs: Sequence[Run]) -> str:
        processes = [(run.pid, run.start) for run in runs]
        ref = format_reference([run.task for run in runs], processes, self._boot)
        self._live[ref] = self._units.setdefault(ref, UnitRun(tuple(runs)))
        return ref

    def _undo(self, runs: Sequence[Run]) -> None:
        """Kills what was started of a unit that can't be started whole; `observe` sees to the rest."""
        for run in runs:
            if (
                run.end is None and not run.task.image
            ):  # A keeper must live to see its container killed.
                send_group(run.pid, signal.SIGKILL)
        if runs:
            self._remember(runs)
            self._endings.begin(runs, 0.0)

    def _recall(self, ref: str, unit: Unit) -> UnitRun:
        """What is known of a unit, which is taken over if it was not submitted here."""
        known = self._units.get(ref)
        if known is None:
            runners = zip(unit.tasks, read_reference(ref, unit, self._boot), strict=True)
            known = self._units[ref] = self._live[ref] = UnitRun(
                tuple(self._adopt(unit, task, *runner) for task, runner in runners)
            )
        return known

    def _adopt(self, unit: Unit, task: Task, pid: int, began: int) -> Run:
        """A task that was not started by this object, or never (number 0)."""
        pid, began = self._keepers.current(unit, task, pid, began)
        run = Run(unit, task, pid, began, False, self._boot)
        if task.image and pid:
            run.began = keeping.began_at(unit, task)
        take_over(run, self._watch)
        if run.end is not None:
            self._note_end(run)
        return run

    def _note_end(self, run: Run) -> None:
        """Sees to what a task that has ended left behind; a container that has only lost its keeper goes on."""
        if run.task.image and not self._keepers.settle(run):
            return
        explain_end(run)
        self._endings.sweep(run, is_leased=self._leases.is_held(run.unit.key))

    def _strays(self, run: Run) -> Sequence[Process]:
        """Who still holds the lease of a unit all of whose tasks have ended."""
        if not self._leases.is_held(run.unit.key):
            return ()
        mine = [u for u in self._units.values() if u.runs[0].unit.key == run.unit.key]
        if any(other.end is None for unit in mine for other in unit.runs):
            return ()
        return processes_with_lock(locks.byte_of(run.unit.key), LEASE)

    def _poll(self) -> None:
        now = self._clock()
        gone = self._watch.ended()
        late = []
        for ref, unit in list(self._live.items()):
            if all(run.end is not None for run in unit.runs):
                del self._live[ref]
            for run in unit.runs:
                if run.end is not None:
                    continue
                if run.takeover_at is not None:
                    if now >= run.takeover_at:
                        self._note_end(run)
                elif poll_child(run) if run.is_child else run.pid in gone:
                    if run.end is None:
                        conclude(run)
                    self._note_end(run)
                elif run.is_late(now):
                    time_out(run)
                    late.append(run)
                elif is_due_for_warning(run, now):
                    warn(run)
        if late:
            self._endings.begin(late, None)
