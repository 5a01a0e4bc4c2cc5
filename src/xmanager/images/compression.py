"""Gzip on several threads: one ordinary stream, deflated in blocks, the same bytes for the same blocks."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

BLOCK_BYTES: Final = 2**20
_THREADS: Final = min(4, os.cpu_count() or 1)
# RFC 1952: deflate, no flags, no time, fastest algorithm, unknown system.
_HEADER: Final = b'\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff'
_RAW: Final = -15
_FASTEST, _STORE = 1, 0
_SAMPLE: Final = 4096
# Random data and most weights pass through deflate at a twentieth of the speed of a copy and come out as they were.
_WORTH_IT: Final = 0.9


def blocks_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of at least `BLOCK_BYTES`, but for the last."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield b''.join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b''.join(waiting)


def gzip_chunks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Compresses the blocks, several at a time. Each ends at a byte boundary, as in pigz: all readers take it."""
    checksum, length = 0, 0
    yield _HEADER
    with ThreadPoolExecutor(_THREADS, 'deflate') as executor:
        at_work: deque[Future[bytes]] = deque()
        for block in blocks:
            at_work.append(executor.submit(_deflated, block))
            checksum = zlib.crc32(block, checksum)
            length += len(block)
            # As many as there are threads are ahead: memory stays bounded.
            while len(at_work) > _THREADS:
                yield at_work.popleft().result()
        for future in at_work:
            yield future.result()
    # An empty last block, then the checksum and the length modulo 2³².
    yield zlib.compressobj(_FASTEST, zlib.DEFLATED, _RAW).flush(zlib.Z_FINISH)
    yield checksum.to_bytes(4, 'little') + (length & 0xFFFFFFFF).to_bytes(4, 'little')


def _deflated(block: bytes) -> bytes:
    level = _FASTEST if _compresses(block) else _STORE
    compressor = zlib.compressobj(level, zlib.DEFLATED, _RAW)
    return compressor.compress(block) + compressor.flush(zlib.Z_SYNC_FLUSH)


def _compresses(block: bytes) -> bool:
    """Judged by its beginning, its middle and its end."""
    if len(block) < 4 * _SAMPLE:
        return True
    middle = len(block) // 2
    sample = block[:_SAMPLE] + block[middle : middle + _SAMPLE] + block[-_SAMPLE:]
    return len(zlib.compress(sample, _FASTEST)) < _WORTH_IT * len(sample)
