"""How long a registry is borne with: what is tried again after which pause, and when to give up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import attrs

from xmanager.errors import PackagingError
from xmanager.images.transport import CutError, UnreachableError

T = TypeVar('T')

_ATTEMPTS: Final = 5
_PAUSES: Final = (0.2, 0.6, 2.0, 6.0)
# A registry that is busy for longer than this is told of, not waited for.
_LONGEST_WAIT: Final = 300.0
_BUSY_ATTEMPTS: Final = 8


class BusyError(Exception):
    """The registry is there and wants to be left alone for a while; `seconds` is None if it doesn't say how long."""

    def __init__(self, reason: str, seconds: float | None) -> None:
        super().__init__(reason)
        self.seconds = seconds


@attrs.frozen
class Patience:
    """Tries again what failed by no fault of ours. `tell` is called with what is waited for."""

    tell: Callable[[str], None]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def keep_trying(self, what: str, attempt: Callable[[], T]) -> T:
        """What `attempt` returns. `what` begins the sentence with which this gives up, a PackagingError.

        A connection that breaks (CutError) gets five attempts, counted anew whenever some of the work was done. A
        BusyError is waited for as long as it says, within bounds.
        """
        cuts = waits = 0
        while True:
            try:
                return attempt()
            except CutError as error:
                cuts = 1 if error.moved and cuts else cuts + 1
                if cuts >= _ATTEMPTS:
                    failure = PackagingError if error.answered else UnreachableError
                    raise failure(
                        f'{what} failed {cuts} times in a row, at last because {error}. Try again later.'
                    ) from None
                self.sleep(_PAUSES[cuts - 1])
            except BusyError as busy:
                waits += 1
                self._wait(what, busy, waits)

    def _wait(self, what: str, busy: BusyError, waits: int) -> None:
        seconds = float(2**waits) if busy.seconds is None else busy.seconds
        if seconds > _LONGEST_WAIT:
            raise PackagingError(
                f'{what} must wait: {busy}, and asks to come back in {_spoken(seconds)}. Try again then.'
            )
        if waits > _BUSY_ATTEMPTS:
            raise PackagingError(f'{what} failed: {busy}, {waits} times in a row. Try again later.')
        self.tell(f'waiting {_spoken(seconds)}: {busy}')
        self.sleep(seconds)

    def retry_after(self, header: str | None) -> float | None:
        """The seconds that a Retry-After header asks for, as a number or a date (RFC 9110, 10.2.3), if it does."""
        if header is None:
            return None
        text = header.strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        from email.utils import parsedate_to_datetime

        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self.clock())
        except (ValueError, OverflowError, TypeError, IndexError):
            return None


def _spoken(seconds: float) -> str:
    return f'{seconds:.0f} s' if seconds < 120 else f'{seconds / 60:.0f} min'
