"""A blob on its way from a registry: goes on where it was cut, and ends only if it is what was asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from xmanager.errors import PackagingError
from xmanager.images.registry_session import Session
from xmanager.images.transport import Answer, CutError
from xmanager.images.values import Descriptor

_CONTENT_RANGE: Final = re.compile(r'bytes (\d{1,18})-', re.ASCII)


class Download:
    """One blob, read once."""

    def __init__(
        self, session: Session, path: str, scopes: tuple[str, ...], descriptor: Descriptor
    ) -> None:
        self._session = session
        self._path = path
        self._scopes = scopes
        self._wanted = descriptor
        self._got = 0
        self._hash = hashlib.sha256()
        self._what = f'Reading the blob {descriptor.digest} of {session.registry}'
        self._blocks: Iterator[bytes] | None = None

    def blocks(self) -> Iterator[bytes]:
        """Its bytes. The last block is held back until the whole is known to be right."""
        try:
            if not self._wanted.size:
                self._check()
            while self._got < self._wanted.size:
                block = self._session.patience.keep_trying(self._what, self._next)
                self._got += len(block)
                self._hash.update(block)
                if self._got >= self._wanted.size:
                    self._check()
                yield block
        finally:
            self._close()

    def _next(self) -> bytes:
        if self._blocks is None:
            self._blocks = self._open()
        try:
            block = next(self._blocks, b'')
        except CutError:
            self._blocks = None
            raise
        if not block:
            self._blocks = None
            raise CutError('the blob came to an end too early', answered=True)
        return block

    def _open(self) -> Iterator[bytes]:
        headers = {'Range': f'bytes={self._got}-'} if self._got else {}
        url = self._session.url(self._path)
        answer = self._session.exchange('GET', url, self._scopes, headers)
        if self._got and answer.status == 416:
            answer.discard()
            answer = self._session.exchange('GET', url, self._scopes, {})
        if answer.status not in (200, 206):
            self._session.settle(self._what, answer, ())
        return self._from_where_it_was_cut(answer)

    def _from_where_it_was_cut(self, answer: Answer) -> Iterator[bytes]:
        start = 0
        if answer.status == 206:
            found = _CONTENT_RANGE.match(answer.headers.get('Content-Range', ''))
            start = int(found[1]) if found else -1
        if not 0 <= start <= self._got:
            answer.discard()
            raise PackagingError(
                f'{self._what}: it was asked for the bytes from {self._got} on, but sent others '
                f'({answer.headers.get("Content-Range", "")[:80]!r}): refused.'
            )
        return skip(answer.blocks(), self._got - start)

    def _check(self) -> None:
        self._close()
        digest = f'sha256:{self._hash.hexdigest()}'
        if self._got != self._wanted.size or digest != self._wanted.digest:
            raise PackagingError(
                f'{self._what}: what came has {self._got} bytes and the digest {digest}, '
                f'where {self._wanted.size} bytes were promised: refused.'
            )

    def _close(self) -> None:
        blocks, self._blocks = self._blocks, None
        # To read to the end lets the connection be used again; what is longer than promised isn't read.
        close = getattr(blocks, 'close', None)
        if blocks is not None and self._got == self._wanted.size:
            next(blocks, b'')
        if close is not None:
            close()


def skip(blocks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """All but the first `count` bytes."""
    for block in blocks:
        if count >= len(block):
            count -= len(block)
            continue
        yield block[count:]
        count = 0
