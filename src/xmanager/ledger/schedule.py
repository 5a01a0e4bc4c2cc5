"""Who may start now: importance, first come, first served, gangs whole, and backfill that delays nobody.

Pure: what is free, who runs until when, who waits, and what time it is, go in; who starts comes out. So it is
tested over days of simulated time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

from xmanager.backend import Grant
from xmanager.ledger.space import Space
from xmanager.ledger.values import Hold, Want


@attrs.frozen
class Start:
    """A unit that may start now, and the devices that it gets."""

    want: Want
    grant: Grant


def schedule(space: Space, holds: Sequence[Hold], wants: Iterable[Want], now: float) -> list[Start]:
    """Who of those that wait may start. `space` is what is free; it is changed by what starts.

    The first that does not fit has a reservation: the time at which enough will be free, if all that runs takes as
    long as it may. Others pass it only if they will have ended by then, or take nothing that it needs. So it waits
    for those before it and for nobody else, and nobody starves. (EASY backfilling: D. Lifka, The ANL/IBM SP
    Scheduling System, 1995.)
    """
    starts: list[Start] = []
    reservation: _Reservation | None = None
    refused: set[object] = set()
    for want in sorted(wants, key=lambda want: want.rank):
        for _ in range(want.count):
            if want.signature in refused:
                break
            grant = _place(space, reservation, want, now)
            if grant is None:
                refused.add(want.signature)
                if reservation is None:
                    reservation = _Reservation(space, [*holds, *_as_holds(starts, now)], want, now)
                break
            space.take(want.demand, grant)
            starts.append(Start(want, grant))
            if reservation is not None:
                reservation.note(want, grant, now)
    return starts


def _place(space: Space, reservation: _Reservation | None, want: Want, now: float) -> Grant | None:
    if reservation is None or reservation.has_ended_by_then(want, now):
        return space.place(want.demand)
    return space.meet(reservation.spare).place(want.demand)


class _Reservation:
    """When the first of those that wait will fit at the latest, and what is free beside it then."""

    def __init__(self, space: Space, holds: Sequence[Hold], want: Want, now: float) -> None:
        self.at = math.inf
        self.spare = space.copy()
        ending = [(hold.ends_by, hold) for hold in holds if hold.ends_by is not None]
        for ends_by, hold in sorted(ending, key=lambda pair: pair[0]):
            self.spare.give(hold.demand, hold.grant)
            grant = self.spare.place(want.demand)
            if grant is not None:
                # What should have ended by now ends any moment.
                self.at = max(now, ends_by)
                self.spare.take(want.demand, grant)
                return
        # Nobody knows when enough will be free: what it needs is kept for it from now on.
        self.spare = space.copy()
        self.spare.set_aside(want.demand)

    def has_ended_by_then(self, want: Want, now: float) -> bool:
        return want.limit is not None and now + want.limit <= self.at < math.inf

    def note(self, want: Want, grant: Grant, now: float) -> None:
        """Another one has passed."""
        if not self.has_ended_by_then(want, now):
            self.spare.take(want.demand, grant)


def _as_holds(starts: Iterable[Start], now: float) -> list[Hold]:
    return [
        Hold(
            key='',
            unit=start.want.unit,
            demand=start.want.demand,
            grant=start.grant,
            since=now,
            ends_by=None if start.want.limit is None else now + start.want.limit,
        )
        for start in starts
    ]
