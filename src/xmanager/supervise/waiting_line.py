"""The head of the queue, in memory: the next units to be started, however many wait in the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from xmanager.store import QUEUED, Store, UnitRecord

_WINDOW = 64  # Enough to fill a host several times over.


class WaitingLine:
    """The first of the queued units, by importance, then by age.

    `is_stale` says that others have written to the store since it was read.
    """

    def __init__(self, store: Store, experiment_id: int) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._units: deque[UnitRecord] = deque()
        self._has_more = True  # Queued units beyond the window.
        self.is_stale = True

    def __bool__(self) -> bool:
        return bool(self._units)

    @property
    def first(self) -> UnitRecord:
        return self._units[0]

    def remove_first(self) -> None:
        self._units.popleft()

    def remove(self, unit_ids: Collection[int]) -> None:
        self._units = deque(unit for unit in self._units if unit.id not in unit_ids)

    def needs_reading(self) -> bool:
        return self.is_stale or (self._has_more and not self._units)

    def read(self) -> None:
        """Reads the window anew; what was recorded of its units must have been written before."""
        self._units = deque(
            self._store.units(self._experiment_id, states=(QUEUED,), order='queue', limit=_WINDOW)
        )
        self._has_more = len(self._units) == _WINDOW
        self.is_stale = False
