"""Reads what a job has newly printed, as whole lines with its prefix."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 1 << 16
_TURN = 1 << 22  # Bytes that are read at a time while the job runs.
_LONGEST = 1 << 16  # Bytes of a line that are gathered before it is shown in parts.
_REFRESH = 1.0  # Seconds between two questions to the server of a network file system.


class LogTail:
    """One job's log, read as it grows. The file need not be there yet, may go away, and may begin anew."""

    def __init__(self, path: str | Path, prefix: bytes) -> None:
        self._path = path
        self._prefix = prefix
        self._inode = 0
        self._offset = 0
        self._partial = b''
        self._refreshed_at = 0.0

    def read(self, *, rest: bool = False) -> Iterator[bytes]:
        """New whole lines with prefix and newline, some at a time; with `rest` also the last one without a newline.

        Without `rest` it stops after a while, however much there is, so that others get their turn.
        """
        for data in self._new_data(None if rest else _TURN):
            *whole, self._partial = (self._partial + data).split(b'\n')
            if len(self._partial) > _LONGEST:
                whole.append(self._partial)
                self._partial = b''
            if whole:
                yield self._prefixed(whole)
        if rest and self._partial:
            yield self._prefixed([self._partial])
            self._partial = b''

    def _prefixed(self, lines: list[bytes]) -> bytes:
        return b''.join(self._prefix + line + b'\n' for line in lines)

    def _new_data(self, most: int | None) -> Iterator[bytes]:
        if time.monotonic() > self._refreshed_at + _REFRESH:
            self._refreshed_at = time.monotonic()
            refresh(self._path)
        try:
            status = os.stat(self._path)
            if status.st_ino != self._inode or status.st_size < self._offset:
                # Of another attempt, or truncated.
                self._inode, self._offset = status.st_ino, 0
                if self._partial:
                    yield b'\n'
            if status.st_size <= self._offset:
                return
            with open(self._path, 'rb') as file:
                file.seek(self._offset)
                end = None if most is None else self._offset + most
                while (end is None or self._offset < end) and (data := file.read(_CHUNK)):
                    self._offset += len(data)
                    yield data
        except FileNotFoundError:  # Not started yet, or the user has deleted it.
            self._inode = 0
        except OSError:  # Its disk is gone.
            return


def refresh(path: str | Path) -> None:
    """Has a network file system ask its server how long the file is; else the answer may be a minute old.

    Each opening of a file asks, and what was opened before knows it then, too (man 5 nfs: close-to-open).
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log for a person to read; none if it can't be read."""
    try:
        with path.open('rb') as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 200 * count))
            text = file.read().decode('utf-8', 'replace')
    except OSError:
        return []
    return text.splitlines()[-count:]
