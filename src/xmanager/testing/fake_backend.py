"""A back end in memory: units run by a clock that is passed in, and end as their command says."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from xmanager.backend import (
    DEFAULT_GRACE,
    Capacity,
    Deferred,
    Grant,
    Observation,
    Rejected,
    Submitted,
    Task,
    TaskObservation,
    Unit,
)
from xmanager.errors import ExecutorError

_TERM, _KILL = 15, 9


@attrs.frozen
class Outcome:
    """What becomes of a task: it runs for `seconds`, then exits with `exit_code`, or dies by `signal`, or vanishes.

    Before that it `waits` for some seconds in the engine's queue, if the engine has one. `output` is in its log from
    the start. `rejected`, if not empty, is why the engine refuses it.
    """

    seconds: float = 0.0
    waits: float = 0.0
    exit_code: int = 0
    signal: int | None = None
    vanishes: bool = False
    ignores_term: bool = False
    output: bytes = b''
    rejected: str = ''


def interpret(unit: Unit, task: Task) -> Outcome:
    """The outcome that a fake command names.

    `exit CODE`, `kill SIGNAL`, `run [SECONDS]` (for ever), `ignore-term`, `vanish`, `echo WORD…` (each followed by
    a NUL), each perhaps after `wait SECONDS`; anything else does not exist.
    """
    match task.argv:
        case ['wait', length, *rest]:
            after = interpret(unit, attrs.evolve(task, argv=tuple(rest)))
            return attrs.evolve(after, waits=float(length))
        case ['exit', code]:
            return Outcome(exit_code=int(code))
        case ['kill', number]:
            return Outcome(signal=int(number))
        case ['run']:
            return Outcome(seconds=math.inf)
        case ['run', length]:
            return Outcome(seconds=float(length))
        case ['ignore-term']:
            return Outcome(seconds=math.inf, ignores_term=True)
        case ['vanish']:
            return Outcome(vanishes=True)
        case ['echo', *words]:
            return Outcome(output=b''.join(word.encode() + b'\0' for word in words))
    return Outcome(rejected=f'program {task.argv[0] if task.argv else ""!r} does not exist.')


@attrs.frozen
class FakeRequest:
    """What `FakeBackend.submit` sends: the unit and the devices of its tasks."""

    unit: Unit
    grant: Grant


@attrs.define
class FakeTask:
    """A task in the engine. It starts at `started_at`, be it later, and ends at `ends_at` as `end` says.

    A stop moves that forward. The engine has begun it anew so many times: `restarts`.
    """

    task: Task
    outcome: Outcome
    started_at: float
    ends_at: float
    end: TaskObservation
    restarts: int = 0

    def terminate(self, now: float, kill_at: float, reason: str = '') -> None:
        """TERM now, and KILL at a later time for what ignores it; what has ended stays as it is.

        `reason` is given for a timeout only.
        """
        at, number = (kill_at, _KILL) if self.outcome.ignores_term else (now, _TERM)
        if at < self.ends_at:
            self.ends_at = at
            cause = 'timeout' if reason else ''
            self.end = TaskObservation(
                'exited', signal=number, ended_at=at, reason=reason, cause=cause
            )

    def observe(self, now: float) -> TaskObservation:
        if now >= self.ends_at:
            return attrs.evolve(self.end, restarts=self.restarts)
        if now < self.started_at:
            return TaskObservation('waiting', reason='Priority', restarts=self.restarts)
        where = 'machine' if self.outcome.waits else ''
        started_at = self.started_at if self.outcome.waits else None
        return TaskObservation(
            'running', where=where, started_at=started_at, restarts=self.restarts
        )


@attrs.define
class FakeEngine:
    """What outlives a supervisor: the units, by reference. Give it to a second FakeBackend to play a restart."""

    units: dict[str, Unit] = attrs.field(factory=dict)
    tasks: dict[str, dict[str, FakeTask]] = attrs.field(factory=dict)
    requests: list[FakeRequest] = attrs.field(factory=list)
    stops: list[tuple[str, float | None]] = attrs.field(factory=list)
    submissions: list[int] = attrs.field(factory=list)  # How many units each call brought.
    numbers: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1))

    def requeue(self, ref: str, now: float) -> None:
        """Begins a unit anew by itself, after it has waited as long as at first."""
        for task in self.tasks[ref].values():
            task.started_at = now + task.outcome.waits
            task.ends_at = task.started_at + task.outcome.seconds
            task.restarts += 1

    def running(self, now: float) -> set[str]:
        """Labels of the units that have a task running."""
        return {
            self.units[ref].label
            for ref, tasks in self.tasks.items()
            if any(task.observe(now).state == 'running' for task in tasks.values())
        }


class FakeBackend:
    """Passes `BackendContract` without starting a process.

    `outcome` decides what becomes of each task (by default `interpret` reads it from its command). `faults` maps a
    verb to errors that its next calls raise, one each. `engine` holds all that was submitted, and what was asked.
    `strangers` are devices by resource, e.g. `{'local_gpu': {'1'}}`; assign to `others` to change them. Assign to
    `room` how many units more it takes; the rest is deferred.
    """

    def __init__(
        self,
        *,
        engine: FakeEngine | None = None,
        outcome: Callable[[Unit, Task], Outcome] = interpret,
        clock: Callable[[], float] = time.time,
        amounts: Mapping[str, float] | None = None,
        devices: Mapping[str, tuple[str, ...]] | None = None,
        strangers: Mapping[str, Collection[str]] | None = None,
        period: float = 0.01,
    ) -> None:
        self.engine = engine if engine is not None else FakeEngine()
        self.faults: dict[str, list[Exception]] = {}
        self.others: Mapping[str, Collection[str]] = strangers or {}
        self.period = period
        self.busy = False
        self.closed = False
        self.room = math.inf
        self._outcome = outcome
        self._clock = clock
        self._capacity = None if amounts is None else Capacity(dict(amounts), dict(devices or {}))

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises ExecutorError if these tasks together ask for more than there is."""
        if self._capacity is None:
            return
        for name, available in self._capacity.amounts.items():
            asked = sum(task.requirements.get(name, 0) for task in tasks)
            if asked > available:
                raise ExecutorError(
                    f'FakeBackend has {available:g} {name}, and {asked:g} is asked for. Ask for at most {available:g}.'
                )

    def capacity(self) -> Capacity | None:
        """As given; None (the engine queues by itself) if no amounts were."""
        return self._capacity

    def strangers(self) -> Mapping[str, frozenset[str]]:
        """As given, or as `others` says by now."""
        self._fail('strangers')
        return {name: frozenset(devices) for name, devices in self.others.items() if devices}

    def demand(self, tasks: Sequence[Task]) -> Mapping[str, Mapping[str, float]]:
        """What each task states, no more."""
        return {task.name: dict(task.requirements) for task in tasks}

    def render(self, unit: Unit, grant: Grant) -> FakeRequest:
        """The unit and its devices, as they are."""
        return FakeRequest(unit, grant)

    def submit(self, requests: Sequence[FakeRequest]) -> Sequence[Submitted | Deferred | Rejected]:
        """Starts the units; of one whose key is known already, only what was never submitted."""
        self._fail('submit')
        self.engine.submissions.append(len(requests))
        return [self._submit(request) for request in requests]

    def find(self, units: Sequence[Unit]) -> Mapping[str, str]:
        """References of those units whose keys were submitted."""
        self._fail('find')
        return self._found(units)

    def observe(self, refs: Mapping[str, Unit]) -> Mapping[str, Observation]:
        """How the tasks fare by the clock."""
        self._fail('observe')
        now = self._clock()
        for ref in refs:
            for task in self.engine.tasks[ref].values():
                timeout = task.task.options.get('timeout')
                if timeout is not None and now > task.started_at + timeout:
                    due = task.started_at + timeout
                    task.terminate(due, due + _grace(task.task), f'timed out after {timeout} s')
        return {
            ref: {name: task.observe(now) for name, task in self.engine.tasks[ref].items()}
            for ref in refs
        }

    def stop(self, refs: Mapping[str, Unit], grace: float | None) -> None:
        """Ends the tasks at once, and those that ignore TERM after the grace time."""
        self._fail('stop')
        now = self._clock()
        for ref in refs:
            self.engine.stops.append((ref, grace))
            for task in self.engine.tasks[ref].values():
                task.terminate(now, now + (_grace(task.task) if grace is None else grace))

    def close(self) -> None:
        """Nothing is held; `closed` tells that it was called."""
        self.closed = True

    def _found(self, units: Sequence[Unit]) -> Mapping[str, str]:
        refs = {unit.key: ref for ref, unit in self.engine.units.items()}
        return {unit.key: refs[unit.key] for unit in units if unit.key in refs}

    def _submit(self, request: FakeRequest) -> Submitted | Deferred | Rejected:
        if self.room < 1:
            return Deferred('QOSMaxSubmitJobPerUserLimit')
        self.room -= 1
        unit, now = request.unit, self._clock()
        ref = self._found([unit]).get(unit.key) or f'fake-{next(self.engine.numbers)}'
        known = self.engine.tasks.get(ref, {})
        fresh = [task for task in unit.tasks if task.name not in known]
        outcomes = {task.name: self._outcome(unit, task) for task in fresh}
        for name, outcome in outcomes.items():
            if outcome.rejected:
                return Rejected(outcome.rejected, name)
        if fresh:
            self.engine.requests.append(request)
        begin = (
            _omit if any(_has_gone_wrong(task.observe(now)) for task in known.values()) else _begin
        )
        begun = {task.name: begin(unit, task, outcomes[task.name], now) for task in fresh}
        self.engine.units[ref] = unit
        self.engine.tasks[ref] = {**known, **begun}
        return Submitted(ref)

    def _fail(self, verb: str) -> None:
        if self.faults.get(verb):
            raise self.faults[verb].pop(0)


def _begin(unit: Unit, task: Task, outcome: Outcome, now: float) -> FakeTask:
    folder = unit.task_folder(task)
    (folder / 'out').mkdir(parents=True, exist_ok=True)
    (folder / 'output.log').write_bytes(outcome.output)
    starts_at = now + outcome.waits
    ends_at = starts_at + outcome.seconds
    if outcome.vanishes:
        end = TaskObservation('vanished')
    elif outcome.signal is not None:
        end = TaskObservation('exited', signal=outcome.signal, ended_at=ends_at)
    else:
        end = TaskObservation('exited', exit_code=outcome.exit_code, ended_at=ends_at)
    return FakeTask(task, outcome, starts_at, ends_at, end)


def _omit(unit: Unit, task: Task, outcome: Outcome, now: float) -> FakeTask:
    """A task that is not started, since another one of its unit has gone wrong."""
    end = TaskObservation('vanished', ended_at=now, reason='it was never started')
    return FakeTask(task, outcome, now, now, end)


def _has_gone_wrong(task: TaskObservation) -> bool:
    return task.state == 'vanished' or (task.state == 'exited' and task.exit_code != 0)


def _grace(task: Task) -> float:
    value = task.options.get('grace')
    return DEFAULT_GRACE if value is None else float(value)
