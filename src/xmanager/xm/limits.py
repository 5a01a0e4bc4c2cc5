"""How long a job may run and how often it is tried again: settings that all executors share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, cast

import attrs

from xmanager.errors import ExecutorError

LONGEST_BACKOFF = 3600.0
"""The longest wait before a restart, in seconds."""

_WORDS = ('failure', 'timeout', 'preempted', 'lost')
_EXPECTED = (
    "Expected exit codes from 1 to 255, signals that end a job, such as 'SIGSEGV', or the words "
    "'failure', 'timeout', 'preempted' and 'lost'."
)
_POSITIVE = frozenset({'timeout', 'warn_before'})
# signal(7): these are ignored or stop a process, unless it handles them.
_NEVER_FATAL = frozenset(
    {'SIGCHLD', 'SIGCONT', 'SIGSTOP', 'SIGTSTP', 'SIGTTIN', 'SIGTTOU', 'SIGURG', 'SIGWINCH'}
)
WARNING_SIGNALS = (
    *('SIGALRM', 'SIGCONT', 'SIGHUP', 'SIGINT', 'SIGQUIT'),
    *('SIGTERM', 'SIGURG', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'),
)
"""A job's whole process group is sent the warning, and the runner beside the program survives these only."""

Cause = int | str | signal.Signals
"""An end of a job: an exit code, a signal or its name, or one of the words that `Limits` lists."""


