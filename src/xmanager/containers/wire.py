"""HTTP to a container engine over its socket, one request a connection.

Written on `socket` alone: beside each container runs a keeper that speaks this, and `http.client` (which loads `email`
and `ssl`) would double the time that one takes to start.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Mapping

_PIECE = 1 << 16
_LONGEST_HEAD = 1 << 16

Body = bytes | Iterable[bytes] | None


class WireError(Exception):
    """The engine can't be reached, or broke off; `cause` is the system's own error if there was one."""

    def __init__(self, message: str, cause: OSError | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class Answer:
    """What an engine answered.

    The body is read once: by `read`, `json` or `pieces`, or by `receive` where it is no HTTP any more.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self._body: bytes | None = None
        head = self._head()
        status, *lines = head.decode('latin-1').split('\r\n')
        words = status.split(None, 2)
        if len(words) < 2 or not words[0].startswith('HTTP/1.') or not words[1].isdecimal():
            raise WireError(f'it does not speak HTTP: it answered {status[:60]!r}')
        self.status = int(words[1])
        pairs = (line.partition(':') for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}

    def preload(self) -> None:
        """Reads the whole body now; whoever asks for it later gets it as it came. The connection is closed."""
        self._body = self.read()

    def read(self) -> bytes:
        """The whole body; the connection is closed."""
        try:
            return b''.join(self.pieces())
        finally:
            self.close()

    def json(self) -> object:
        """The whole body as JSON; None if it is empty."""
        data = self.read()
        return json.loads(data) if data.strip() else None

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises WireError if it breaks off."""
        if self._body is not None or self.status in (204, 304):
            yield self._body or b''
            return
        if self.headers.get('transfer-encoding', '').lower() == 'chunked':
            yield from self._chunks()
        elif 'content-length' in self.headers:
            left = int(self.headers['content-length'])
            while left:
                piece = self._take(min(left, _PIECE))
                left -= len(piece)
                yield piece
        else:
            while piece := self.receive():
                yield piece

    def receive(self) -> bytes:
        """The next bytes just as they come, b'' at the end."""
        if self._buffer:
            piece = bytes(self._buffer)
            self._buffer.clear()
            return piece
        try:
            return self._connection.recv(_PIECE)
        except OSError as error:
            raise WireError(f'it broke off: {error.strerror or error}', error) from error

    def close(self) -> None:
        """Closes the connection; the rest of the body is lost."""
        self._connection.close()

    def _head(self) -> bytes:
        while (end := self._buffer.find(b'\r\n\r\n')) < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                raise WireError('it does not speak HTTP: its header has no end')
            self._fill()
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    def _chunks(self) -> Iterator[bytes]:
        while size := self._chunk_size():
            while size:
                piece = self._take(min(size, _PIECE))
                size -= len(piece)
                yield piece
            self._line()

    def _chunk_size(self) -> int:
        line = self._line()
        try:
            return int(line.partition(b';')[0], 16)
        except ValueError:
            raise WireError(f'it sent {line[:20]!r} for the size of a chunk') from None

    def _line(self) -> bytes:
        while (end := self._buffer.find(b'\r\n')) < 0:
            self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _take(self, most: int) -> bytes:
        if not self._buffer:
            self._fill()
        piece = bytes(self._buffer[:most])
        del self._buffer[:most]
        return piece

    def _fill(self) -> None:
        try:
            data = self._connection.recv(_PIECE)
        except OSError as error:
            raise WireError(f'it broke off: {error.strerror or error}', error) from error
        if not data:
            raise WireError('it broke off')
        self._buffer += data


def connect(url: str, timeout: float | None = None) -> socket.socket:
    """A connection to an engine at `unix:///path` or `tcp://host:port`. Raises WireError."""
    scheme, _, address = url.partition('://')
    connection = socket.socket(socket.AF_UNIX) if scheme == 'unix' else None
    try:
        if connection is not None:
            connection.settimeout(timeout)
            connection.connect(address)
        else:
            host, _, port = address.strip('/').rpartition(':')
            connection = socket.create_connection((host.strip('[]'), int(port)), timeout)
    except (OSError, OverflowError, ValueError) as error:
        if connection is not None:
            connection.close()
        cause = error if isinstance(error, OSError) else None
        text = (cause and cause.strerror) or str(error)
        raise WireError(f'{url} can not be reached: {text}', cause) from error
    return connection


def ask(
    url: str,
    method: str,
    target: str,
    *,
    body: Body = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Answer:
    """Sends one request and returns the head of the answer. `target` is path and query, quoted. Raises WireError.

    `timeout` (seconds) is for each wait for the engine. A body of pieces is sent as they come.
    """
    connection = connect(url, timeout)
    try:
        _send(connection, method, target, body, headers or {})
        return Answer(connection)
    except BaseException:
        connection.close()
        raise


def _send(
    connection: socket.socket, method: str, target: str, body: Body, headers: Mapping[str, str]
) -> None:
    lines = [f'{method} {target} HTTP/1.1', 'Host: engine']
    if 'Upgrade' not in headers:
        lines.append('Connection: close')
    lines += [f'{name}: {value}' for name, value in headers.items()]
    is_whole = body is None or isinstance(body, bytes)
    if is_whole:
        lines.append(f'Content-Length: {len(body) if isinstance(body, bytes) else 0}')
    else:
        lines.append('Transfer-Encoding: chunked')
    head = '\r\n'.join([*lines, '', '']).encode()
    try:
        connection.sendall(head + body if isinstance(body, bytes) else head)
        if body is not None and not isinstance(body, bytes):
            for piece in body:
                if piece:
                    connection.sendall(b'%x\r\n%b\r\n' % (len(piece), piece))
            connection.sendall(b'0\r\n\r\n')
    except (BrokenPipeError, ConnectionResetError):
        return  # It has answered before it had all, which is read next.
    except OSError as error:
        raise WireError(f'it broke off: {error.strerror or error}', error) from error


def message(data: bytes) -> str:
    """What an engine says of an error: the `message` of its JSON, else its text."""
    try:
        said = json.loads(data)
    except ValueError:
        return data.decode('utf-8', 'replace').strip()
    if isinstance(said, dict) and isinstance(said.get('message'), str):
        return str(said['message']).strip()
    return data.decode('utf-8', 'replace').strip()
