"""What is written in the ledger: who holds what, and who waits for what."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from xmanager.backend import Capacity, Grant
from xmanager.ledger.space import Demand

Rank = tuple[int, float, str, int]
"""Order in the queue: minus the importance, when it was added (seconds since the epoch), owner, unit."""


@attrs.frozen
class Hold:
    """A unit that was given resources. `key` is its mark; its processes hold a lock in the ledger under that key.

    Times are seconds since the epoch; `ends_by` is when it has ended at the latest (None: nobody knows).
    """

    key: str
    unit: str
    demand: Demand
    grant: Grant
    since: float
    ends_by: float | None = None


@attrs.frozen
class Want:
    """A unit that waits. `limit` is how long it may run, in seconds (None: as long as it likes).

    In the ledger of others one want may stand for `count` units that ask for the same, one after the other.
    """

    owner: str
    id: int
    unit: str
    importance: int
    since: float
    demand: Demand
    limit: float | None = None
    count: int = 1
    rank: Rank = attrs.field(init=False, repr=False, eq=False)
    signature: object = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, 'rank', (-self.importance, self.since, self.owner, self.id))
        # What fits for one fits for all of the same signature.
        asked = frozenset((task, *sorted(amounts.items())) for task, amounts in self.demand.items())
        object.__setattr__(self, 'signature', (asked, self.limit))


@attrs.frozen
class Entry:
    """What one owner, a supervisor, has written. `alive` is whether that process still is.

    `capacity` is what it sees of this host, `strangers` the devices in it that it leaves alone, by resource: for those
    who want to know why it waits.
    """

    owner: str
    user: str
    home: str
    experiment_id: int
    pid: int
    wake_pipe: str
    holds: tuple[Hold, ...] = ()
    wants: tuple[Want, ...] = ()
    alive: bool = True
    capacity: Capacity | None = None
    strangers: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
