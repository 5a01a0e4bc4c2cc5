"""What is to be written of units: gathered, and written in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from xmanager.store import Change, Standing, Store, UnitRecord
from xmanager.store.leases import Lease

ACTOR = 'supervisor'


class Outbox:
    """Changes of units in the order in which they came to pass."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        moved: Callable[[list[Standing]], None],
        lease: Lease | None = None,
    ) -> None:
        """`moved` is told which units have moved, once that is written. Nothing is once somebody else has the lease."""
        self._store = store
        self._clock = clock
        self._moved = moved
        self._lease = lease
        self._changes: list[Change] = []

    def __bool__(self) -> bool:
        return bool(self._changes)

    def add(self, change: Change) -> None:
        self._changes.append(change)

    def record(
        self,
        unit: UnitRecord,
        state: str,
        *,
        why: str = '',
        message: str | None = None,
        reference: str | None = None,
        restarts: int | None = None,
    ) -> None:
        """A move of a unit, now."""
        self.add(
            Change(
                unit.id,
                state,
                why=why,
                message=message,
                reference=reference,
                restarts=restarts,
                at=self._clock(),
            )
        )

    def flush(self) -> list[Standing]:
        """Writes what has gathered; returns the units that moved."""
        if not self._changes:
            return []
        changes, self._changes = self._changes, []
        units = self._store.move(changes, actor=ACTOR, lease=self._lease)
        self._moved(units)
        return units
