"""Finds out what has become of units that were submitted, or about to be: goes on with them, or queues them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from xmanager import faults
from xmanager.errors import ExecutorError
from xmanager.store import QUEUED, RUNNING, Change, UnitRecord
from xmanager.supervise.engines import Engine, Engines
from xmanager.supervise.outbox import Outbox
from xmanager.supervise.running import Fleet
from xmanager.supervise.trouble import PASSING, Trouble

# Seconds until engines that can't be asked what they have are asked again: to ask may take long, too.
_RETRY, _LONGEST_RETRY = 5.0, 60.0


class Adoption:
    """The units that were submitted, or about to be, when their supervisor died or their engine gave no answer."""

    def __init__(
        self, engines: Engines, fleet: Fleet, outbox: Outbox, clock: Callable[[], float]
    ) -> None:
        self._engines = engines
        self._fleet = fleet
        self._outbox = outbox
        self._clock = clock
        self._unfound: dict[int, UnitRecord] = {}  # Their engine can't be asked at present.
        self._due = 0.0
        self._pause = _RETRY
        self._trouble = Trouble()
        self.unusable: ExecutorError | None = None
        """Why an engine that has units can't be used by this process at all."""

    def __contains__(self, unit_id: int) -> bool:
        """Whether it is not known yet what has become of the unit."""
        return unit_id in self._unfound

    def asks_again_at(self, backend: str) -> float:
        """When this back end is asked again what it has; 0 if all is known. Until then nothing else can be asked."""
        unknown = any(record.backend == backend for record in self._unfound.values())
        return self._due if unknown else 0.0

    def take(self, records: Sequence[UnitRecord]) -> None:
        """Adopts units; those whose engine can't be asked now stay as they are, and are adopted later."""
        self.unusable = None
        for name in sorted({record.backend for record in records}):
            mine = [record for record in records if record.backend == name]
            try:
                engine = self._engines.get(name)
                mine = self._resume(engine, mine) if engine.queues_itself else mine
                found = engine.backend.find([record.as_unit() for record in mine])
            except (ExecutorError, *PASSING) as error:
                self.hold([record for record in mine if record.id not in self._fleet])
                self._trouble.tell(error)
                self.unusable = error if isinstance(error, ExecutorError) else self.unusable
            else:
                self._go_on_with(engine, mine, found)
        self._outbox.flush()
        self._fleet.go_on_stopping()

    def hold(self, records: Sequence[UnitRecord]) -> None:
        """Of these nobody knows now whether their engine has them: it is asked later."""
        self._unfound |= {record.id: record for record in records}
        self._due = self._clock() + self._pause

    def go_on(self) -> bool:
        """Tries again what could not be adopted, if it is time; returns whether units may have been queued again."""
        if not self._unfound or self._clock() < self._due:
            return False
        records, self._unfound = list(self._unfound.values()), {}
        self._pause = min(_LONGEST_RETRY, 1.5 * self._pause)
        self.take(records)
        if not self._unfound:
            self._pause = _RETRY
            self._trouble.is_over()
        return True

    def ask_to_end(self, units: Sequence[UnitRecord], state: str, message: str) -> None:
        """Sees to it that units are stopped as soon as they are found."""
        for unit in units:
            record = self._unfound[unit.id]
            if not record.stopping:
                record = attrs.evolve(record, stopping=(state, message))
                self._unfound[unit.id] = record
                self._outbox.add(Change(unit.id, record.state, stopping=record.stopping))

    def _resume(self, engine: Engine, records: Sequence[UnitRecord]) -> list[UnitRecord]:
        """Goes on with units of which the engine's reference is recorded; returns the others, which must be found."""
        for record in records:
            if record.reference:
                self._fleet.resume(record, record.reference, engine)
        return [record for record in records if not record.reference]

    def _go_on_with(
        self, engine: Engine, records: Sequence[UnitRecord], found: Mapping[str, str]
    ) -> None:
        faults.pass_by('adopt')
        for record in records:
            if record.key in found and engine.queues_itself:
                self._fleet.resume(record, found[record.key], engine)
            elif record.key in found:
                self._fleet.take_over(record, found[record.key], engine)
            elif record.stopping:
                state, message = record.stopping
                self._outbox.record(record, state, why='asked to stop', message=message)
            elif record.state == RUNNING:
                self._fleet.never_seen(record, _NO_TRACE)
            else:
                self._outbox.record(record, QUEUED, why=_NOTHING_STARTED)


_NO_TRACE = 'its folder and its processes are gone; how it ended cannot be known'
_NOTHING_STARTED = 'nothing of it had been started'
