"""Real registries in temporary folders: Debian's docker-registry on loopback ports; open, by password, or by token."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.engines.servers import free_port

USER: Final = 'ada'
PASSWORD: Final = 'hush/hush@+%:'
_SECONDS: Final = 30.0
_ISSUER: Final = 'the tests'
_SERVICE: Final = 'registry of the tests'


@dataclass
class RealRegistry:
    """A running docker-registry. `docker_config` is a folder for $DOCKER_CONFIG that holds the login to it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    tokens: TokenServer | None = None
    docker_config: Path = field(default_factory=Path)

    @property
    def host(self) -> str:
        """As it stands in the name of an image."""
        return f'127.0.0.1:{self.port}'

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a user who is logged in to it."""
        environ = {'HOME': str(self.folder), 'DOCKER_CONFIG': str(self.docker_config)}
        certificate = self.folder / 'tls.crt'
        return environ | ({'SSL_CERT_FILE': str(certificate)} if certificate.exists() else {})

    @property
    def log(self) -> str:
        return (self.folder / 'log').read_text(errors='replace')


class TokenServer:
    """Gives tokens for what is asked to whoever knows the password, and for reading to anybody."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / 'key.pem'
        self.certificate = folder / 'certificate.pem'
        make_certificate(self.key, self.certificate)
        self.asked: list[tuple[str, ...]] = []
        self.lifetime = 300
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                status, answer = outer._answer(
                    query.get('scope', []), self.headers.get('Authorization', '')
                )
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, scopes: list[str], authorization: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(tuple(scopes))
        known = authorization == f'Basic {login()}'
        if authorization and not known:
            return 401, {}
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(':', 2)
            granted = [one for one in actions.split(',') if known or one == 'pull']
            access.append({'type': kind, 'name': name, 'actions': granted})
        return 200, {'token': self._token(access), 'expires_in': self.lifetime}

    def _token(self, access: list[dict[str, Any]]) -> str:
        """A JSON web token: https://distribution.github.io/distribution/spec/auth/jwt/"""
        now = int(time.time())
        der = ''.join(self.certificate.read_text().splitlines()[1:-1])
        header = {'typ': 'JWT', 'alg': 'RS256', 'x5c': [der]}
        claims = {
            'iss': _ISSUER, 'sub': USER, 'aud': _SERVICE, 'access': access, 'jti': os.urandom(8).hex(),
            'exp': now + self.lifetime, 'nbf': now - 10, 'iat': now - 10,
        }  # fmt: skip
        text = '.'.join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = _openssl('dgst', '-sha256', '-sign', str(self.key), stdin=text.encode())
        return f'{text}.{_base64url(signature)}'


def make_certificate(key: Path, certificate: Path) -> None:
    """One of 127.0.0.1 that signs itself; by openssl, for Python's own library signs nothing."""
    _openssl(
        'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=tests',
        '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', str(key), '-out', str(certificate),
    )  # fmt: skip


def _openssl(*arguments: str, stdin: bytes = b'') -> bytes:
    done = subprocess.run(['openssl', *arguments], input=stdin, capture_output=True, check=True)
    return done.stdout


def login() -> str:
    """What Basic is followed by."""
    return base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()


def lacks(*programs: str) -> str:
    """What is not installed; '' if all is."""
    missing = [program for program in programs if not shutil.which(program)]
    return f'{" and ".join(missing)} (apt-get install docker-registry openssl)' if missing else ''


def need(*programs: str) -> None:
    """Skips the test unless the programs are there; fails it if XM_TEST_REQUIRE names `registry`."""
    lacking = lacks(*programs)
    if lacking and 'registry' in os.environ.get('XM_TEST_REQUIRE', '').split(','):
        pytest.fail(f'XM_TEST_REQUIRE names registry, but this machine lacks {lacking}')
    if lacking:
        pytest.skip(f'needs {lacking}')


