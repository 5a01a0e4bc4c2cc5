"""Requests to one registry, logged in, with patience; and what its refusals mean in a sentence."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from email.message import Message
from typing import Final
from urllib.parse import urljoin

import attrs

from xmanager.errors import PackagingError
from xmanager.images.credentials import Credentials, credentials_for
from xmanager.images.reference import DEFAULT_REGISTRY, Reference
from xmanager.images.registry_login import Login, login_command, parse_challenges
from xmanager.images.registry_patience import BusyError, Patience
from xmanager.images.transport import Answer, CutError, Transport
from xmanager.images.transport_address import Origin, is_loopback
from xmanager.images.transport_bodies import Body

_API_HOSTS: Final = {DEFAULT_REGISTRY: 'registry-1.docker.io'}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_ERROR_BYTES: Final = 2**16
_TOKEN_BYTES: Final = 2**20
_AGENT: Final = 'xmanager'


class NotThereError(PackagingError):
    """The registry knows nothing of that name."""


@attrs.frozen
class Reply:
    """An answer that was read whole."""

    status: int
    headers: Message
    body: bytes
    url: str


class Session:
    """One registry, as one repository's user sees it. Thread-safe; to be closed."""

    def __init__(
        self,
        reference: Reference,
        environ: Mapping[str, str],
        patience: Patience,
        transport: Transport,
    ) -> None:
        self.registry = reference.registry
        self.patience = patience
        self._transport = transport
        self._plain = frozenset(
            name.strip()
            for name in environ.get('XM_INSECURE_REGISTRIES', '').split(',')
            if name.strip()
        )
        host = _API_HOSTS.get(self.registry, self.registry)
        self.base = f'{"http" if self._is_plain(host) else "https"}://{host}'
        self._speaks_plainly = False

        def find_credentials() -> Credentials | None:
            return credentials_for(self.registry, environ, reference.repository)

        self._login = Login(self.registry, find_credentials, self._ask, patience.clock, self._plain)

    def _is_plain(self, host: str) -> bool:
        return is_loopback(Origin.of(f'http://{host}').host) or host in self._plain

    def url(self, path: str) -> str:
        """The URL of a path that begins with `/v2/`."""
        return self.base + path

    def request(
        self,
        what: str,
        method: str,
        path: str,
        scopes: tuple[str, ...],
        *,
        ok: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: bytes = b'',
        limit: int = _ERROR_BYTES,
    ) -> Reply:
        """One request until it is answered with one of the statuses of `ok`.

        `what` says what is asked for, as the subject of a sentence. Raises PackagingError.
        """

        def attempt() -> Reply:
            answer = self.exchange(method, self.url(path), scopes, headers or {}, body)
            return self.settle(what, answer, ok, limit)

        return self.patience.keep_trying(what, attempt)

    def settle(
        self, what: str, answer: Answer, ok: Collection[int], limit: int = _ERROR_BYTES
    ) -> Reply:
        """Reads an answer; raises BusyError, CutError or PackagingError by what it means if its status isn't `ok`."""
        if answer.status in ok:
            return Reply(answer.status, answer.headers, answer.read(limit), answer.url)
        said = _said(answer)
        if answer.status in (429, 503):
            seconds = self.patience.retry_after(answer.headers.get('Retry-After'))
            if answer.status == 429 or seconds is not None:
                raise BusyError(f'{self.registry} is busy ({answer.status})', seconds)
        if answer.status >= 500 or answer.status == 408:
            raise CutError(f'{self.registry} answered with {answer.status}{said}', answered=True)
        failure = NotThereError if answer.status == 404 else PackagingError
        raise failure(f'{what}: {self._refusal(answer.status, said)}')

    def exchange(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: Mapping[str, str],
        body: Body = b'',
    ) -> Answer:
        """One request and the first answer that is neither a question for a login nor a redirect of a GET."""
        url = self._straight(url)
        authorization = self._login.header(scopes) if self._is_ours(url) else ''
        answer = self._send(method, url, headers, body, authorization)
        if answer.status == 401 and self._is_ours(url):
            challenges = parse_challenges(answer.headers.get_all('WWW-Authenticate') or ())
            try:
                other = self._login.answer(challenges, scopes, authorization)
            except BaseException:
                answer.discard()
                raise
            if other and isinstance(body, bytes):
                _drop(answer)
                answer = self._send(method, url, headers, body, other)
            elif other:
                answer.discard()
                raise CutError(f'{self.registry} wanted a new login in the middle of an upload')
        if method == 'GET' and answer.status in _REDIRECTS:
            return self._follow(method, url, scopes, headers, answer)
        return answer

    def _follow(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: Mapping[str, str],
        answer: Answer,
    ) -> Answer:
        """Storage of blobs is often elsewhere: it gets neither a password nor a token of ours."""
        for _ in range(_MOST_REDIRECTS):
            location = answer.headers.get('Location')
            _drop(answer)
            if not location:
                raise PackagingError(f'{self.registry} redirects {url} to nowhere.')
            url = self.absolute(location, url)
            self.check_target(url)
            authorization = self._login.header(scopes) if self._is_ours(url) else ''
            answer = self._send(method, url, headers, b'', authorization)
            if answer.status not in _REDIRECTS:
                return answer
        answer.discard()
        raise PackagingError(f'{self.registry} redirects more than {_MOST_REDIRECTS} times: {url}.')

    def absolute(self, location: str, url: str) -> str:
        """Where a Location of an answer to a request to `url` leads."""
        try:
            target = urljoin(url, location)
        except ValueError:
            target = location
        Origin.of(target)
        return self._straight(target)

    def _straight(self, url: str) -> str:
        """A registry behind a proxy that speaks TLS for it may name itself without it."""
        ours, other = Origin.of(self.base), Origin.of(url)
        if ours.scheme == 'https' and other.scheme == 'http' and ours.host == other.host:
            return f'https://{url.partition("://")[2]}'
        return url

    def _is_ours(self, url: str) -> bool:
        return Origin.of(url) == Origin.of(self.base)

    def check_target(self, url: str) -> None:
        """Raises PackagingError for a place to which the registry sends us and where anybody may listen in."""
        origin = Origin.of(url)
        if origin.scheme == 'http' and not self._is_plain(origin.address):
            raise PackagingError(
                f'{self.registry} sends to {origin.address} without TLS: refused. '
                f'If that is meant, add {origin.address} to XM_INSECURE_REGISTRIES.'
            )

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body, authorization: str
    ) -> Answer:
        sent = {'User-Agent': _AGENT, **headers}
        if authorization:
            sent['Authorization'] = authorization
        answer = self._transport.send(method, url, sent, body)
        if url.startswith('http:') and not self._speaks_plainly and isinstance(body, bytes):
            if answer.status == 400 and self._is_here(url):
                return self._upgraded(answer, method, url, sent, body)
            self._speaks_plainly = True
        return answer

    def _is_here(self, url: str) -> bool:
        ours, other = Origin.of(self.base), Origin.of(url)
        return (ours.host, ours.port) == (other.host, other.port)

    def _upgraded(
        self, answer: Answer, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """A registry of this machine may speak TLS after all: servers written in Go say so, to HEAD without words."""
        said = answer.read(_ERROR_BYTES).decode(errors='replace')
        if method != 'HEAD' and 'HTTPS' not in said:
            raise PackagingError(f'{self.registry} does not understand {method} {url} (400).')
        secure = url.replace('http:', 'https:', 1)
        upgraded = self._transport.send(method, secure, headers, body)
        self.base = self.base.replace('http:', 'https:', 1)
        return upgraded

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """A request to the server of tokens: without a login, but with patience."""

        def attempt() -> tuple[int, bytes]:
            answer = self._transport.send(method, url, {'User-Agent': _AGENT, **headers}, body)
            if answer.status == 429 or answer.status >= 500:
                self.settle('', answer, ())
            return answer.status, answer.read(_TOKEN_BYTES)

        return self.patience.keep_trying(f'Asking {Origin.of(url).address} for a token', attempt)

    def _refusal(self, status: int, said: str) -> str:
        command = login_command(self.registry)
        if status == 401:
            if self._login.known:
                return f'{self.registry} refuses the login that is kept for it{said}. Run `{command}` again.'
            return f'{self.registry} wants a login{said}. Run `{command}`.'
        if status == 403:
            return f'{self.registry} forbids it{said}. Run `{command}` as a user who may.'
        if status == 404:
            return f'{self.registry} knows no such name{said}. Look for a mistake in it, or create the repository.'
        if status == 413:
            return f'{self.registry} finds it too large{said}.'
        return f'{self.registry} answered with {status}{said}.'


def _drop(answer: Answer) -> None:
    """Reads what is short, so that the connection can be used again."""
    try:
        answer.read(_ERROR_BYTES)
    except (PackagingError, CutError):
        answer.discard()


def _said(answer: Answer) -> str:
    """What the registry said itself, if it did: ` (DENIED: …)`, printable and short."""
    try:
        body = answer.read(_ERROR_BYTES)
    except (PackagingError, CutError):
        return ''
    try:
        first = json.loads(body)['errors'][0]
        words = [str(first[key]) for key in ('code', 'message') if first.get(key)]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return ''
    text = ''.join(one if one.isprintable() else ' ' for one in ': '.join(words)).strip()
    return f' ({text[:200]})' if text else ''
