"""Waiting for a condition with a deadline: the one way in which these tests wait."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar('T')

DEADLINE = 60.0  # Seconds; only a failing test comes near it.
_PERIOD = 0.02


def until(condition: Callable[[], T], deadline: float = DEADLINE) -> T:
    """The first truthy value of `condition`; fails the test if there is none within `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        # A look begun before the end still counts, however long the machine kept us from it.
        in_time = time.monotonic() < end
        if value := condition():
            return value
        assert in_time, f'within {deadline:g} s it did not come to this: {_told(condition)}'
        time.sleep(_PERIOD)


def _told(condition: Callable[[], object]) -> str:
    code = condition.__code__ if hasattr(condition, '__code__') else None
    return f'{code.co_filename}:{code.co_firstlineno}' if code else repr(condition)
