"""Who waits, and why: of this home by its store, of other homes and users by the ledger of this host."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from xmanager.launch.elsewhere import gathered
from xmanager.launch.on_demand import look_after
from xmanager.launch.wake import is_supervised_elsewhere
from xmanager.ledger import Entry, Reader, explain, place
from xmanager.ledger.explain import Waiting, Who
from xmanager.ledger.place import Place
from xmanager.store import CREATING, QUEUED, RESTARTING, STARTING, Store, Wait
from xmanager.store.presence import Presence
from xmanager.store.values import ExperimentRecord, UnitRecord

_WAITING: Final = (STARTING, QUEUED, RESTARTING, CREATING)
_RUNS: Final = 10  # Sentences for one experiment; what is behind is told by its number.
_DUE: Final = 64  # Units that are tried again, among which the first is looked for.
_AT_HOME: Final = ('', 'local')  # Back ends whose units wait for what this host has.
_LOOKS, _PAUSE = 3, 0.1
_ORDER: Final = {
    explain.STARTING: 0,
    explain.ENGINE: 2,
    explain.HANDOVER: 3,
    explain.BACKOFF: 4,
    explain.UNSEEN: 5,
    explain.GENERATOR: 6,
    explain.UNSUPERVISED: 7,
    explain.PAUSED: 8,
}


def ledger_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the ledger of this host is, or will be."""
    return place.locate(environ)


def read_ledger(folder: Path) -> list[Entry]:
    """What is written in a ledger; nothing is made by looking. Raises OSError if it can't be read."""
    here = Place(folder, shared=False)
    try:
        reader = Reader(here)
    except FileNotFoundError:
        return []
    try:
        return reader.entries()
    finally:
        reader.close()


def waiting(
    store: Store, ledger: Path, entries: Sequence[Entry], now: float, only: Collection[int] = ()
) -> list[Waiting]:
    """Who waits, those first who are next; of `only` these experiments of this home, or (none given) of all."""
    records = [store.experiment(id) for id in only] if only else store.experiments()
    if look_after(store, records):
        records = [store.experiment(record.id) for record in records]
    records = [record for record in records if any(map(record.counts.get, _WAITING))]
    told: dict[int, list[Waiting]] = {}
    lines: list[Waiting] = []
    numbers = {Who(e.user, e.home, e.experiment_id): _number(store, e) for e in entries}
    for one in explain.explain(entries, now):
        number = numbers[one.who]
        if number:
            told.setdefault(number, []).append(one)
        elif not only:
            lines.append(one)
    alive = {_number(store, entry) for entry in entries if entry.alive}
    alone = {id for id in _unsupervised(records, alive) if not is_supervised_elsewhere(store, id)}
    known = set(numbers.values())
    for record in records:
        lines += _Own(store, record).lines(
            told.get(record.id, []), record.id in alone, '' if record.id in known else str(ledger)
        )
    return sorted(lines, key=_place)


def _number(store: Store, entry: Entry) -> int:
    """The number of an experiment of this home, 0 for those of others."""
    return entry.experiment_id if entry.owner == f'{store.home_id}-{entry.experiment_id}' else 0


def _place(line: Waiting) -> tuple[int, float, float, int]:
    rank = _ORDER.get(line.reason, 1)
    first = line.at or 0.0 if line.reason == explain.BACKOFF else -line.importance
    return rank, first, line.came, line.who.experiment_id


def _unsupervised(records: Iterable[ExperimentRecord], alive: Collection[int]) -> set[int]:
    """Those experiments whose supervisor is dead, as far as we may look."""
    alone = {
        record.id: Presence(record.folder)
        for record in records
        if record.id not in alive and os.access(record.folder, os.W_OK)
    }
    alone = {id: presence for id, presence in alone.items() if not presence.comes_on_demand()}
    for look in range(_LOOKS):
        if look and alone:  # One that is just starting has no lock yet.
            time.sleep(_PAUSE)
        alone = {id: presence for id, presence in alone.items() if not presence.is_supervised()}
    return set(alone)


