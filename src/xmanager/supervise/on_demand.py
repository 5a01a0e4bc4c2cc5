"""When a supervisor may leave though units are left: their engines go on, and who wants to know starts another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from xmanager.store import CREATING, QUEUED, Store
from xmanager.store.presence import Presence

# Seconds after which engines that answer in the background have told of all units.
_SETTLING: Final = 1.0
_LINGER: Final = 10.0  # Whoever waits or follows calls more often than that.
_TOLD: Final = 1.0


class OnDemand:
    """Keeps account of who wants a supervisor, where it comes on demand only; else it never may leave."""

    def __init__(
        self,
        presence: Presence,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._presence = presence
        self._clock = clock
        self._began = self._called_at = clock()
        self._told_at = -_TOLD

    def called(self) -> None:
        """Somebody wants to know how the units fare."""
        self._called_at = self._clock()

    def may_leave(self, rests: Callable[[], bool]) -> bool:
        """To be asked when all was looked at; `rests` tells whether nothing is left to do but to look again."""
        now = self._clock()
        if now < self._began + _SETTLING or not self._presence.comes_on_demand():
            return False
        if now >= self._told_at + _TOLD:
            self._told_at = now
            self._presence.tell_looked()
        return now >= self._called_at + _LINGER and rests()


def is_needed(store: Store, experiment_id: int, presence: Presence) -> bool:
    """Whether there is something that engines don't do by themselves. To be asked again once nobody supervises.

    Whoever wrote it while a supervisor was leaving may have found that there is one.
    """
    if presence.is_launching() or store.requests(experiment_id):
        return True
    counts = store.counts(experiment_id)
    return bool(counts.get(CREATING) or counts.get(QUEUED))
