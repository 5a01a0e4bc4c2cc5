"""A registry in a thread that does as the protocol says, except where a test wants it to fail."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

Act = Callable[['Handler'], bool]
"""What happens in place of the answer; False if the registry shall go on as if nothing had been."""

_NAME: Final = r'(?P<name>[a-z0-9/_-]+?)'
_UPLOADS: Final = re.compile(rf'/v2/{_NAME}/blobs/uploads/(?P<upload>\w*)')
_BLOB: Final = re.compile(rf'/v2/{_NAME}/blobs/(?P<digest>sha256:\w+)')
_MANIFEST: Final = re.compile(rf'/v2/{_NAME}/manifests/(?P<tag>[\w.:-]+)')


def digest_of(data: bytes) -> str:
    return f'sha256:{hashlib.sha256(data).hexdigest()}'


@dataclass
class Asked:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    received: int = 0


@dataclass
class FaultyRegistry:
    """What it holds, what it was asked, and what it shall do wrong, each fault once and in this order."""

    port: int = 0
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    faults: list[tuple[str, str, Act]] = field(default_factory=list)
    # The registry tells how much of an upload it has.
    resumes: bool = True
    # The query of the places of uploads.
    state: str = ''
    absolute_locations: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        return f'127.0.0.1:{self.port}'

    def fail(self, method: str, pattern: str, *acts: Act) -> None:
        """The next requests with this method ('': any) whose path (and query) match: one act each."""
        self.faults.extend((method, pattern, act) for act in acts)

    def put_blob(self, name: str, data: bytes) -> str:
        self.blobs[name, digest_of(data)] = data
        return digest_of(data)

    def put_manifest(self, name: str, tag: str, value: Any, media_type: str) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.manifests[name, tag] = self.manifests[name, digest_of(data)] = (media_type, data)
        return digest_of(data)

    def count(self, method: str, pattern: str = '') -> int:
        """How many such requests came."""
        return sum(
            one.method == method and bool(re.search(pattern, one.path)) for one in self.asked
        )

    def act_for(self, method: str, path: str) -> Act | None:
        with self.lock:
            for index, (wanted, pattern, act) in enumerate(self.faults):
                if wanted in (method, '') and re.search(pattern, path):
                    del self.faults[index]
                    return act
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    registry: FaultyRegistry
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

    def log_message(self, format: str, *_: object) -> None:
        pass

    def _serve(self) -> None:
        self.asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.registry.asked.append(self.asked)
        self.left = int(self.headers.get('Content-Length') or 0)
        act = self.registry.act_for(self.command, self.path)
        if act is None or not act(self):
            self.answer_rightly()

    def answer_rightly(self) -> None:
        """As a registry should."""
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        for pattern, serve in (
            (_UPLOADS, self._upload),
            (_BLOB, self._blob),
            (_MANIFEST, self._manifest),
        ):
            if found := pattern.fullmatch(parts.path):
                serve(found)
                return
        self.reply(404)

    def _blob(self, found: re.Match[str]) -> None:
        data = self.registry.blobs.get((found['name'], found['digest']))
        if data is None:
            self.reply(404, {}, error('BLOB_UNKNOWN', 'blob unknown to registry'))
        elif wanted := re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', '')):
            start = int(wanted[1])
            self.reply(
                206, {'Content-Range': f'bytes {start}-{len(data) - 1}/{len(data)}'}, data[start:]
            )
        else:
            self.reply(200, {'Docker-Content-Digest': found['digest']}, data)

    def _manifest(self, found: re.Match[str]) -> None:
        key = found['name'], found['tag']
        if self.command == 'PUT':
            data = self.receive()
            kept = self.headers['Content-Type'], data
            self.registry.manifests[key] = kept
            self.registry.manifests[found['name'], digest_of(data)] = kept
            self.reply(201, {'Docker-Content-Digest': digest_of(data)})
        elif key in self.registry.manifests:
            media_type, data = self.registry.manifests[key]
            self.reply(
                200, {'Content-Type': media_type, 'Docker-Content-Digest': digest_of(data)}, data
            )
        else:
            self.reply(404, {}, error('MANIFEST_UNKNOWN', 'manifest unknown'))

    def _upload(self, found: re.Match[str]) -> None:
        name, upload, registry = found['name'], found['upload'], self.registry
        if self.command == 'POST':
            mounted = registry.blobs.get((self.query.get('from', ''), self.query.get('mount', '')))
            if mounted is not None:
                registry.put_blob(name, mounted)
                self.reply(201, {'Docker-Content-Digest': self.query['mount']})
                return
            upload = f'u{len(registry.uploads)}'
            registry.uploads[upload] = bytearray()
            self.reply(202, {'Location': self.location(name, upload), 'Range': '0-0'})
        elif upload not in registry.uploads:
            self.reply(404, {}, error('BLOB_UPLOAD_UNKNOWN', 'upload unknown'))
        elif self.command == 'GET':
            there = len(registry.uploads[upload])
            headers = {'Location': self.location(name, upload), 'Range': f'0-{max(0, there - 1)}'}
            self.reply(*((204, headers) if registry.resumes else (400, {})))
        else:
            self._receive_upload(name, upload)

    def _receive_upload(self, name: str, upload: str) -> None:
        held = self.registry.uploads[upload]
        if self.command == 'PATCH':
            if not self.headers.get('Content-Range', '').startswith(f'{len(held)}-'):
                self.receive()
                self.reply(416)
                return
            held += self.receive()
            self.reply(
                202, {'Location': self.location(name, upload), 'Range': f'0-{len(held) - 1}'}
            )
            return
        held += self.receive()
        del self.registry.uploads[upload]
        digest = digest_of(bytes(held))
        if digest != self.query['digest']:
            self.reply(400, {}, error('DIGEST_INVALID', 'provided digest did not match'))
            return
        self.registry.put_blob(name, bytes(held))
        self.reply(201, {'Docker-Content-Digest': digest})

    def location(self, name: str, upload: str) -> str:
        base = f'http://{self.registry.host}' if self.registry.absolute_locations else ''
        return f'{base}/v2/{name}/blobs/uploads/{upload}{self.registry.state}'

    def receive(self, most: int = 2**62) -> bytes:
        """The body, or the beginning of it."""
        data = self.rfile.read(min(self.left, most))
        self.left -= len(data)
        self.asked.received += len(data)
        return data

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b'') -> None:
        self.receive()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        # As servers have it, those answers have no body.
        if self.command != 'HEAD' and status not in (204, 304):
            self.wfile.write(body)

    def hang_up(self) -> None:
        """Closes the connection, there and then."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def error(code: str, message: str) -> bytes:
    return json.dumps({'errors': [{'code': code, 'message': message}]}).encode()