def check_duration(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """An attrs validator of a duration: seconds, a timedelta or None."""
    _seconds(instance, attribute.name, value)


def _seconds(instance: object, name: str, value: Any) -> float | None:
    if value is None:
        return None
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(
            f'{_name(instance)}({name}={value!r}): expected seconds, a timedelta or None.'
        )
    sign = 'positive' if name in _POSITIVE else 'non-negative'
    # Not a number compares false, and a whole number may be larger than any float.
    if not 0 <= number <= sys.float_info.max or (number == 0 and name in _POSITIVE):
        raise ExecutorError(
            f'{_name(instance)}({name}={value!r}): expected a {sign}, finite number of seconds.'
        )
    return float(number)


def _check_backoff(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if (_seconds(instance, 'backoff', value) or 0) > LONGEST_BACKOFF:
        raise ExecutorError(
            f'{_name(instance)}(backoff={value!r}): no restart waits for longer than an hour. '
            f'Expected at most {LONGEST_BACKOFF:.0f} seconds.'
        )


def _check_max_restarts(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    said = f'{_name(instance)}(max_restarts={value!r})'
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'{said}: expected a whole number, such as 3.')
    if value < 0:
        raise ExecutorError(f'{said}: expected 0 (no restarts) or more.')


def _canonical(value: Cause) -> int | str:
    """A signal by its name, whichever way it was given; anything else as it is."""
    if isinstance(value, signal.Signals):
        return value.name
    if isinstance(value, str) and value in signal.Signals.__members__:
        return signal.Signals[value].name  # SIGIOT is SIGABRT
    return value


def _causes(value: Cause | Iterable[Cause] | None) -> tuple[int | str, ...] | None:
    """One cause or several as a sorted tuple. What is none stays in it, for the validator to name."""
    if value is None:
        return None
    is_one = isinstance(value, str | bytes) or not isinstance(value, Iterable)
    causes = [_canonical(cause) for cause in cast('Iterable[Cause]', (value,) if is_one else value)]
    distinct = {repr(cause): cause for cause in causes}.values()
    return tuple(sorted(distinct, key=_place))


def _place(cause: object) -> tuple[bool, int, str]:
    """Numbers first."""
    return (False, cause, '') if isinstance(cause, int) else (True, 0, str(cause))


def _check_restart_on(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    said = f'{_name(instance)}(restart_on={value!r})'
    if not value:
        raise ExecutorError(
            f'{said}: no end of a job is named, so that none would be restarted. '
            'Leave it out to restart after any failure, or name some.'
        )
    for cause in value:
        if isinstance(cause, bool) or not isinstance(cause, int | str):
            raise TypeError(f'{said}: {cause!r} is neither a whole number nor text. {_EXPECTED}')
        if trouble := _trouble(cause):
            raise ExecutorError(f'{said}: {cause!r} {trouble}. {_EXPECTED}')


def _trouble(cause: int | str) -> str:
    """Why a job never ends in this way; '' if it can."""
    if isinstance(cause, int):
        if cause == 0:
            return 'is success'
        return '' if 0 < cause < 256 else 'is no exit code'
    if cause in _WORDS or (cause in signal.Signals.__members__ and cause not in _NEVER_FATAL):
        return ''
    return 'is no signal that ends a job' if cause.startswith('SIG') else 'is not one of the words'


def _check_warn_signal(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value not in WARNING_SIGNALS:
        raise ExecutorError(
            f'{_name(instance)}(warn_signal={value!r}): no job can be warned by it. '
            f'Expected one of {", ".join(WARNING_SIGNALS)}.'
        )


def _name(instance: object) -> str:
    return type(instance).__name__


@attrs.define(slots=False, kw_only=True)
class Limits:
    """Retries and limits of a job; the executors inherit them. Durations are seconds or a timedelta.

    `max_restarts` is how often a unit whose job did not end well is run again by itself, in the same output folder.
    `restart_on` says after which ends: exit codes; signals, by name or as `signal.Signals`; and the words
    `'failure'` (any exit code or signal but those of the next words), `'timeout'`, `'preempted'` and `'lost'` (nobody
    knows how it ended). Unless stated, all but a timeout. What somebody asked to stop is never restarted.
    `backoff` is the wait before the first restart (1 s unless stated), doubled for each further one up to an hour.

    `timeout` ends the job when it has run for that long; `grace` is the time it has between TERM and KILL (10 s unless
    stated). `warn_before` that timeout, `warn_signal` is sent to the job once, for it to save what it has.
    """

    max_restarts: int = attrs.field(default=0, validator=_check_max_restarts)
    restart_on: tuple[int | str, ...] | None = attrs.field(
        default=None, converter=_causes, validator=_check_restart_on
    )
    backoff: float | timedelta | None = attrs.field(default=None, validator=_check_backoff)
    timeout: float | timedelta | None = attrs.field(default=None, validator=check_duration)
    grace: float | timedelta | None = attrs.field(default=None, validator=check_duration)
    warn_before: float | timedelta | None = attrs.field(default=None, validator=check_duration)
    warn_signal: int | str = attrs.field(
        default='SIGUSR1', converter=_canonical, validator=_check_warn_signal
    )

    def __attrs_post_init__(self) -> None:
        self._check_together()

    def options(self) -> dict[str, Any]:
        """The settings as `Task.options`: JSON values, durations in seconds, None for what was left to us."""
        self._check_together()  # again: each may have been assigned since
        return {
            'max_restarts': self.max_restarts,
            'restart_on': None if self.restart_on is None else list(self.restart_on),
            'warn_signal': self.warn_signal,
            **{name: _seconds(self, name, getattr(self, name)) for name in _DURATIONS},
        }

    def _check_together(self) -> None:
        name = _name(self)
        timeout = _seconds(self, 'timeout', self.timeout)
        warn_before = _seconds(self, 'warn_before', self.warn_before)
        if self.restart_on is not None and self.max_restarts == 0:
            raise ExecutorError(
                f'{name}(restart_on={self.restart_on!r}, max_restarts=0): nothing would be restarted. '
                'Set max_restarts to 1 or more.'
            )
        if 'timeout' in (self.restart_on or ()) and timeout is None:
            raise ExecutorError(
                f"{name}(restart_on={self.restart_on!r}): 'timeout' never happens to a job without one. "
                'Set timeout too.'
            )
        if warn_before is not None and timeout is None:
            raise ExecutorError(
                f'{name}(warn_before={self.warn_before!r}): without a timeout there is nothing to warn of. '
                'Set timeout too.'
            )
        if warn_before is not None and timeout is not None and warn_before >= timeout:
            raise ExecutorError(
                f'{name}(timeout={self.timeout!r}, warn_before={self.warn_before!r}): the warning would come before '
                'the job begins. Expected warn_before to be shorter than timeout.'
            )


_DURATIONS = ('backoff', 'timeout', 'grace', 'warn_before')
