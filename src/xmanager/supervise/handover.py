"""Hands units to the engines that queue by themselves: many at a time, once no more of them are being added."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import attrs

from xmanager.backend import Deferred, Rejected, Submitted
from xmanager.errors import ExecutorError, LedgerError
from xmanager.store import QUEUED, STARTING, Change, Store, UnitRecord
from xmanager.supervise.adoption import Adoption
from xmanager.supervise.engines import Engine, Engines
from xmanager.supervise.outbox import Outbox
from xmanager.supervise.running import Fleet
from xmanager.supervise.trouble import PASSING
from xmanager.supervise.waiting_line import WaitingLine

_MOST = 1000  # Units in one call; more would be several arrays on most sites anyway (Slurm's MaxArraySize: 1001).
_SILENCE = 0.1  # Seconds in which no unit was added: what was added together is then all there.
_LONGEST_GATHERING = 1.0
_LONGEST_DELAY = 300.0
_AGAIN = 10.0  # Seconds until an engine that gave no answer is called again.


@attrs.define(eq=False)
class _Counter:
    """What waits to be handed to one engine.

    `grew_at` is when it was last seen to grow, `since` when it was last empty. While the engine takes no more, nothing
    is tried before `not_before`, and then with `most` units only: each try of each unit is an event in its history.
    """

    engine: Engine
    line: WaitingLine
    size: int = 0
    since: float = 0.0
    grew_at: float = 0.0
    most: int = _MOST
    delay: float = 0.0
    not_before: float = 0.0


class Handover:
    """The waiting lines of all engines of an experiment that queue by themselves; `names` are these engines'."""

    def __init__(
        self,
        store: Store,
        experiment_id: int,
        engines: Engines,
        outbox: Outbox,
        fleet: Fleet,
        adoption: Adoption,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._engines = engines
        self._outbox = outbox
        self._fleet = fleet
        self._adoption = adoption
        self._clock = clock
        self._counters: dict[str, _Counter] = {}
        self._seen_up_to = 0
        self.names: set[str] = set()

    def __bool__(self) -> bool:
        """Whether a unit waits to be handed over."""
        return any(counter.line for counter in self._counters.values())

    def look(self) -> None:
        """The store has changed: there may be units of engines that none was added for before, or more of others."""
        names, self._seen_up_to = self._store.backends(self._experiment_id, self._seen_up_to)
        for name in sorted(names - self.names):
            self._take_on(name)
        self.stale()

    def stale(self) -> None:
        """What waits may have changed: each line is read anew before it is used."""
        for counter in self._counters.values():
            counter.line.is_stale = True

    def remove(self, unit_ids: Collection[int]) -> None:
        """These wait no more."""
        for counter in self._counters.values():
            counter.line.remove(unit_ids)

    def patience(self) -> float | None:
        """Seconds until something is due here by itself; None if nothing is."""
        now = self._clock()
        due = [self._due(counter) for counter in self._counters.values() if counter.line]
        return max(0.0, min(due) - now) if due else None

    def go(self, *, is_launching: bool) -> bool:
        """Hands over what is ready; returns whether more is ready at once."""
        again = False
        for counter in self._counters.values():
            if counter.line.needs_reading():
                self._outbox.flush()
                counter.line.read()
                self._measure(counter)
            if counter.line and self._is_ready(counter, is_launching):
                self._hand_over(counter)
                again = again or bool(counter.line) or counter.line.needs_reading()
        return again

    def _take_on(self, name: str) -> None:
        # What can't be used is told by the admission, which sees the units of all other engines.
        with contextlib.suppress(ExecutorError, LedgerError):
            engine = self._engines.get(name)
            if engine.queues_itself:
                line = WaitingLine(self._store, self._experiment_id, window=_MOST, low=1, only=name)
                self._counters[name] = _Counter(engine, line)
                self.names.add(name)

    def _measure(self, counter: _Counter) -> None:
        size, now = len(counter.line), self._clock()
        if size > counter.size:
            counter.grew_at = now
            if not counter.size:
                counter.since = now
        counter.size = size

    def _due(self, counter: _Counter) -> float:
        gathered = min(counter.grew_at + _SILENCE, counter.since + _LONGEST_GATHERING)
        return max(gathered, self._barred_until(counter))

    def _barred_until(self, counter: _Counter) -> float:
        return max(counter.not_before, self._adoption.asks_again_at(counter.engine.name))

    def _is_ready(self, counter: _Counter, is_launching: bool) -> bool:
        now = self._clock()
        if now < self._barred_until(counter):
            return False
        return counter.line.is_full or not is_launching or now >= self._due(counter)

    def _hand_over(self, counter: _Counter) -> None:
        records = list(counter.line)[: counter.most]
        for record in records:
            self._outbox.add(Change(record.id, STARTING, expect=(QUEUED,)))
        moved = {unit.id for unit in self._outbox.flush() if unit.state == STARTING}
        # The others were stopped by somebody between our reading and our writing.
        deferred = self._submit(counter, [record for record in records if record.id in moved])
        self._outbox.flush()  # Launchers wait for it, to leave.
        counter.line.remove([record.id for record in records])
        if deferred:
            counter.line.is_stale = True
        counter.size = len(counter.line)

    def _submit(self, counter: _Counter, records: list[UnitRecord]) -> bool:
        """Returns whether the engine takes no more for now."""
        delay = self._call(counter.engine, records) if records else 0.0
        if not delay:
            counter.most, counter.delay, counter.not_before = min(_MOST, 8 * counter.most), 0.0, 0.0
            return False
        counter.most = 1
        counter.delay = min(_LONGEST_DELAY, max(delay, 1.5 * counter.delay))
        counter.not_before = self._clock() + counter.delay
        return True

    def _call(self, engine: Engine, records: Sequence[UnitRecord]) -> float:
        """Returns how many seconds later to try what was turned away for now; 0 if nothing was."""
        requests: dict[int, Any] = {}
        delays = [0.0]
        for record in records:
            try:
                requests[record.id] = engine.backend.render(record.as_unit(), {})
            except ExecutorError as error:
                self._fleet.turn_away(record, Rejected(str(error)))
            except PASSING as error:
                delays.append(self._fleet.turn_away(record, Deferred(str(error).rstrip('.'))))
        rendered = [record for record in records if record.id in requests]
        try:
            answers = engine.backend.submit([*requests.values()]) if requests else []
        except PASSING as error:
            self._doubt(rendered, error)
            return _AGAIN
        for record, answer in zip(rendered, answers, strict=True):
            if isinstance(answer, Submitted):
                self._fleet.take_in(record, answer.ref, engine)
            else:
                delays.append(self._fleet.turn_away(record, answer))
        return max(delays)

    def _doubt(self, records: Sequence[UnitRecord], error: Exception) -> None:
        """Any of them may run by now: none is queued again, or ended, before the engine has told whether it has it."""
        message = f'waits: {str(error).rstrip(".")}'
        for record in records:
            self._outbox.record(record, STARTING, message=message)
        self._adoption.hold(
            [attrs.evolve(record, state=STARTING, message=message) for record in records]
        )
