"""Which of the waiting units may start now: what they ask for, put before the account of their back end."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence

import attrs

from xmanager.backend import DEFAULT_GRACE, Grant, Task
from xmanager.errors import ExecutorError, LedgerError
from xmanager.ledger import Demand, Want
from xmanager.store import UnitRecord
from xmanager.supervise.engines import Engine, Engines
from xmanager.supervise.waiting_line import WaitingLine


@attrs.frozen
class Admitted:
    """A unit that holds what it asked for, and may start."""

    record: UnitRecord
    engine: Engine
    grant: Grant


@attrs.frozen
class Refused:
    """A unit that can never start; `why` is a sentence."""

    record: UnitRecord
    why: str


@attrs.define(eq=False)
class _Group:
    """Waiting units, one after the other in the line, that ask for the same: as most units of a sweep do."""

    engine: Engine
    demand: Demand
    limit: float | None
    units: deque[UnitRecord]
    is_checked: bool = False

    def want(self, owner: str) -> Want:
        first = self.units[0]
        return Want(
            owner=owner,
            id=first.id,
            unit=first.label,
            importance=first.importance,
            since=first.created_at,
            demand=self.demand,
            limit=self.limit,
            count=len(self.units),
        )


class _Queue:
    """The groups of one back end, as its account sees them."""

    def __init__(self, groups: Sequence[_Group], owner: str) -> None:
        self._groups = groups
        self._owner = owner
        self._by_want: dict[int, _Group] = {}
        self.taken: list[UnitRecord] = []

    def wants(self) -> list[Want]:
        self._by_want = {group.units[0].id: group for group in self._groups if group.units}
        return [group.want(self._owner) for group in self._by_want.values()]

    def take(self, want: Want) -> tuple[int, str, str]:
        record = self._by_want[want.id].units.popleft()
        self.taken.append(record)
        return record.id, record.label, record.key


class Admission:
    """Goes through the waiting line. What is admitted or refused has left it."""

    def __init__(self, line: WaitingLine, engines: Engines) -> None:
        self._line = line
        self._engines = engines
        self._groups: list[_Group] = []
        self._version = -1
        self._trouble = ''

    def go(self) -> tuple[list[Admitted], list[Refused]]:
        """One turn at every account for which somebody waits, or which has something to tell."""
        refused = self._regroup() if self._line.version != self._version else []
        admitted: list[Admitted] = []
        for engine in self._engines:
            groups = [group for group in self._groups if group.engine is engine]
            if groups or not engine.account.is_settled:
                admitted += self._ask(engine, groups)
        refused += self._check()
        self._groups = [group for group in self._groups if group.units]
        if admitted or refused:
            up_to_date = self._line.version == self._version
            gone = [one.record.id for one in admitted] + [one.record.id for one in refused]
            self._line.remove(gone)
            self._version = self._line.version if up_to_date else -1
        return admitted, refused

    def _regroup(self) -> list[Refused]:
        self._groups, self._version = [], self._line.version
        refused = []
        for record in self._line:
            try:
                self._join(record)
            except ExecutorError as error:
                refused.append(Refused(record, str(error)))
            except LedgerError as error:
                self._tell(error)
                break
        return refused

    def _join(self, record: UnitRecord) -> None:
        """Puts a unit behind the last one, or begins a group."""
        engine = self._engines.get(record.backend)
        tasks = [task.task for task in record.tasks]
        demand, limit = engine.demand(tasks), longest(tasks)
        last = self._groups[-1] if self._groups else None
        if (
            last is not None
            and last.engine is engine
            and (last.demand is demand or last.demand == demand)
            and last.limit == limit
            and last.units[0].importance == record.importance
        ):
            last.units.append(record)
        else:
            self._groups.append(_Group(engine, demand, limit, deque([record])))

    def _ask(self, engine: Engine, groups: Sequence[_Group]) -> list[Admitted]:
        queue = _Queue(groups, self._engines.owner)
        try:
            starts = engine.account.admit(queue)
        except LedgerError as error:
            self._tell(error)
            self._version = -1  # Whoever was taken out of his group has not left the line.
            return []
        self._trouble = ''
        return [
            Admitted(record, engine, start.grant)
            for record, start in zip(queue.taken, starts, strict=True)
        ]

    def _tell(self, error: LedgerError) -> None:
        """Once; the next step tries again."""
        if str(error) != self._trouble:
            print(error, file=sys.stderr, flush=True)
        self._trouble = str(error)

    def _check(self) -> list[Refused]:
        """The machine may be another one than that at which a unit was added: does it still fit there at all?"""
        refused = []
        for group in self._groups:
            if group.is_checked or not group.units:
                continue
            try:
                group.engine.backend.check([task.task for task in group.units[0].tasks])
                group.is_checked = True
            except ExecutorError as error:
                refused.append(Refused(group.units.popleft(), str(error)))
        return refused


def longest(tasks: Sequence[Task]) -> float | None:
    """How long a unit may run, in seconds: till the last task is killed for being late; None if one need not end."""
    limits = []
    for task in tasks:
        timeout = task.options.get('timeout')
        if timeout is None:
            return None
        grace = task.options.get('grace')
        limits.append(float(timeout) + (DEFAULT_GRACE if grace is None else float(grace)))
    return max(limits, default=None)
