"""Takes over what an earlier supervisor left: finds what was submitted, and queues again what never was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import attrs

from xmanager import faults
from xmanager.errors import UnreachableError
from xmanager.store import QUEUED, RUNNING, Change, UnitRecord
from xmanager.supervise.engines import Engine, Engines
from xmanager.supervise.outbox import Outbox
from xmanager.supervise.running import Fleet

_RETRY = 5.0  # Seconds until an engine that can't be asked what it has is asked again.


class Adoption:
    """The units that were submitted, or about to be, when their supervisor died."""

    def __init__(
        self, engines: Engines, fleet: Fleet, outbox: Outbox, clock: Callable[[], float]
    ) -> None:
        self._engines = engines
        self._fleet = fleet
        self._outbox = outbox
        self._clock = clock
        self._unfound: dict[int, UnitRecord] = {}  # Their engine can't be asked at present.
        self._due = 0.0
        self._told = ''

    def __contains__(self, unit_id: int) -> bool:
        """Whether it is not known yet what has become of the unit."""
        return unit_id in self._unfound

    def take(self, records: Sequence[UnitRecord]) -> None:
        """Adopts units; those whose engine can't be asked now stay as they are, and are adopted later."""
        for name in sorted({record.backend for record in records}):
            engine = self._engines.get(name)
            mine = [record for record in records if record.backend == name]
            if engine.queues_itself:
                mine = self._resume(engine, mine)
            try:
                self._find(engine, mine)
            except UnreachableError as error:
                self._unfound |= {record.id: record for record in mine}
                self._due = self._clock() + _RETRY
                self._tell(error)
        self._outbox.flush()
        self._fleet.go_on_stopping()

    def go_on(self) -> bool:
        """Tries again what could not be adopted, if it is time; returns whether units may have been queued again."""
        if not self._unfound or self._clock() < self._due:
            return False
        records, self._unfound = list(self._unfound.values()), {}
        self.take(records)
        return True

    def ask_to_end(self, unit_id: int, state: str, message: str) -> None:
        """Sees to it that a unit is stopped as soon as it is found."""
        record = attrs.evolve(self._unfound[unit_id], stopping=(state, message))
        self._unfound[unit_id] = record
        self._outbox.add(Change(unit_id, record.state, stopping=record.stopping))

    def _resume(self, engine: Engine, records: Sequence[UnitRecord]) -> list[UnitRecord]:
        """Goes on with units of which the engine's reference is recorded; returns the others, which must be found."""
        for record in records:
            if record.reference:
                self._fleet.resume(record, record.reference, engine)
        return [record for record in records if not record.reference]

    def _find(self, engine: Engine, records: Sequence[UnitRecord]) -> None:
        found = engine.backend.find([record.as_unit() for record in records])
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
                why = 'it had not started when its supervisor died'
                self._outbox.record(record, QUEUED, why=why)

    def _tell(self, error: UnreachableError) -> None:
        """Once."""
        if str(error) != self._told:
            print(error, file=sys.stderr, flush=True)
        self._told = str(error)


_NO_TRACE = 'its folder and its processes are gone; how it ended cannot be known'
