"""Reading logs: the last lines of a huge file, a file that grows, and lines of several jobs side by side."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_CHUNK: Final = 1 << 18
# A progress bar ends its lines with \r, and may not end one with \n for hours.
_LINE: Final = re.compile(rb'[^\r\n]*(?:\r\n|\n|\r(?=[^\n]))')


def tail_offset(file: BinaryIO, count: int) -> int:
    """Where the last `count` lines of a file begin, in bytes; reads from the end, no more than it needs."""
    end = file.seek(0, os.SEEK_END)
    if count == 0 or end == 0:
        return end
    file.seek(end - 1)
    # A line without an end is a line too.
    wanted = count + (file.read(1) == b'\n')
    position = end
    while position > 0:
        start = max(position - _CHUNK, 0)
        file.seek(start)
        block = file.read(position - start)
        found = block.count(b'\n')
        if found >= wanted:
            for _ in range(wanted):
                block = block[: block.rfind(b'\n')]
            return start + len(block) + 1
        wanted -= found
        position = start
    return 0


class Follower:
    """A file that may not be there yet, and may grow, shrink, vanish or be replaced while it is read.

    What a process goes on writing to a deleted file is still read, until another file takes its name.
    """

    def __init__(self, path: Path, tail: int | None = None) -> None:
        self.path = path
        self.seen = False
        self._tail = tail
        self._file: BinaryIO | None = None
        self._left: tuple[os.stat_result, int] | None = None

    def read(self) -> Iterator[bytes]:
        """What has come since the last call, in pieces."""
        if self._file is None and not self._open():
            return
        yield from self._drain()
        if self._is_replaced():
            self.close()
            if self._open():
                yield from self._drain()

    def close(self) -> None:
        """Lets go of the file; another `read` goes on where this one ended."""
        if self._file is not None:
            self._left = os.fstat(self._file.fileno()), self._file.tell()
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        try:
            self._file = self.path.open('rb', buffering=0)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if self._tail is not None and not self.seen:
            self._file.seek(tail_offset(self._file, self._tail))
        elif self._left and os.path.samestat(self._left[0], os.fstat(self._file.fileno())):
            self._file.seek(self._left[1])
        self.seen = True
        return True

    def _drain(self) -> Iterator[bytes]:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            yield chunk

    def _is_replaced(self) -> bool:
        assert self._file is not None
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        return not os.path.samestat(there, os.fstat(self._file.fileno()))


class Prefixer:
    """Puts a prefix before each line, and gives out whole lines only, so that those of several jobs don't mix."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._pieces: list[bytes] = []

    def lines(self, chunk: bytes) -> bytes:
        """The lines that `chunk` completes."""
        # A long line comes in many chunks: join them once, when its end is there.
        self._pieces.append(chunk)
        if b'\n' not in chunk and b'\r' not in chunk:
            return b''
        pending = b''.join(self._pieces)
        end = 0
        out: list[bytes] = []
        for match in _LINE.finditer(pending):
            out += (self._prefix, match.group())
            end = match.end()
        self._pieces = [pending[end:]]
        return b''.join(out)

    def rest(self) -> bytes:
        """The last line, if it has no end; now it has."""
        pending = b''.join(self._pieces)
        self._pieces = []
        return self._prefix + pending.removesuffix(b'\r') + b'\n' if pending else b''
