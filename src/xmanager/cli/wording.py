"""How times, amounts and counts are reckoned and said, beside `xmanager.store.wording`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from xmanager.store.values import ExperimentRecord, UnitRecord
    from xmanager.store.waits import Wait

ORDER: Final = (
    'completed',
    'failed',
    'lost',
    'stopped',
    'running',
    'starting',
    'waiting',
    'restarting',
    'queued',
    'creating',
)

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def elapsed(started_at: float | None, ended_at: float | None, now: float) -> float | None:
    """Seconds from start to end, or so far; None before the start."""
    if started_at is None:
        return None
    return round(max((now if ended_at is None else ended_at) - started_at, 0), 3)


def experiment_seconds(record: ExperimentRecord, now: float) -> float | None:
    """Seconds from creation to the end of the last unit, or so far; None without units."""
    if record.state == 'empty':
        return None
    return elapsed(record.created_at, record.ended_at, now)


def age(at: float, now: float) -> str:
    """How long ago: `5s ago`, `3h ago`, `12d ago`, and from 30 days on the date."""
    seconds = max(int(now - at), 0)
    for unit, size in (('d', _DAY), ('h', _HOUR), ('m', _MINUTE)):
        if seconds >= size:
            return day(at) if seconds >= 30 * _DAY else f'{seconds // size}{unit} ago'
    return f'{seconds}s ago'


def day(at: float) -> str:
    """The day here: `2026-01-31`."""
    return datetime.fromtimestamp(at).strftime('%Y-%m-%d')


def local_time(at: float | None) -> str:
    """Date and time of this machine's zone, to the second: `2026-01-31 13:05:09`."""
    return '' if at is None else datetime.fromtimestamp(at).strftime('%Y-%m-%d %H:%M:%S')


def iso(at: float | None) -> str:
    """ISO 8601 in UTC, to the millisecond: `2026-01-31T12:05:09.123Z`."""
    if at is None:
        return ''
    return datetime.fromtimestamp(at, UTC).isoformat(timespec='milliseconds')[:-6] + 'Z'


def shown_state(unit: UnitRecord) -> str:
    """Its state in a word for people: what an engine has in a queue of its own may be starting for days."""
    return 'waiting' if unit.state == 'starting' and unit.reference else unit.state


def shown_counts(counts: Mapping[str, int], waits: Iterable[Wait]) -> dict[str, int]:
    """How many units are in which state, each in that word; `waits` are those of the store."""
    waiting = sum(wait.count for wait in waits if wait.state == 'starting' and wait.is_taken)
    return dict(Counter(counts) + Counter(waiting=waiting) - Counter(starting=waiting))


def engines(backends: Iterable[str]) -> str:
    """What people call these back ends: `Slurm`."""
    from xmanager.ledger.sentences import engine_name

    return ' and '.join(engine_name(name) for name in sorted(set(backends)))


def states(counts: Mapping[str, int]) -> str:
    """`10 completed, 2 failed`."""
    return ', '.join(f'{counts[state]:,} {state}' for state in ORDER if counts.get(state))


def counts(by_state: Mapping[str, int]) -> str:
    """`12: 10 completed, 2 failed`; `0` without units."""
    total = sum(by_state.values())
    return f'{total:,}: {states(by_state)}' if total else '0'


def plural(count: int, noun: str) -> str:
    """`1 unit`, `1,200 units`."""
    return f'{count:,} {noun}' if count == 1 else f'{count:,} {noun}s'
