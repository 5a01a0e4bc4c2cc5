"""Why somebody waits: what is short and who has it, or whose turn comes first. Pure.

What the ledger says goes in, values come out; `xmanager.ledger.sentences` says them in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import attrs

from xmanager.backend import Capacity
from xmanager.ledger.schedule import schedule
from xmanager.ledger.space import Demand, Space, total
from xmanager.ledger.values import Entry, Hold, Want

# Why a unit waits.
NEXT: Final = 'next'  # It fits and it is its turn: its supervisor is about to start it.
RESOURCES: Final = 'resources'
TURN: Final = 'turn'  # It would fit, but might delay somebody whose turn comes first.
STARTING: Final = 'starting'
PAUSED: Final = 'paused'
BACKOFF: Final = 'backoff'
GENERATOR: Final = 'generator'  # A job generator has not yet said which jobs it has.
UNSUPERVISED: Final = 'unsupervised'
UNSEEN: Final = 'unseen'  # Its supervisor has not said in the ledger what it waits for.
ENGINE: Final = 'engine'  # An engine that queues by itself has it, and has not started it.
HANDOVER: Final = 'handover'  # Such an engine has not taken it yet.
REASONS: Final = (
    NEXT, RESOURCES, TURN, STARTING, PAUSED, BACKOFF, GENERATOR, UNSUPERVISED, UNSEEN, ENGINE,
    HANDOVER,
)  # fmt: skip


@attrs.frozen
class Who:
    """An experiment of somebody's: a number means something only together with its home."""

    user: str
    home: str
    experiment_id: int


@attrs.frozen
class Part:
    """How much of a resource one experiment holds. `ends_by`: when it is free at the latest (None: nobody knows)."""

    who: Who
    amount: float
    since: float
    ends_by: float | None = None


@attrs.frozen
class Lack:
    """A resource of which too little is free. `holders` have the rest, those who have the most first.

    `asked` are the amounts of the jobs that ask for it. Only for resources that are `devices`: `largest_share` is the
    most that is free of a single one, and `strangers` are those that somebody uses who keeps no account here.
    """

    resource: str
    asked: tuple[float, ...]
    free: float
    holders: tuple[Part, ...] = ()
    devices: bool = False
    largest_share: float = 0.0
    strangers: tuple[str, ...] = ()

    @property
    def needed(self) -> float:
        return sum(self.asked)


@attrs.frozen
class Ahead:
    """The unit whose turn it is, and what it waits for."""

    who: Who
    unit: str
    lacks: tuple[Lack, ...]


@attrs.frozen
class Waiting:
    """A run of units of one experiment that wait for the same; `unit` is the first of `count`.

    `came` is when it was added, which decides the order; it may wait only `since` later, for another attempt.
    `more` units are behind them, of which it is not known here what they ask for. `at` is since when it is paused, or
    when it is tried again; `note` is the reason in words where it needs some of its own. `engine` is the back end that
    queues by itself and has them, or shall have them; if nobody supervises them, what is known may be out of date.
    """

    who: Who
    unit: str
    since: float
    came: float
    importance: int
    reason: str
    count: int = 1
    more: int = 0
    lacks: tuple[Lack, ...] = ()
    ahead: Ahead | None = None
    at: float | None = None
    note: str = ''
    id: int = 0
    engine: str = ''
    supervised: bool = True


def who(entry: Entry) -> Who:
    return Who(entry.user, entry.home, entry.experiment_id)


def explain(entries: Sequence[Entry], now: float) -> list[Waiting]:
    """All who wait according to the ledger, in the order of the queue, each with the reason."""
    views: list[_View] = []
    found: list[tuple[Want, Waiting]] = []
    for entry in entries:
        if entry.wants and entry.capacity is not None:
            view = _view_of(entry, entry.capacity, views, entries, now)
            found += [(want, view.explain(entry, want)) for want in entry.wants]
    return [waiting for _, waiting in sorted(found, key=lambda pair: pair[0].rank)]


