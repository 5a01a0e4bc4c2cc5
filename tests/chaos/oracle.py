"""What the jobs themselves say of what they did, and whether the store tells the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import attrs
from tests.chaos.model import Plan, PlannedUnit

from xmanager.store import COMPLETED, FAILED, FINAL_STATES, LOST, STOPPED, Event, Store, UnitRecord

Where = tuple[int, str]
"""A unit: its experiment and its label."""


@attrs.define
class Deeds:
    """What was done to the units from outside. A label of '' stands for all units of the experiment."""

    stops: Counter[Where] = attrs.field(factory=Counter)
    restarts: Counter[Where] = attrs.field(factory=Counter)
    runners_killed: set[Where] = attrs.field(factory=set)
    reboots: int = 0

    def stops_of(self, where: Where) -> int:
        return self.stops[where] + self.stops[where[0], '']

    def restarts_of(self, where: Where) -> int:
        return self.restarts[where] + self.restarts[where[0], '']

    def may_be_lost(self, where: Where) -> bool:
        """Nobody could know how a task ended: the runner beside it was killed."""
        return where in self.runners_killed


@attrs.frozen
class Lines:
    """What one job has told: how often each attempt started, and the code with which it was about to end."""

    starts: Counter[int]
    ends: dict[int, int]
    clashes: list[str]


class Oracle:
    """The folder to which jobs append."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def count(self) -> int:
        """How many lines there are."""
        return sum(path.read_bytes().count(b'\n') for path in self.folder.iterdir())

    def of(self, where: Where, job: str) -> Lines:
        lines = Lines(Counter(), {}, [])
        path = self.folder / f'{where[0]}.{where[1]}.{job}'
        for line in path.read_text().splitlines() if path.exists() else ():
            match line.split():
                case ['start', attempt, _]:
                    lines.starts[int(attempt)] += 1
                case ['end', attempt, code]:
                    lines.ends[int(attempt)] = int(code)
                case _:
                    lines.clashes.append(line)
        return lines


def complaints(plan: Plan, deeds: Deeds, oracle: Oracle, store: Store) -> Iterator[str]:
    """What is not as it should be, once everything has come to rest."""
    by_title = {launch.title: launch for launch in plan.launches}
    for experiment in store.experiments():
        if requests := store.requests(experiment.id):
            yield f'experiment {experiment.id}: {len(requests)} requests are not finished'
        events = store.events(experiment.id)
        for unit in store.units(experiment.id):
            name = f'{experiment.id}.{unit.label}'
            mine = [event for event in events if event.unit_id == unit.id]
            planned = by_title[experiment.title].units[unit.number - 1]
            told = {
                job.name: oracle.of((experiment.id, unit.label), job.name) for job in planned.jobs
            }
            for wrong in _complaints_of_unit(unit, planned, told, mine, deeds):
                history = ', '.join(f'{event.to_state} ({event.why})' for event in mine)
                yield f'unit {name} ({unit.state} at attempt {unit.attempt}): {wrong}. History: {history}'


def _complaints_of_unit(
    unit: UnitRecord,
    planned: PlannedUnit,
    told: dict[str, Lines],
    events: Sequence[Event],
    deeds: Deeds,
) -> Iterator[str]:
    if unit.state not in FINAL_STATES:
        yield 'it has not ended'
    for job, lines in told.items():
        yield from (
            f'{job} started {n} times in attempt {a}' for a, n in lines.starts.items() if n > 1
        )
        yield from (f'{job}: {clash}' for clash in lines.clashes)
        yield from (f'{job} ran in attempt {a}' for a in lines.starts if a > unit.attempt)
    most = (1 + planned.max_restarts) * (1 + deeds.restarts_of((unit.experiment_id, unit.label)))
    if unit.attempt > most:
        yield f'it has {unit.attempt} attempts, and {most} are the most there could be'
    states = [event.to_state for event in events]
    if any(event.from_state != before.to_state for before, event in pairwise(events)):
        yield 'an event does not begin where the one before it ended'
    if not states or states[-1] != unit.state:
        yield 'its last event tells of another state'
    yield from _complaints_of_end(unit, planned, told, deeds)


def _complaints_of_end(
    unit: UnitRecord, planned: PlannedUnit, told: dict[str, Lines], deeds: Deeds
) -> Iterator[str]:
    where = (unit.experiment_id, unit.label)
    ends = {job: lines.ends.get(unit.attempt) for job, lines in told.items()}
    ended_well = all(code == 0 for code in ends.values())
    if unit.state == COMPLETED and not ended_well:
        yield f'the jobs tell of these ends: {ends}'
    if ended_well and unit.state != COMPLETED:
        excused = deeds.stops_of(where) or deeds.may_be_lost(where) or _may_be_late(planned)
        if not excused:
            yield 'all its jobs have ended well'
    if unit.state == STOPPED and not deeds.stops_of(where):
        yield 'nobody asked it to stop'
    if unit.state == LOST and not deeds.may_be_lost(where):
        yield f'somebody could know how it ended: {unit.message}'
    if unit.state == FAILED and not _may_have_failed(unit, planned, told, deeds):
        yield f'none of its jobs has failed: {unit.message}'
    missed = planned.retries_any_failure and unit.restarts < planned.max_restarts
    if unit.state == FAILED and missed and not deeds.stops_of(where):
        yield f'it was tried again {unit.restarts} times only'
    if unit.state in (COMPLETED, FAILED):
        yield from _complaints_of_codes(unit, ends)


def _may_be_late(planned: PlannedUnit) -> bool:
    return any(job.options.get('timeout') for job in planned.jobs)


def _may_have_failed(
    unit: UnitRecord, planned: PlannedUnit, told: dict[str, Lines], deeds: Deeds
) -> bool:
    if (unit.experiment_id, unit.label) in deeds.runners_killed or _may_be_late(planned):
        return True
    codes = [lines.ends.get(unit.attempt) for lines in told.values()]
    return any(codes)


def _complaints_of_codes(unit: UnitRecord, ends: dict[str, int | None]) -> Iterator[str]:
    """The exit code or signal that was recorded is that of the job, unless it was killed when it was about to end."""
    for task in unit.tasks:
        code = ends[task.task.name]
        if code is None or task.state != 'exited' or task.signal in (9, 15):
            continue
        seen = -task.signal if task.signal else task.exit_code
        if seen != code:
            yield f'{task.task.name} ended with {code}, and {seen} was recorded'
