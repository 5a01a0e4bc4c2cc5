"""What a request carries: bytes, a part of a file that the kernel sends, or blocks that come from elsewhere."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import Final

import attrs

from xmanager.errors import PackagingError

BLOCK: Final = 2**18
_PIECE: Final = 2**23  # Between two reports of how far an upload is.


@attrs.frozen
class FileBody:
    """A part of a file; `sent` is called with the count of bytes that went out since the last call."""

    path: Path
    offset: int
    size: int
    sent: Callable[[int], None]


@attrs.frozen
class StreamBody:
    """Blocks of `size` bytes in all, which can be sent once only."""

    blocks: Iterable[bytes]
    size: int
    sent: Callable[[int], None]


Body = bytes | FileBody | StreamBody


def send_body(sock: socket.socket, body: FileBody | StreamBody) -> None:
    if isinstance(body, StreamBody):
        for block in body.blocks:
            sock.sendall(block)
            body.sent(len(block))
        return
    with body.path.open('rb') as file:
        left = body.size
        file.seek(body.offset)
        while left:
            count = _send_piece(sock, file, body.offset + body.size - left, min(left, _PIECE))
            if not count:
                raise PackagingError(f'{body.path} became shorter while it was sent.')
            left -= count
            body.sent(count)


def _send_piece(sock: socket.socket, file: BufferedReader, offset: int, size: int) -> int:
    if not isinstance(sock, ssl.SSLSocket):
        return sock.sendfile(file, offset, size)
    data = file.read(min(size, BLOCK))
    sock.sendall(data)
    return len(data)
