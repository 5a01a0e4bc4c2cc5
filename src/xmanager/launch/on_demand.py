"""Supervisors that come on demand, for login nodes that end what lingers (`--xm_supervise=on-demand`)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Final

from xmanager.errors import StoreError
from xmanager.launch.wake import is_supervised_elsewhere, wake
from xmanager.store import ACTIVE_STATES, ExperimentRecord, Store
from xmanager.store.presence import Presence

_FRESH: Final = 5.0  # Seconds for which what was found is not looked for again.
_PATIENCE: Final = 5.0
_PERIOD: Final = 0.05
_MOST: Final = 8  # Experiments that are looked after at once, the newest first.


def look_after(store: Store, records: Iterable[ExperimentRecord]) -> bool:
    """Has those looked after that nobody supervises, and waits a little for it; returns whether there were any."""
    called: dict[int, tuple[Presence, float]] = {}
    for record in records:
        if len(called) < _MOST and _is_due(store, record):
            presence = Presence(record.folder)
            called[record.id] = presence, presence.looked_at()
            try:
                wake(store.home, record.id)
            except StoreError:  # It belongs to another home: what is known of it is shown.
                del called[record.id]
    deadline = time.monotonic() + _PATIENCE
    waiting = [*called.values()]
    while waiting and time.monotonic() < deadline:
        waiting = [(presence, at) for presence, at in waiting if presence.looked_at() == at]
        time.sleep(_PERIOD)
    return bool(called)


def _is_due(store: Store, record: ExperimentRecord) -> bool:
    if not record.counts.keys() & ACTIVE_STATES or not os.access(record.folder, os.W_OK):
        return False
    presence = Presence(record.folder)
    if not presence.comes_on_demand():
        return False
    # The clock of the file system may be ahead of ours.
    if abs(time.time() - presence.looked_at()) < _FRESH or presence.is_supervised():
        return False
    return not is_supervised_elsewhere(store, record.id)
