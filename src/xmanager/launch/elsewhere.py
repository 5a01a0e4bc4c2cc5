"""Units of engines that queue by themselves: which of them these have taken, and what they wait for there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

import attrs

from xmanager.store import Standing, Store, Wait

_AT_A_TIME: Final = (
    256  # Units that are read at once, while the first of them need not have been taken yet.
)
_PERIOD: Final = 0.5  # Seconds between two readings of what all wait for: of thousands of units it costs something.


class Elsewhere:
    """Looks at such units of one experiment, whenever the store has changed. Lives in one event loop."""

    def __init__(
        self, store: Store, experiment_id: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._clock = clock
        self._left: list[int] = []  # Units that are not known to be with their engine.
        self._all_taken: asyncio.Future[None] | None = None
        self._is_stale = False
        self._told_at = -_PERIOD

    def __bool__(self) -> bool:
        return bool(self._left)

    def taken(self, unit_ids: Collection[int]) -> asyncio.Future[None]:
        """What is done once each of these units is with its engine or has ended, as `look` finds."""
        self._left = [*unit_ids]
        self._all_taken = asyncio.get_running_loop().create_future()
        return self._all_taken

    def look(self, has_changed: bool) -> Sequence[Wait] | None:
        """What the units wait for, if there is news of that."""
        if has_changed and self._all_taken is not None and not self._all_taken.done():
            self._look_at_left()
            if not self._left:
                self._all_taken.set_result(None)
        self._is_stale = self._is_stale or has_changed
        if not self._is_stale or self._clock() < self._told_at + _PERIOD:
            return None
        self._is_stale, self._told_at = False, self._clock()
        return gathered(self._store.waits(self._experiment_id))

    def fail(self, error: Exception) -> None:
        """Whoever waits shall raise this."""
        if self._all_taken is not None and not self._all_taken.done():
            self._all_taken.set_exception(error)
        self._left = []

    def _look_at_left(self) -> None:
        """They are taken in about the order in which they were added: one that is left hides those behind it."""
        while self._left:
            head = self._left[:_AT_A_TIME]
            waiting = {unit.id for unit in self._store.standing(head) if not _is_taken(unit)}
            self._left = [id for id in head if id in waiting] + self._left[_AT_A_TIME:]
            if waiting:
                return


def _is_taken(unit: Standing) -> bool:
    """Also of a unit that is to be tried again: the engine had it once."""
    return bool(unit.reference) or unit.attempt > 1 or not unit.is_active


def gathered(waits: Sequence[Wait]) -> list[Wait]:
    """Like them, but while a back end refuses a unit and says why, all that it has not taken wait for that."""
    found = [wait for wait in waits if wait.is_taken]
    for backend in dict.fromkeys(wait.backend for wait in waits if not wait.is_taken):
        mine = [wait for wait in waits if wait.backend == backend and not wait.is_taken]
        refused = next((wait for wait in mine if wait.reason), None)
        if refused is None:
            found += mine
            continue
        count = sum(wait.count for wait in mine)
        first, since = min(wait.first for wait in mine), min(wait.since for wait in mine)
        found.append(attrs.evolve(refused, count=count, first=first, since=since))
    return found
