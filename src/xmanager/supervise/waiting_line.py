"""The head of an experiment's queue, in memory: the next units to be started, however many wait in the store."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from xmanager.store import Store, UnitRecord

# Enough to fill a host several times over, and to find somebody who fits beside a gang.
_WINDOW = 64
_LOW = 16  # With fewer than this in the window it is filled up again.


class WaitingLine:
    """The first of the queued units, by importance, then by age, and all auxiliary ones; none while it is paused.

    `only` names the one back end whose units stand in it, `without` those whose units don't (it may grow). `is_stale`
    says that others have written to the store since it was read; `version` changes with its units.
    """

    def __init__(
        self,
        store: Store,
        experiment_id: int,
        *,
        window: int = _WINDOW,
        low: int = _LOW,
        only: str = '',
        without: Collection[str] = (),
    ) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._window = window
        self._low = low
        self._only = only
        self._without = without
        self._units: dict[int, UnitRecord] = {}
        self._has_more = True  # Queued units beyond the window.
        self.is_stale = True
        self.version = 0

    def __bool__(self) -> bool:
        return bool(self._units)

    def __len__(self) -> int:
        return len(self._units)

    def __iter__(self) -> Iterator[UnitRecord]:
        return iter(self._units.values())

    @property
    def is_full(self) -> bool:
        """Whether more units wait than stand in it."""
        return self._has_more and len(self._units) >= self._window

    def remove(self, unit_ids: Collection[int]) -> None:
        for unit_id in unit_ids:
            self._units.pop(unit_id, None)
        self.version += 1

    def needs_reading(self) -> bool:
        return self.is_stale or (self._has_more and len(self._units) < self._low)

    def read(self) -> None:
        """Reads the window anew; what was recorded of its units must have been written before."""
        queued = self._store.queue(
            self._experiment_id, limit=self._window, only=self._only, without=self._without
        )
        known = {
            id: unit
            for id, importance in queued
            if (unit := self._units.get(id)) is not None and unit.importance == importance
        }
        unknown = [id for id, _ in queued if id not in known]
        known |= {unit.id: unit for unit in self._store.units_by_id(unknown)} if unknown else {}
        self._units = {id: known[id] for id, _ in queued if id in known}
        self._has_more = len(queued) >= self._window
        self.is_stale = False
        self.version += 1