@contextlib.contextmanager
def running(protection: str = '') -> Iterator[RealRegistry]:
    """A registry of one's own, gone afterwards with all it held; `protection`: '', 'password', 'token' or 'tls'."""
    need('docker-registry', *(['openssl'] if protection in ('token', 'tls') else []))
    memory = Path('/dev/shm')
    folder = Path(tempfile.mkdtemp(prefix='xm-registry-', dir=memory if memory.is_dir() else None))
    tokens: TokenServer | None = None
    try:
        tokens = TokenServer(folder) if protection == 'token' else None
        registry = _start(folder, protection, tokens)
        try:
            yield registry
        finally:
            registry.process.terminate()
            registry.process.wait(_SECONDS)
    finally:
        if tokens is not None:
            tokens.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, protection: str, tokens: TokenServer | None) -> RealRegistry:
    port = free_port()
    configuration = {
        'version': 0.1,
        'log': {'accesslog': {'disabled': True}, 'level': 'error'},
        'storage': {
            'filesystem': {'rootdirectory': str(folder / 'data')},
            'delete': {'enabled': True},
        },
        # The secret signs the state of uploads.
        'http': {'addr': f'127.0.0.1:{port}', 'secret': 'tests', **_tls(folder, protection)},
        **_auth(folder, protection, tokens),
    }
    (folder / 'registry.yml').write_text(json.dumps(configuration))
    config = folder / 'docker'
    config.mkdir()
    host = f'127.0.0.1:{port}'
    auths = {host: {'auth': login()}} if protection else {}
    (config / 'config.json').write_text(json.dumps({'auths': auths}))
    with (folder / 'log').open('ab') as log:
        process = subprocess.Popen(
            ['docker-registry', 'serve', str(folder / 'registry.yml')],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    registry = RealRegistry(folder, port, process, tokens, config)
    _wait_for_answer(registry)
    return registry


def _auth(folder: Path, protection: str, tokens: TokenServer | None) -> dict[str, Any]:
    if protection == 'password':
        (folder / 'htpasswd').write_text(f'{USER}:{_bcrypt(PASSWORD)}\n')
        return {'auth': {'htpasswd': {'realm': 'tests', 'path': str(folder / 'htpasswd')}}}
    if tokens is not None:
        return {
            'auth': {
                'token': {
                    'realm': f'http://127.0.0.1:{tokens.port}/token',
                    'service': _SERVICE,
                    'issuer': _ISSUER,
                    'rootcertbundle': str(tokens.certificate),
                }
            }
        }
    return {}


def _tls(folder: Path, protection: str) -> dict[str, Any]:
    if protection != 'tls':
        return {}
    make_certificate(folder / 'tls.key', folder / 'tls.crt')
    return {'tls': {'certificate': str(folder / 'tls.crt'), 'key': str(folder / 'tls.key')}}


def _bcrypt(password: str) -> str:
    """By the C library, whose `crypt` knows bcrypt; the registry knows nothing else."""
    import ctypes
    import ctypes.util

    crypt = ctypes.CDLL(ctypes.util.find_library('crypt') or 'libcrypt.so.1').crypt
    crypt.restype = ctypes.c_char_p
    hashed: bytes = crypt(
        password.encode(), b'$2b$04$' + hashlib.sha256(b'salt').hexdigest()[:22].encode()
    )
    return hashed.decode()


def _wait_for_answer(registry: RealRegistry) -> None:
    import socket

    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            socket.create_connection(('127.0.0.1', registry.port), 0.5).close()
            return
        except OSError:
            if time.monotonic() > deadline or registry.process.poll() is not None:
                raise AssertionError(f'no registry came up\n{registry.log[-2000:]}') from None
            time.sleep(0.01)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip('=')


@pytest.fixture(scope='session')
def registry() -> Iterator[RealRegistry]:
    """Open to all; kept for the whole run: use a repository of your own."""
    with running() as one:
        yield one


@pytest.fixture(scope='session')
def password_registry() -> Iterator[RealRegistry]:
    """Open to `ada` with her password."""
    with running('password') as one:
        yield one


@pytest.fixture(scope='session')
def token_registry() -> Iterator[RealRegistry]:
    """Open to those to whom its server of tokens gives one: anybody may pull, `ada` may push."""
    with running('token') as one:
        yield one
