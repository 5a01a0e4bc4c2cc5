"""The signals that a keeper handles, which whoever starts one blocks until it can."""

from __future__ import annotations

import signal

FORWARDED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGTERM,
    }
)
"""Handed on to the container."""

KILL = signal.SIGRTMIN
"""Tells a keeper to have its container sent SIGKILL, which no keeper survives to see the end of."""

AGAIN = signal.SIGRTMIN + 1
"""A keeper's own: tells it to try again what the engine did not take."""

HANDLED = FORWARDED | {KILL}
