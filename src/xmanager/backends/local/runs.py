"""What this process knows of the tasks it started or took over: how each fares and how it ended."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from collections.abc import Sequence

import attrs

from xmanager.backend import DEFAULT_GRACE, Observation, Task, TaskObservation, Unit
from xmanager.backends.local.processes import (
    Owner,
    Process,
    Session,
    boot_seconds,
    child_start,
    read_mark,
    read_process,
    seconds,
    ticks,
)
from xmanager.backends.local.signals import Watch
from xmanager.runner.record import Ending, Record, read_record

_RUNNING = TaskObservation('running')


@attrs.define(eq=False)
class Run:
    """One task and its runner. Process 0 stands for a task that was never started.

    `boot` names the boot of the machine that we are in, `start` is 0 for a process that is known to be of another.
    `end` is how it ended; while it is `held` that is not told before it is `clean`: no process of it is left. What
    was `told` once stays so.
    `kill_at` (seconds since boot) is set while it is being ended. `began` (seconds since boot) is set if it began
    before its runner did: a container goes on under a new one. There were `takeovers` by new ones in this process;
    the next is due at `takeover_at` (seconds since boot) if it has none now. One was `tidied` up after once.
    """

    unit: Unit
    task: Task
    pid: int
    start: int
    is_child: bool
    boot: str = ''
    spawner_peak: int = 0
    end: TaskObservation | None = None
    ended_ticks: float = float('inf')
    reason: str = ''
    cause: str = ''
    warned: bool = False
    held: bool = False
    clean: bool = False
    kill_at: float | None = None
    killed: bool = False
    told: bool = False
    began: float | None = None
    takeovers: int = 0
    takeover_at: float | None = None
    tidied: bool = False

    def __attrs_post_init__(self) -> None:
        # Its devices are given to the next task as soon as its end is told: nothing of it may still use them.
        self.held = self.task.requirements.get('local_gpu', 0) > 0

    @property
    def has_gone_wrong(self) -> bool:
        if self.end is None:
            return False
        return self.end.state == 'vanished' or self.end.exit_code != 0 or bool(self.reason)

    @property
    def owner(self) -> Owner:
        return Owner(self.unit.key, self.task.name)

    @property
    def session(self) -> Session:
        return Session(self.owner, self.start, self.ended_ticks)

    @property
    def grace(self) -> float:
        value = self.task.options.get('grace')
        return DEFAULT_GRACE if value is None else float(value)

    @property
    def timeout(self) -> float | None:
        value = self.task.options.get('timeout')
        return None if value is None else float(value)

    @property
    def warn_before(self) -> float | None:
        value = self.task.options.get('warn_before')
        return None if value is None else float(value)

    @property
    def began_at(self) -> float:
        """When its time began to run, in seconds since boot."""
        return seconds(self.start) if self.began is None else self.began

    def is_late(self, now: float) -> bool:
        """It has run for longer than it may, and is not being ended yet. `now` is in seconds since boot."""
        return (
            self.timeout is not None and self.kill_at is None and now > self.began_at + self.timeout
        )

    def record(self) -> Record | None:
        """What the runner recorded of this attempt."""
        record = read_record(f'{self.unit.folder}/{self.task.name}/status')
        return record if record is not None and record.attempt == self.unit.attempt else None


@attrs.define(eq=False)
class UnitRun:
    """The tasks of one submitted unit."""

    runs: tuple[Run, ...]
    stopping: bool = False

    @property
    def is_over(self) -> bool:
        """All tasks have ended and nothing of them is left."""
        return all(run.end is not None and run.clean for run in self.runs)

    def observation(self) -> Observation:
        """What may be told of each task; a stopped unit has ended only when nothing of any task is left.

        What went wrong first is told first: the others are stopped for it, and the unit is judged by it.
        """
        held = self.stopping and not self.is_over
        wrong = [run for run in self.runs if run.has_gone_wrong]
        waits = bool(wrong) and not _may_be_told(min(wrong, key=_ended_at), held)
        return {run.task.name: _tell(run, held or (waits and run in wrong)) for run in self.runs}


def _ended_at(run: Run) -> float:
    return (run.end and run.end.ended_at) or 0.0


def _may_be_told(run: Run, held: bool) -> bool:
    return run.told or (run.end is not None and not held and (run.clean or not run.held))


def _tell(run: Run, held: bool) -> TaskObservation:
    if not _may_be_told(run, held):
        return _RUNNING
    assert run.end is not None
    run.told = True
    return attrs.evolve(run.end, reason=run.reason, cause=run.cause) if run.reason else run.end


def format_reference(tasks: Sequence[Task], processes: Sequence[tuple[int, int]], boot: str) -> str:
    """Each task's runner, by number and start in ticks after boot: `'train=123/45678,actor=124/45679@1a2b3c4d'`."""
    runners = ','.join(
        f'{task.name}={pid}/{start}' for task, (pid, start) in zip(tasks, processes, strict=True)
    )
    return f'{runners}@{boot}'


