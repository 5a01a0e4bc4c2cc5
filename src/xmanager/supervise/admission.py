"""Which of the waiting units may start now: what they ask for, put before the account of their back end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import attrs

from xmanager.backend import Grant, Task
from xmanager.errors import ExecutorError, LedgerError
from xmanager.ledger import Want
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


@attrs.frozen
class _Waiting:
    record: UnitRecord
    engine: Engine
    want: Want


class Admission:
    """Goes through the waiting line. What is admitted or refused has left it."""

    def __init__(self, line: WaitingLine, engines: Engines) -> None:
        self._line = line
        self._engines = engines
        self._known: dict[int, _Waiting] = {}
        self._checked: set[int] = set()
        self._trouble = ''

    def go(self) -> tuple[list[Admitted], list[Refused]]:
        """One turn at every account for which somebody waits, or which has something to tell."""
        waiting, refused = self._look()
        admitted: list[Admitted] = []
        for engine in self._engines:
            mine = [one for one in waiting if one.engine is engine]
            if mine or not engine.account.is_settled:
                admitted += self._ask(engine, mine)
        started = {one.record.id for one in admitted}
        refused += self._check([one for one in waiting if one.record.id not in started])
        self._forget([*started, *(one.record.id for one in refused)])
        return admitted, refused

    def _look(self) -> tuple[list[_Waiting], list[Refused]]:
        waiting, refused = [], []
        for record in self._line:
            known = self._known.get(record.id)
            if known is None or known.record is not record:
                try:
                    known = self._known[record.id] = self._wait(record)
                except ExecutorError as error:
                    refused.append(Refused(record, str(error)))
                    continue
                except LedgerError as error:
                    self._tell(error)
                    break
            waiting.append(known)
        if len(self._known) > 4 * len(waiting):
            self._known = {one.record.id: one for one in waiting}
        return waiting, refused

    def _wait(self, record: UnitRecord) -> _Waiting:
        engine = self._engines.get(record.backend)
        tasks = [task.task for task in record.tasks]
        want = Want(
            owner=self._engines.owner,
            id=record.id,
            unit=record.label,
            importance=record.importance,
            since=record.created_at,
            demand=engine.demand(tasks),
            limit=longest(tasks),
        )
        return _Waiting(record, engine, want)

    def _ask(self, engine: Engine, waiting: Sequence[_Waiting]) -> list[Admitted]:
        by_id = {one.record.id: one.record for one in waiting}
        try:
            starts = engine.account.admit(
                [one.want for one in waiting], lambda unit_id: by_id[unit_id].key
            )
        except LedgerError as error:
            self._tell(error)
            return []
        self._trouble = ''
        return [Admitted(by_id[start.want.id], engine, start.grant) for start in starts]

    def _tell(self, error: LedgerError) -> None:
        """Once; the next step tries again."""
        if str(error) != self._trouble:
            print(error, file=sys.stderr, flush=True)
        self._trouble = str(error)

    def _check(self, waiting: Sequence[_Waiting]) -> list[Refused]:
        """The machine may be another one than that at which a unit was added: does it still fit there at all?"""
        refused = []
        for one in waiting:
            if one.record.id in self._checked:
                continue
            try:
                one.engine.backend.check([task.task for task in one.record.tasks])
                self._checked.add(one.record.id)
            except ExecutorError as error:
                refused.append(Refused(one.record, str(error)))
        return refused

    def _forget(self, unit_ids: Sequence[int]) -> None:
        self._line.remove(unit_ids)
        for unit_id in unit_ids:
            self._known.pop(unit_id, None)
            self._checked.discard(unit_id)


def longest(tasks: Sequence[Task]) -> float | None:
    """How long a unit may run, in seconds: till the last task is killed for being late; None if one need not end."""
    limits = []
    for task in tasks:
        timeout = task.options.get('timeout')
        if timeout is None:
            return None
        limits.append(float(timeout) + float(task.options.get('grace') or 0.0))
    return max(limits, default=None)
