"""Puts a file into its place in one step."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def beside(path: Path) -> Path:
    """A name in the same folder that nobody else uses, on whatever host or in whatever container."""
    return path.with_name(f'.{path.name[:80]}.{os.urandom(8).hex()}')


def replace(path: Path, data: bytes) -> None:
    """Readers see the old content or the new one; a failure leaves the old one."""
    new = beside(path)
    try:
        new.write_bytes(data)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
