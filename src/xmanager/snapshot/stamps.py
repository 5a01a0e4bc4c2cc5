"""How it is told from a file's status alone that it is the one that was read before.

As git does it: a file that was changed in the tick of the clock in which it was read can be changed once more without
a trace in its times. Such a file gets the stamp 0, which nothing matches, so that it is read again.
"""

from __future__ import annotations

import os
import time
from typing import Final

TICK_NS: Final = 20_000_000
"""Times of files advance in steps: up to 10 ms on Linux (CONFIG_HZ=100)."""

_SECOND_NS: Final = 1_000_000_000
_COARSE_NS: Final = 2 * _SECOND_NS

NEVER: Final = 0
"""The stamp that no file has."""


def stamp(status: os.stat_result) -> int:
    """What changes when the file does: 64 bits of its times, size, place and mode."""
    return hash(
        (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode)
    )


def safe_stamp(status: os.stat_result, seen_ns: int) -> int:
    """The stamp of what was read from `seen_ns` on; NEVER if it may change again without a trace."""
    return NEVER if age_ns(status, seen_ns) < tick_ns(status) else stamp(status)


def age_ns(status: os.stat_result, now_ns: int) -> int:
    return now_ns - max(status.st_mtime_ns, status.st_ctime_ns)


def tick_ns(status: os.stat_result) -> int:
    """The step in which times advance there: file systems with whole seconds are known by them."""
    return _COARSE_NS if status.st_mtime_ns % _SECOND_NS == 0 else TICK_NS


def wait_a_tick(status: os.stat_result) -> None:
    """Waits, for 20 ms at most, until a change to come will be seen in the file's times."""
    remaining = TICK_NS - age_ns(status, time.time_ns())
    if 0 < remaining <= TICK_NS:
        time.sleep(remaining / 1e9)
