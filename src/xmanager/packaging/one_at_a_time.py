"""A lock of this machine for what many may ask for at once and one shall make."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def one_at_a_time(cache: Path, key: str, waits: Callable[[], None]) -> Iterator[None]:
    """Holds the lock of that name; `waits` is called if somebody else has it. The kernel lets go of it at death."""
    folder = cache / 'locks'
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / hashlib.sha256(key.encode()).hexdigest()).open('wb') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