class _Own:
    """The units of one experiment of this home that wait."""

    def __init__(self, store: Store, record: ExperimentRecord) -> None:
        self._store = store
        self._record = record
        self._who = Who(record.user, str(store.home.path), record.id)
        # A pause keeps from being submitted what waits for that, as it keeps all others.
        states = (STARTING,) if record.paused_at is not None else (STARTING, QUEUED)
        waits = [wait for wait in store.waits(record.id) if wait.state in states]
        self._elsewhere = [wait for wait in gathered(waits) if _is_elsewhere(wait)]
        refused = {wait.backend for wait in waits if wait.reason and not wait.is_taken}
        self._counts = Counter(record.counts)
        for wait in waits:
            if _is_elsewhere(wait) or wait.backend in refused:
                self._counts[wait.state] -= wait.count

    def lines(self, told: Sequence[Waiting], is_alone: bool, elsewhere: str) -> list[Waiting]:
        """`told` is what its supervisor says; `elsewhere` the ledger in which it says nothing."""
        if is_alone:
            alone = f'no supervisor is alive: xmanager supervise {self._record.id}'
            lines = self._some(_WAITING, explain.UNSUPERVISED, alone) + self._engines()
            return [attrs.evolve(line, supervised=False) for line in lines]
        found = self._some((STARTING,), explain.STARTING) + self._engines()
        if self._record.paused_at is not None:
            found += self._some((QUEUED,), explain.PAUSED, at=self._record.paused_at)
        elif told:
            found += self._queued(told)
        else:
            found += self._some((QUEUED,), explain.UNSEEN, self._unseen(elsewhere))
        found += self._restarting()
        why = 'its job generator has not ended'
        return found + self._some((CREATING,), explain.GENERATOR, why)

    def _engines(self) -> list[Waiting]:
        """Those that wait in other queues than ours, or to get there."""
        shown, rest = self._elsewhere[:_RUNS], self._elsewhere[_RUNS:]
        first = {u.id: u for u in self._store.units_by_id([w.first for w in shown], False)}
        lines = []
        for wait in shown:
            unit = first.get(wait.first)
            if unit is not None:
                reason = explain.ENGINE if wait.is_taken else explain.HANDOVER
                line = self._line(unit, reason, wait.reason)
                lines.append(
                    attrs.evolve(line, count=wait.count, since=wait.since, engine=wait.backend)
                )
        if lines and rest:
            lines[-1] = attrs.evolve(lines[-1], more=sum(wait.count for wait in rest))
        return lines

    def _unseen(self, elsewhere: str) -> str:
        if not elsewhere:
            return 'its supervisor has not looked at it yet'
        if self._record.host != platform.node():
            return f'it was launched on {self._record.host}: ask there'
        return f'its supervisor has said nothing yet in the ledger {elsewhere}'

    def _queued(self, told: Sequence[Waiting]) -> list[Waiting]:
        """What the supervisor says of those that it has in view, with the number of the others."""
        units = self._store.units_by_id([one.id for one in told[:_RUNS]], with_tasks=False)
        since = {unit.id: unit.queued_at or unit.created_at for unit in units}
        lines = [attrs.evolve(one, since=since[one.id]) for one in told[:_RUNS] if one.id in since]
        more = self._counts[QUEUED] - sum(one.count for one in lines)
        if lines and more > 0:
            lines[-1] = attrs.evolve(lines[-1], more=more)
        return lines

    def _some(
        self, states: Collection[str], reason: str, note: str = '', at: float | None = None
    ) -> list[Waiting]:
        """The first unit in these states, and how many there are."""
        count = sum(self._counts[state] for state in states)
        first = self._first(states) if count else None
        if first is None:
            return []
        return [attrs.evolve(self._line(first, reason, note), more=count - 1, at=at)]

    def _first(self, states: Collection[str]) -> UnitRecord | None:
        """Of those that don't wait elsewhere."""
        units = self._store.units(
            self._record.id,
            states=states,
            limit=_DUE if self._elsewhere else 1,
            with_tasks=False,
            order='queue',
        )
        theirs = {wait.backend for wait in self._elsewhere}
        own = [unit for unit in units if unit.backend not in theirs]
        return next(iter(own or units), None)

    def _line(self, unit: UnitRecord, reason: str, note: str) -> Waiting:
        return Waiting(
            who=self._who,
            unit=unit.label,
            since=unit.queued_at or unit.created_at,
            came=unit.created_at,
            importance=unit.importance,
            reason=reason,
            note=note,
            id=unit.id,
        )

    def _restarting(self) -> list[Waiting]:
        count = self._counts[RESTARTING]
        if not count:
            return []
        units = self._store.units(
            self._record.id, states=(RESTARTING,), limit=_DUE, with_tasks=False
        )
        first = min(units, key=lambda unit: unit.not_before or 0.0, default=None)
        if first is None:
            return []
        line = self._line(first, explain.BACKOFF, first.message)
        return [attrs.evolve(line, more=count - 1, at=first.not_before)]


def _is_elsewhere(wait: Wait) -> bool:
    """Whether it waits in another queue than this host's, or to get there; not what is being handed over just now."""
    if wait.is_taken or wait.reason:
        return True
    return wait.state == QUEUED and wait.backend not in _AT_HOME
