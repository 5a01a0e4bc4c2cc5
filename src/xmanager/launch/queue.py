"""Who waits, and why: of this home by its store, of other homes and users by the ledger of this host."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from xmanager.ledger import Entry, Reader, explain, place
from xmanager.ledger.explain import Waiting, Who
from xmanager.ledger.place import Place
from xmanager.store import CREATING, QUEUED, RESTARTING, STARTING, Store
from xmanager.store.presence import Presence
from xmanager.store.values import ExperimentRecord

_WAITING: Final = (STARTING, QUEUED, RESTARTING, CREATING)
_RUNS: Final = 10  # Sentences for one experiment; what is behind is told by its number.
_DUE: Final = 64  # Units that are tried again, among which the first is looked for.
_LOOKS, _PAUSE = 3, 0.1
_ORDER: Final = {
    explain.STARTING: 0,
    explain.BACKOFF: 2,
    explain.UNSEEN: 3,
    explain.GENERATOR: 4,
    explain.UNSUPERVISED: 5,
    explain.PAUSED: 6,
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
    alone = _unsupervised(records, {_number(store, entry) for entry in entries if entry.alive})
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

    def lines(self, told: Sequence[Waiting], is_alone: bool, elsewhere: str) -> list[Waiting]:
        """`told` is what its supervisor says; `elsewhere` the ledger in which it says nothing."""
        if is_alone:
            why = f'no supervisor is alive: xmanager supervise {self._record.id}'
            return self._some(_WAITING, explain.UNSUPERVISED, why)
        found = self._some((STARTING,), explain.STARTING)
        if self._record.paused_at is not None:
            found += self._some((QUEUED,), explain.PAUSED, at=self._record.paused_at)
        elif told:
            found += self._queued(told)
        else:
            found += self._some((QUEUED,), explain.UNSEEN, self._unseen(elsewhere))
        found += self._restarting()
        why = 'its job generator has not ended'
        return found + self._some((CREATING,), explain.GENERATOR, why)

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
        more = self._record.counts.get(QUEUED, 0) - sum(one.count for one in lines)
        if lines and more > 0:
            lines[-1] = attrs.evolve(lines[-1], more=more)
        return lines

    def _some(
        self, states: Collection[str], reason: str, note: str = '', at: float | None = None
    ) -> list[Waiting]:
        """The first unit in these states, and how many there are."""
        count = sum(self._record.counts.get(state, 0) for state in states)
        if not count:
            return []
        first = self._store.units(
            self._record.id, states=states, limit=1, with_tasks=False, order='queue'
        )
        return [
            Waiting(
                who=self._who,
                unit=unit.label,
                since=unit.queued_at or unit.created_at,
                came=unit.created_at,
                importance=unit.importance,
                reason=reason,
                more=count - 1,
                at=at,
                note=note,
                id=unit.id,
            )
            for unit in first
        ]

    def _restarting(self) -> list[Waiting]:
        count = self._record.counts.get(RESTARTING, 0)
        if not count:
            return []
        units = self._store.units(
            self._record.id, states=(RESTARTING,), limit=_DUE, with_tasks=False
        )
        first = min(units, key=lambda unit: unit.not_before or 0.0, default=None)
        if first is None:
            return []
        return [
            Waiting(
                who=self._who,
                unit=first.label,
                since=first.queued_at or first.created_at,
                came=first.created_at,
                importance=first.importance,
                reason=explain.BACKOFF,
                more=count - 1,
                at=first.not_before,
                note=first.message,
                id=first.id,
            )
        ]
