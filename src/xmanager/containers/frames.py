"""What a container prints, as engines send it, and its way into a file: byte for byte, though the writer may be killed.

Docker Engine API, "Attach to a container", "Stream format": frames of one byte for the stream (1 is standard output, 2
standard error), three zeros, four bytes of length (big endian), and the bytes. A terminal's stream has no frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

_HEAD = 8
_WIDTH = 20


def split(pieces: Iterable[bytes], *, raw: bool) -> Iterator[tuple[int, bytes]]:
    """Parts of frames as soon as they come: the number of the stream and bytes. What breaks off early is given too."""
    if raw:
        yield from ((1, piece) for piece in pieces if piece)
        return
    head = bytearray()
    stream, left = 1, 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            if not left:
                missing = _HEAD - len(head)
                head += view[:missing]
                view = view[missing:]
                if len(head) == _HEAD:
                    stream, left = head[0] or 1, int.from_bytes(head[4:], 'big')
                    head.clear()
                continue
            part = view[:left]
            left -= len(part)
            view = view[len(part) :]
            yield stream, bytes(part)


class Log:
    """The file in which output is kept, and how much of each stream it has.

    Before a write a small file of its own is told what is about to be written. Who comes after a killed writer learns
    from it, and from the size of the log, how many bytes of either stream are there.
    """

    def __init__(self, descriptor: int, progress: str) -> None:
        self._log = descriptor
        self._progress = os.open(progress, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(descriptor).st_size
        self.written = {1: 0, 2: 0}
        self.lost = 0
        self.trouble = ''
        words = os.pread(self._progress, 4096, 0).split()
        if len(words) == 4:
            out, err, size, stream = map(int, words)
            self.written = {1: out, 2: err}
            self.written[stream] += max(0, self._size - size)

    def write(self, stream: int, data: bytes) -> None:
        """Appends bytes of a stream. What a full disk doesn't take is counted as `lost`, for the container goes on."""
        stream = 2 if stream == 2 else 1
        note = f'{self.written[1]:0{_WIDTH}} {self.written[2]:0{_WIDTH}} {self._size:0{_WIDTH}} {stream}'
        view = memoryview(data)
        try:
            os.pwrite(self._progress, note.encode(), 0)
            while view:
                count = os.write(self._log, view)
                self._size += count
                view = view[count:]
        except OSError as error:
            self.lost += len(view)
            self.trouble = error.strerror or str(error)
        self.written[stream] += len(data)

    def append_rest(self, frames: Iterable[tuple[int, bytes]]) -> None:
        """Appends what of an engine's whole record is not in the file yet.

        An engine's record ends with a newline also where the program did not print one. One that comes last and alone
        is left out.
        """
        skip = dict(self.written)
        held, has_written = 0, False
        for number, data in frames:
            stream = 2 if number == 2 else 1
            start = min(skip[stream], len(data))
            skip[stream] -= start
            rest = data[start:]
            if held and rest:
                self.write(held, b'\n')
                held = 0
            if rest.endswith(b'\n'):
                held, rest = stream, rest[:-1]
            if rest:
                has_written = True
                self.write(stream, rest)
        if held and (has_written or not self.written[held]):
            self.write(held, b'\n')


def pieces(receive: Callable[[], bytes]) -> Iterator[bytes]:
    """What `receive` returns until it returns nothing."""
    while piece := receive():
        yield piece
