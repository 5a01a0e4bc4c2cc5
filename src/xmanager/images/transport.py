"""HTTP as registries need it: connections that are kept and used again, bodies straight from files, bounded reading."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from xmanager.errors import PackagingError
from xmanager.images.transport_address import Origin
from xmanager.images.transport_bodies import BLOCK, Body, send_body
from xmanager.images.transport_proxies import proxy_for

_CONNECT_SECONDS: Final = 15.0
_SECONDS: Final = 60.0
# A registry answers the end of a blob when it has hashed it and moved it to its place.
_BODY_SECONDS: Final = 300.0


class CutError(Exception):
    """The connection broke, or what came over it was no HTTP, or the server is out of order.

    `moved` tells whether some of the work is done and need not be done again, `answered` whether the server answered.
    """

    def __init__(self, reason: str, *, moved: bool = False, answered: bool = False) -> None:
        super().__init__(reason)
        self.moved = moved
        self.answered = answered


class UnreachableError(PackagingError):
    """Nobody answers there."""


class Answer:
    """A response whose body is still to be read: by `read`, `blocks` or `discard`, one of them and once."""

    def __init__(
        self, response: http.client.HTTPResponse, connection: _Connection, url: str, keep: bool
    ) -> None:
        self.status = response.status
        self.headers = response.headers
        self.url = url
        self._response = response
        self._connection = connection
        self._keep = keep

    def read(self, limit: int) -> bytes:
        """The whole body. Raises PackagingError if it is longer than `limit`, CutError if it breaks off."""
        parts: list[bytes] = []
        size = 0
        for block in self.blocks():
            size += len(block)
            if size > limit:
                self.discard()
                raise PackagingError(
                    f'{self._connection.origin.address} answered with more than {limit} bytes where fewer '
                    f'were expected ({urlsplit(self.url).path}).'
                )
            parts.append(block)
        return b''.join(parts)

    def blocks(self) -> Iterator[bytes]:
        """The body, block by block. Raises CutError if it breaks off: who keeps blocks knows how far it got."""
        done = False
        try:
            while block := self._response.read(BLOCK):
                yield block
            # http.client takes an end that comes too early for the end.
            if self._response.length:
                raise CutError(
                    'the connection was closed in the middle of an answer', answered=True
                )
            done = True
        except (OSError, http.client.HTTPException) as error:
            raise CutError(_reason(error), answered=True) from None
        finally:
            if done and self._keep:
                self._connection.give_back()
            else:
                self._connection.close()

    def discard(self) -> None:
        """Does without the body."""
        self._connection.close()


class _Connection:
    """One connection, and the shelf from which it was taken."""

    def __init__(self, origin: Origin, line: http.client.HTTPConnection, shelf: Transport) -> None:
        self.origin = origin
        self.line = line
        self.shelf = shelf
        self.used = False

    def give_back(self) -> None:
        self.used = True
        self.shelf.put(self)

    def close(self) -> None:
        self.shelf.forget(self)
        self.line.close()

    def hang_up(self) -> None:
        """Ends what another thread waits for on it."""
        sock = self.line.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Transport:
    """Sends requests over as many connections as there are threads that send; thread-safe.

    Certificates are checked against those of the system, or `$SSL_CERT_FILE` and `$SSL_CERT_DIR`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._cafile = environ.get('SSL_CERT_FILE') or None
        self._capath = environ.get('SSL_CERT_DIR') or None
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._context: ssl.SSLContext | None = None
        self._answered: set[Origin] = set()
        self._closed = False

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes what is idle now, and what is given back later."""
        with self._lock:
            self._closed = True
            connections = [one for shelf in self._idle.values() for one in shelf]
            self._idle.clear()
        for connection in connections:
            connection.close()

    def abort(self) -> None:
        """Ends all that is under way in other threads, there and then."""
        with self._lock:
            for connection in self._busy:
                connection.hang_up()

    def forget(self, connection: _Connection) -> None:
        """It is being closed."""
        with self._lock:
            self._busy.discard(connection)

    def put(self, connection: _Connection) -> None:
        """Takes a connection back whose last answer was read to its end."""
        with self._lock:
            self._busy.discard(connection)
            if not self._closed:
                self._idle.setdefault(connection.origin, []).append(connection)
                return
        connection.close()

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body = b'') -> Answer:
        """One request, one answer. Raises CutError if there was none, PackagingError if there can't be any."""
        origin = Origin.of(url)
        while True:
            connection = self._take(origin)
            try:
                return self._exchange(connection, method, url, headers, body)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if connection.used and isinstance(body, bytes) and _is_hang_up(error):
                    continue  # It had been idle for too long, and the server has closed it.
                raise self._trouble(origin, error) from None
            except BaseException:
                connection.close()
                raise

    def _take(self, origin: Origin) -> _Connection:
        with self._lock:
            shelf = self._idle.get(origin)
            if shelf:
                connection = shelf.pop()
                self._busy.add(connection)
                return connection
        line = self._line(origin)
        connection = _Connection(origin, line, self)
        with self._lock:
            self._busy.add(connection)
        return connection

    def _line(self, origin: Origin) -> http.client.HTTPConnection:
        if origin.scheme == 'http':
            return http.client.HTTPConnection(origin.host, origin.port, timeout=_CONNECT_SECONDS)
        proxy = proxy_for(origin, self._environ)
        first = proxy or origin
        line = http.client.HTTPSConnection(
            first.host, first.port, timeout=_CONNECT_SECONDS, context=self._tls(origin)
        )
        if proxy is not None:
            line.set_tunnel(origin.host, origin.port, dict(proxy.headers))
        return line

    def _tls(self, origin: Origin) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                try:
                    self._context = ssl.create_default_context(
                        cafile=self._cafile, capath=self._capath
                    )
                except (OSError, ssl.SSLError) as error:
                    raise PackagingError(
                        f'SSL_CERT_FILE={self._cafile}, with which {origin.address} would be checked, '
                        f'could not be read: {error.strerror or error}.'
                    ) from None
            return self._context

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body,
    ) -> Answer:
        line = connection.line
        if line.sock is None:
            line.connect()
        line.sock.settimeout(_BODY_SECONDS if body else _SECONDS)
        parts = urlsplit(url)
        target = (parts.path or '/') + (f'?{parts.query}' if parts.query else '')
        line.putrequest(method, target, skip_accept_encoding=True)
        size = len(body) if isinstance(body, bytes) else body.size
        if size or method in ('POST', 'PUT', 'PATCH'):
            line.putheader('Content-Length', str(size))
        for name, value in headers.items():
            line.putheader(name, value)
        keep = True
        try:
            line.endheaders(body if isinstance(body, bytes) else None)
            if not isinstance(body, bytes):
                send_body(line.sock, body)
        except (BrokenPipeError, ConnectionResetError):
            # The server may have said why before it closed.
            keep = False
        response = line.getresponse()
        self._answered.add(connection.origin)
        return Answer(response, connection, url, keep and not response.will_close)

    def _trouble(self, origin: Origin, error: Exception) -> Exception:
        """What is worth another try is a CutError; a wrong name or certificate stays wrong."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return PackagingError(
                f'The certificate of {origin.address} is not trusted: {error.verify_message}. Set SSL_CERT_FILE '
                'to a file with the certificate of the authority that signed it.'
            )
        if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
            return PackagingError(
                f'{origin.address} does not speak TLS. If it is meant to be plain HTTP, name it in '
                f'XM_INSECURE_REGISTRIES={origin.address}.'
            )
        first = origin not in self._answered
        if first and isinstance(error, ConnectionRefusedError | socket.gaierror):
            return UnreachableError(
                f'{origin.address} could not be reached: {_reason(error)}. Is the name right, and does it run?'
            )
        return CutError(_reason(error))


_NO_TLS: Final = frozenset({'WRONG_VERSION_NUMBER', 'HTTP_REQUEST', 'UNKNOWN_PROTOCOL'})


def _is_hang_up(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return 'no answer came in time'
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return 'the connection was closed'
    if isinstance(error, http.client.HTTPException):
        return f'what came was no HTTP ({type(error).__name__})'
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)
