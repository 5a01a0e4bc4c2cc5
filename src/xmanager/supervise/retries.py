"""Whether a task that did not end well is tried again by itself, and after which wait. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import attrs

from xmanager.backend import TaskObservation
from xmanager.store import wording
from xmanager.supervise.outcomes import has_failed, has_gone_wrong

DEFAULT_RESTART_ON = ('failure', 'lost', 'preempted')
DEFAULT_BACKOFF = 1.0
LONGEST_DELAY = 3600.0

_CAUSES = frozenset({'timeout', 'preempted'})
_MOST_DOUBLINGS = (
    64  # More would only overflow: the shortest wait worth the name is an hour long by then.
)


@attrs.frozen
class Retry:
    """A restart that is due after `delay` seconds; `why` tells it in words: `restart 1 of 3 in 10 s`."""

    delay: float
    why: str


def decide(options: Mapping[str, Any], end: TaskObservation, restarts: int) -> Retry | None:
    """What follows the end of a task: a restart of its unit, or None if this end is final.

    `options` are the task's, `restarts` counts the automatic restarts since the last manual one. Not to be asked for
    a unit that somebody asked to stop, nor for the tasks that were stopped because another one went wrong.
    """
    most = options.get('max_restarts') or 0
    if restarts >= most or not has_gone_wrong(end):
        return None
    if not _names(end) & set(options.get('restart_on') or DEFAULT_RESTART_ON):
        return None
    delay = _delay(options.get('backoff'), restarts)
    when = f'in {delay:g} s' if delay else 'at once'
    return Retry(delay, f'restart {restarts + 1} of {most} {when}')


def _delay(backoff: float | None, restarts: int) -> float:
    first = DEFAULT_BACKOFF if backoff is None else backoff
    return float(min(LONGEST_DELAY, first * 2.0 ** min(restarts, _MOST_DOUBLINGS)))


def _names(end: TaskObservation) -> set[int | str]:
    """All that `restart_on` may call this end by."""
    names: set[int | str] = set()
    if end.cause in _CAUSES:
        names.add(end.cause)
    elif end.state == 'vanished':
        names.add('lost')
    elif has_failed(end):
        names.add('failure')
    number = _signal_number(end)
    if number is None:
        return names | ({end.exit_code} if end.exit_code else set())
    if end.cause == 'timeout':
        return names  # That signal was ours.
    return names | {wording.signal_name(number), 128 + number}


def _signal_number(end: TaskObservation) -> int | None:
    """The signal that ended a task, also where a shell or a container engine told it as exit code 128 + n."""
    number = end.signal or (end.exit_code or 0) - 128
    return number if number in _SIGNALS else None


_SIGNALS = frozenset(int(number) for number in signal.valid_signals())
