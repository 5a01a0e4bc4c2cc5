"""What the units of one experiment hold of a back end's capacity, in agreement with all who share it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import attrs

from xmanager.backend import Capacity
from xmanager.errors import LedgerError
from xmanager.ledger import Demand, Entry, Hold, Ledger, Space, Start, Want, schedule
from xmanager.store.presence import wake_by

Strangers = Callable[[], Mapping[str, Collection[str]]]

_LOOK = 1.0  # Seconds between two looks for processes of strangers.
_TELL = 5.0  # Seconds between two turns of an owner that holds something, whether anything has happened or not.


class Queue(Protocol):
    """Units that wait for one back end."""

    def wants(self) -> list[Want]:
        """What they ask for, in their order; one want may stand for several units."""

    def take(self, want: Want) -> tuple[int, str, str]:
        """Takes the first unit of a want out of the queue: its id, its label and its key."""


class Account:
    """Holds by unit id. Without a ledger the capacity is this experiment's alone; without a capacity it is endless.

    `lent` are keys of the units in which this experiment was launched: they wait for it, and their CPUs and memory
    are lent to it.
    """

    def __init__(
        self,
        capacity: Capacity | None,
        owner: str,
        ledger: Ledger | None,
        strangers: Strangers,
        *,
        clock: Callable[[], float],
        lent: Collection[str] = (),
    ) -> None:
        self._capacity = capacity
        self._owner = owner
        self._ledger = ledger
        self._strangers = strangers
        self._clock = clock
        self._lent = frozenset(lent)
        self._holds: dict[int, Hold] = {}
        self._seen: Mapping[str, Collection[str]] = {}
        self._looked_at = -_LOOK
        self._held_then: set[tuple[str, str]] = set()
        self._left_alone: dict[str, tuple[str, ...]] = {}
        # Whether the ledger says what is held here, and not what a predecessor held.
        self._told = False
        self._told_at = 0.0
        self._waiting = 0  # How many wait, as the ledger says.
        self._freed = False  # Whether others may have been waiting for what was given back here.

    @property
    def is_settled(self) -> bool:
        """Whether all who share the capacity know what is held here, and that nobody waits here."""
        if self._ledger is None:
            return True
        # Told again and again: should somebody remove the ledger, it is soon whole again.
        is_recent = not self._holds or abs(self._clock() - self._told_at) < _TELL
        return self._told and is_recent and not self._waiting

    def hold(self, unit_id: int, hold: Hold) -> None:
        """For a unit that was found running: it has what it has, whether it fits or not."""
        self._holds[unit_id] = hold
        self._told = False

    def give_back(self, unit_id: int) -> None:
        if self._holds.pop(unit_id, None) is not None:
            self._told, self._freed = False, True

    def admit(self, queue: Queue) -> list[Start]:
        """Takes those units out of the queue that may start now, and holds what they asked for.

        Returns their starts in the order in which they were taken. Raises LedgerError; then nothing is held, whatever
        was taken.
        """
        if self._capacity is None:
            return self._take(queue, [Start(w, {}) for w in queue.wants() for _ in range(w.count)])
        if self._ledger is None:
            return self._take(queue, self._schedule(self._capacity, [], queue.wants())[0])
        before = dict(self._holds)
        try:
            with self._ledger.turn() as others:
                starts, for_others = self._schedule(self._capacity, others, queue.wants())
                self._take(queue, starts)
                left = queue.wants()
                self._ledger.write(list(self._holds.values()), left, self._left_alone)
        except LedgerError:
            self._holds = before
            raise
        waiting = sum(want.count for want in left)
        has_given_up = self._waiting > waiting + len(starts)
        freed, self._freed, self._told = self._freed or has_given_up, False, True
        self._waiting, self._told_at = waiting, self._clock()
        if freed:
            for entry in others:
                if entry.owner in for_others:
                    _wake(entry)
        return starts

    def _take(self, queue: Queue, starts: list[Start]) -> list[Start]:
        now = self._clock()
        for start in starts:
            want = start.want
            unit_id, label, key = queue.take(want)
            ends_by = None if want.limit is None else now + want.limit
            self._holds[unit_id] = Hold(key, label, want.demand, start.grant, now, ends_by)
        return starts

    def leave(self) -> None:
        """Forgets the account: nothing is held any more. Raises LedgerError."""
        if self._ledger is None:
            return
        with self._ledger.turn() as others:
            self._ledger.leave()
        for entry in others:
            if entry.wants:
                _wake(entry)

    def close(self) -> None:
        """Lets go of the ledger; what is written there counts for as long as the jobs live."""
        if self._ledger is not None:
            self._ledger.close()

    def _schedule(
        self, capacity: Capacity, others: Sequence[Entry], wants: Sequence[Want]
    ) -> tuple[list[Start], set[str]]:
        """Our units that may start, and the owners of others that may."""
        theirs = [self._as_it_counts(hold) for entry in others for hold in entry.holds]
        holds = [*self._holds.values(), *theirs]
        strangers = self._taken_by_strangers(capacity, holds, wants)
        self._left_alone = {name: tuple(sorted(devices)) for name, devices in strangers.items()}
        space = Space(capacity, strangers)
        for hold in holds:
            space.take(hold.demand, hold.grant)
        all_wants = [*wants, *(want for entry in others for want in _that_count(entry, capacity))]
        starts = schedule(space, holds, all_wants, self._clock())
        mine = [start for start in starts if start.want.owner == self._owner]
        return mine, {start.want.owner for start in starts} - {self._owner}

    def _as_it_counts(self, hold: Hold) -> Hold:
        if hold.key not in self._lent:
            return hold
        demand: Demand = {
            task: {name: a for name, a in amounts.items() if name not in ('cpu', 'ram')}
            for task, amounts in hold.demand.items()
        }
        return attrs.evolve(hold, demand=demand)

    def _taken_by_strangers(
        self, capacity: Capacity, holds: Sequence[Hold], wants: Sequence[Want]
    ) -> dict[str, set[str]]:
        """Devices that nobody holds, but somebody uses. Asked only where somebody waits for one."""
        if not capacity.devices:
            return {}
        wanted = {
            name
            for want in wants
            for amounts in want.demand.values()
            for name, amount in amounts.items()
            if amount and name in capacity.devices
        }
        if not wanted:
            return {}
        held = {
            (name, device)
            for hold in holds
            for given in hold.grant.values()
            for name, devices in given.items()
            for device in devices
        }
        return {
            name: {device for device in devices if (name, device) not in held}
            for name, devices in self._look_for_strangers(held).items()
        }

    def _look_for_strangers(self, held: set[tuple[str, str]]) -> Mapping[str, Collection[str]]:
        """Seldom, for it takes time; but at once for what was still held when we looked."""
        now = self._clock()
        if abs(now - self._looked_at) >= _LOOK or not self._held_then <= held:
            self._seen = self._strangers()
            self._looked_at, self._held_then = now, held
        return self._seen


def _wake(entry: Entry) -> None:
    # Another user may have written any path there, and his home may be out of our reach.
    with contextlib.suppress(OSError, ValueError):
        wake_by(entry.wake_pipe)


def _that_count(entry: Entry, capacity: Capacity) -> Sequence[Want]:
    """What another owner waits for, as far as it can wait for anything but itself.

    One that may use less of the host than we may (`--xm_local_resources`) waits for its own units to end, and would
    never take what is free here: nothing is to be kept for it.
    """
    own = entry.capacity
    if own is None or (own.amounts, own.devices) == (capacity.amounts, capacity.devices):
        return entry.wants
    space = Space(own)
    for hold in entry.holds:
        space.take(hold.demand, hold.grant)
    found = []
    for want in entry.wants:
        count = 0
        while count < want.count and (grant := space.place(want.demand)) is not None:
            space.take(want.demand, grant)
            count += 1
        if count:
            found.append(attrs.evolve(want, count=count))
    return found