def read_reference(ref: str, unit: Unit, boot: str) -> list[tuple[int, int]]:
    """Each task's runner. Those of another boot start at 0: whoever has these numbers now is a stranger."""
    pattern = ','.join(rf'{re.escape(task.name)}=(\d+)/(\d+)' for task in unit.tasks)
    match = re.fullmatch(rf'{pattern}(?:@([0-9a-f]*))?', ref)
    if match is None:
        raise ValueError(
            f'{ref!r} is no reference of a local unit with tasks {[t.name for t in unit.tasks]}.'
        )
    *found, its_boot = match.groups()
    numbers = [int(number) for number in found]
    # One that was written before references told the boot may be of this one.
    is_here = its_boot is None or its_boot == boot
    return [
        (pid, start if is_here else 0)
        for pid, start in zip(numbers[::2], numbers[1::2], strict=True)
    ]


def find_runner(unit: Unit, task: Task, marked: Sequence[Process], boot: str) -> tuple[int, int]:
    """A task's runner by number and start: start 0 if it is gone, number 0 if it never was."""
    record = read_record(unit.task_folder(task) / 'status')
    if record is not None and record.attempt == unit.attempt:
        if record.boot and record.boot != boot:
            return record.pid, 0
        starts = [process.start for process in marked if process.pid == record.pid]
        return record.pid, starts[0] if starts else child_start(record.pid)
    # A runner that has recorded nothing yet has no children either: it is the only one to lead a session.
    owner = Owner(unit.key, task.name)
    leaders = [p for p in marked if p.mark == owner and p.pid == p.session]
    return (leaders[0].pid, leaders[0].start) if leaders else (0, 0)


def take_over(run: Run, watch: Watch) -> Run:
    """Finds out whether a task still runs that another process started, or this one before it forgot."""
    if run.start and child_start(run.pid) == run.start and _may_be_marked(run):
        # An earlier back end of this process started it: nobody else can wait for it, so that it leaves no zombie.
        run.is_child, run.spawner_peak = True, own_peak()
    elif _is_alive(run):
        watch.add(run.pid, run.start)
    else:
        run.ended_ticks = -1.0  # nobody knows when: its session may be a stranger's by now
        conclude(run)
    return run


def _is_alive(run: Run) -> bool:
    """The runner still runs. The mark is asked for too: a container that was begun anew may use the numbers again."""
    process = read_process(run.pid) if run.pid else None
    return process is not None and process.start == run.start and _may_be_marked(run)


def _may_be_marked(run: Run) -> bool:
    """The process of that number bears the unit's mark, or none that can be read: it has ended, or just begins."""
    mark = read_mark(run.pid)
    return mark is None or mark.key == run.unit.key


def poll_child(run: Run) -> bool:
    """Looks whether a child of this process has ended, and notes how. True if it just has."""
    try:
        pid, status, usage = os.wait4(run.pid, os.WNOHANG)
    except ChildProcessError:  # somebody else in this process has waited for it
        run.is_child = False
        if _is_alive(run):
            return False
        conclude(run)
        return True
    if pid == 0:
        return False
    code = os.waitstatus_to_exitcode(status)
    record = run.record()
    ending = record.ending if record is not None else None
    # A killed runner says nothing of its program, which may still run.
    run.held = run.held or (ending is None and code < 0)
    run.end = _exited(
        ending or (Ending.from_shell(code) if code >= 0 else Ending(signal=-code)),
        record,
        usage,
        run.spawner_peak,
    )
    run.ended_ticks = ticks(boot_seconds())
    return True


def conclude(run: Run) -> None:
    """Notes how a task ended whose runner is gone, from what the runner recorded."""
    record = run.record()
    run.ended_ticks = ticks(boot_seconds()) if run.ended_ticks == float('inf') else run.ended_ticks
    if record is not None and record.ending is not None:
        run.end = _exited(record.ending, record)
    elif run.killed:
        run.end = _exited(Ending(signal=int(signal.SIGKILL)), None)
    else:
        run.held = True
        # What was never started goes wrong now, later than whatever kept it from being started.
        ended_at = None if run.pid else time.time()
        run.end = TaskObservation('vanished', ended_at=ended_at, reason=_why_unknown(run, record))


def _why_unknown(run: Run, record: Record | None) -> str:
    if not run.pid:
        return 'it was never started'
    if record is None or not record.boot:
        return 'its runner was killed or the machine went down'
    return 'its runner was killed' if record.boot == run.boot else 'the machine went down'


def _exited(
    ending: Ending,
    record: Record | None,
    usage: resource.struct_rusage | None = None,
    spawner_peak: int = 0,
) -> TaskObservation:
    observation = TaskObservation(
        'exited',
        exit_code=ending.exit_code,
        signal=ending.signal,
        ended_at=None if record is None else record.written_at,
    )
    if usage is None:
        return observation
    # Linux counts the spawning process's own peak as the child's before it becomes another program (ru_maxrss
    # survives exec), so that only a higher peak is the job's for certain.
    peak = usage.ru_maxrss * 1024
    return attrs.evolve(
        observation,
        max_rss=peak if peak > spawner_peak else None,
        user_seconds=usage.ru_utime,
        system_seconds=usage.ru_stime,
    )


def own_peak() -> int:
    """The highest memory use of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
