"""A blob on its way to a registry: one POST and one PUT, and what to do when that is cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Final

import attrs

from xmanager.errors import PackagingError
from xmanager.images.reference import Reference
from xmanager.images.registry_download import skip
from xmanager.images.registry_session import Session
from xmanager.images.transport import Answer, CutError
from xmanager.images.transport_bodies import Body, FileBody, StreamBody

_RANGE: Final = re.compile(r'(?:bytes=)?0-(\d{1,18})', re.ASCII)
_OCTETS: Final = {'Content-Type': 'application/octet-stream'}
# The registry has forgotten the upload, or doubts that a part belongs there: the blob is started again.
_LOST: Final = frozenset({404, 410, 416})


@attrs.frozen
class Blob:
    """What is sent: bytes, a file, or blocks that can be had anew."""

    digest: str
    size: int
    content: bytes | Path | Callable[[], Iterator[bytes]] = attrs.field(repr=False)

    def body(self, offset: int, sent: Callable[[int], None]) -> Body:
        """All but the first `offset` bytes."""
        if isinstance(self.content, bytes):
            return self.content[offset:]
        size = self.size - offset
        if isinstance(self.content, Path):
            return FileBody(self.content, offset, size, sent)
        return StreamBody(skip(self.content(), offset), size, sent)


class Upload:
    """One blob, sent once."""

    def __init__(
        self,
        session: Session,
        reference: Reference,
        scopes: tuple[str, ...],
        blob: Blob,
        sent: Callable[[int], None],
        is_there: Callable[[str], bool],
    ) -> None:
        self._session = session
        self._reference = reference
        self._scopes = scopes
        self._blob = blob
        self._report = sent
        self._is_there = is_there
        self._what = f'Uploading {blob.digest} to {reference.name}'
        self._location = ''
        self._reported = 0
        self._furthest = 0
        self._may_resume = True
        self._begun = False

    def run(self) -> Message | None:
        """The headers with which the registry took the blob; None if it turned out to have it."""
        return self._session.patience.keep_trying(self._what, self._attempt)

    def _attempt(self) -> Message | None:
        if self._begun and self._is_there(self._blob.digest):
            return None  # All had arrived, but for the answer.
        self._begun = True
        offset = self._resume() if self._location else 0
        if not offset:
            self._begin()
        moved, self._furthest = offset > self._furthest, max(offset, self._furthest)
        self._count(offset - self._reported)
        try:
            return self._send_rest(offset) if offset else self._send_all()
        except CutError as error:
            raise CutError(str(error), moved=moved, answered=error.answered) from None

    def _begin(self) -> None:
        path = f'/v2/{self._reference.repository}/blobs/uploads/'
        url = self._session.url(path)
        answer = self._session.exchange('POST', url, self._scopes, {})
        reply = self._session.settle(self._what, answer, {202})
        self._turn_to(reply.headers, reply.url)
        if not self._location:
            raise PackagingError(
                f'{self._what}: {self._reference.registry} began it, but did not say where.'
            )

    def _resume(self) -> int:
        """How many bytes the registry has; 0 if it can't tell or isn't to be trusted with it."""
        location, self._location = self._location, ''
        if not self._may_resume:
            return 0
        answer = self._session.exchange('GET', location, self._scopes, {})
        status, headers = answer.status, answer.headers
        answer.discard()
        found = _RANGE.fullmatch(headers.get('Range', '').strip())
        # `0-0` may be one byte or none.
        if (
            status not in (200, 202, 204)
            or found is None
            or not 0 < int(found[1]) < self._blob.size
        ):
            return 0
        self._location = location
        self._turn_to(headers, location)
        return int(found[1]) + 1

    def _turn_to(self, headers: Message, url: str) -> None:
        """The registry may say another place after each request."""
        location = headers.get('Location')
        if location:
            target = self._session.absolute(location, url)
            self._session.check_target(target)
            self._location = target

    def _send_all(self) -> Message:
        return self._finish(self._blob.body(0, self._count))

    def _send_rest(self, offset: int) -> Message:
        last = self._blob.size - 1
        if offset <= last:
            headers = {**_OCTETS, 'Content-Range': f'{offset}-{last}'}
            body = self._blob.body(offset, self._count)
            answer = self._session.exchange('PATCH', self._location, self._scopes, headers, body)
            if answer.status in _LOST or answer.status == 400:
                self._start_again(answer)
            reply = self._session.settle(self._what, answer, {200, 201, 202, 204})
            self._turn_to(reply.headers, reply.url)
        return self._finish(b'', resumed=True)

    def _finish(self, body: Body, *, resumed: bool = False) -> Message:
        joint = '&' if '?' in self._location else '?'
        url = f'{self._location}{joint}digest={self._blob.digest}'
        answer = self._session.exchange('PUT', url, self._scopes, _OCTETS, body)
        if answer.status in _LOST or (resumed and answer.status == 400):
            self._start_again(answer)
        return self._session.settle(self._what, answer, {200, 201, 202, 204}).headers

    def _start_again(self, answer: Answer) -> None:
        answer.discard()
        self._may_resume = False
        self._location = ''
        raise CutError(
            f'{self._reference.registry} has lost the upload ({answer.status})', answered=True
        )

    def _count(self, bytes_sent: int) -> None:
        self._reported += bytes_sent
        if bytes_sent:
            self._report(bytes_sent)