def parts(entries: Iterable[Entry], resource: str, devices: Collection[str] | None) -> list[Part]:
    """Who holds how much of a resource, or of these devices of it; those who hold the most first."""
    found = []
    for entry in entries:
        mine = [
            (amount, hold) for hold in entry.holds if (amount := _held(hold, resource, devices))
        ]
        if mine:
            ends = [hold.ends_by for _, hold in mine]
            found.append(
                Part(
                    who(entry),
                    sum(amount for amount, _ in mine),
                    min(hold.since for _, hold in mine),
                    None if None in ends else max(end for end in ends if end is not None),
                )
            )
    return sorted(found, key=lambda part: (-part.amount, part.since))


def _held(hold: Hold, resource: str, devices: Collection[str] | None) -> float:
    if devices is None:
        return total(hold.demand).get(resource, 0.0)
    return sum(
        min(1.0, amounts.get(resource, 0.0))
        for task, amounts in hold.demand.items()
        for device in hold.grant.get(task, {}).get(resource, ())
        if device in devices
    )


def _view_of(
    entry: Entry, capacity: Capacity, views: list[_View], entries: Sequence[Entry], now: float
) -> _View:
    """The host as this one sees it; most see the same."""
    for view in views:
        if (view.capacity, view.strangers) == (capacity, entry.strangers):
            return view
    views.append(_View(capacity, entry.strangers, entries, now))
    return views[-1]


class _View:
    """A host of that capacity, after those who may start have started."""

    def __init__(
        self,
        capacity: Capacity,
        strangers: Mapping[str, tuple[str, ...]],
        entries: Sequence[Entry],
        now: float,
    ) -> None:
        self.capacity = capacity
        self.strangers = strangers
        self._space = Space(capacity, strangers)
        holds = [hold for entry in entries for hold in entry.holds]
        for hold in holds:
            self._space.take(hold.demand, hold.grant)
        wants = sorted((w for entry in entries for w in entry.wants), key=lambda want: want.rank)
        starts = schedule(self._space, holds, wants, now)
        self._starting = Counter((start.want.owner, start.want.id) for start in starts)
        begun: dict[str, list[Hold]] = {}
        for start in starts:
            one = Hold('', start.want.unit, start.want.demand, start.grant, now)
            begun.setdefault(start.want.owner, []).append(one)
        self._entries = [
            attrs.evolve(entry, holds=(*entry.holds, *begun.get(entry.owner, ())))
            for entry in entries
        ]
        self._parts: dict[str, tuple[Part, ...]] = {}
        self._owners = {entry.owner: entry for entry in entries}
        kept = (w for w in wants if self._starting[w.owner, w.id] < w.count)
        self._first = next(kept, None)

    def explain(self, entry: Entry, want: Want) -> Waiting:
        """Why those of a want wait that may not start."""
        waiting = Waiting(
            who=who(entry),
            unit=want.unit,
            since=want.since,
            came=want.since,
            importance=want.importance,
            reason=NEXT,
            count=want.count,
            id=want.id,
        )
        if self._starting[want.owner, want.id] >= want.count:
            return waiting
        if lacks := self._lacks(want.demand):
            return attrs.evolve(waiting, reason=RESOURCES, lacks=lacks)
        if self._first is None or self._first is want:
            return waiting
        ahead = Ahead(
            who(self._owners[self._first.owner]),
            self._first.unit,
            self._lacks(self._first.demand),
        )
        return attrs.evolve(waiting, reason=TURN, ahead=ahead)

    def _lacks(self, demand: Demand) -> tuple[Lack, ...]:
        return tuple(
            self._lack(resource, demand)
            for resource in total(demand)
            if self._space.place(_only(demand, resource)) is None
        )

    def _parts_of(self, resource: str) -> tuple[Part, ...]:
        if resource not in self._parts:
            devices = self.capacity.devices.get(resource)
            self._parts[resource] = tuple(parts(self._entries, resource, devices))
        return self._parts[resource]

    def _lack(self, resource: str, demand: Demand) -> Lack:
        devices = self.capacity.devices.get(resource)
        return Lack(
            resource,
            tuple(a[resource] for a in demand.values() if a.get(resource)),
            self._space.free(resource),
            self._parts_of(resource),
            devices is not None,
            self._space.largest_share(resource),
            tuple(d for d in self.strangers.get(resource, ()) if d in (devices or ())),
        )


def _only(demand: Demand, resource: str) -> dict[str, dict[str, float]]:
    return {
        task: {resource: amounts[resource]}
        for task, amounts in demand.items()
        if amounts.get(resource)
    }