def replies(status: int, headers: dict[str, str] | None = None, body: bytes = b'') -> Act:
    """Another answer than the right one."""

    def act(handler: Handler) -> bool:
        handler.reply(status, headers, body)
        return True

    return act


def hangs_up(handler: Handler) -> bool:
    """No answer at all."""
    handler.hang_up()
    return True


def answers_but_hangs_up(handler: Handler) -> bool:
    """The work is done, but nobody is told."""
    handler.reply = lambda *_: None  # type: ignore[method-assign]
    handler.answer_rightly()
    del handler.reply
    handler.hang_up()
    return True


def cuts_upload(after: int) -> Act:
    """Keeps what came so far and closes."""

    def act(handler: Handler) -> bool:
        found = _UPLOADS.fullmatch(urlsplit(handler.path).path)
        assert found is not None
        handler.registry.uploads[found['upload']] += handler.receive(after)
        handler.hang_up()
        return True

    return act


def cuts_download(after: int) -> Act:
    """Promises the whole body, sends the beginning and closes."""

    def act(handler: Handler) -> bool:
        write = handler.wfile.write

        def reply(status: int, headers: dict[str, str] | None = None, body: bytes = b'') -> None:
            handler.send_response(status)
            for name, value in (headers or {}).items():
                handler.send_header(name, value)
            handler.send_header('Content-Length', str(len(body)))
            handler.end_headers()
            write(body[:after])
            handler.hang_up()

        handler.reply = reply  # type: ignore[method-assign]
        handler.answer_rightly()
        return True

    return act


def wants_login(challenge: str, header: str) -> Act:
    """401 unless the right Authorization header comes."""

    def act(handler: Handler) -> bool:
        if handler.headers.get('Authorization') == header:
            return False
        handler.reply(401, {'WWW-Authenticate': challenge}, error('UNAUTHORIZED', 'log in'))
        return True

    return act


@contextmanager
def running() -> Iterator[FaultyRegistry]:
    registry = FaultyRegistry()
    handler = type('_Handler', (Handler,), {'registry': registry})
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    registry.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
