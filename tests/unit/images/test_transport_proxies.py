"""Registries are reached through the proxy of the environment, this machine never is."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.engines.registry import need
from tests.unit.images.registry_desk import Clock

from xmanager.errors import PackagingError
from xmanager.images.reference import Reference
from xmanager.images.registry import Registry
from xmanager.images.transport_address import Origin
from xmanager.images.transport_proxies import proxy_for


@pytest.mark.parametrize(
    ('url', 'exceptions', 'goes_through'),
    [
        ('https://registry.test/', '', True),
        ('http://registry.test/', '', False),
        ('https://127.0.0.1:5000/', '', False),
        ('https://registry.test/', 'registry.test', False),
        ('https://registry.test/', 'other.test, .test', False),
        ('https://registry.test/', '*.test', False),
        ('https://registry.test/', '*', False),
        ('https://registry.test:5000/', 'registry.test:443', True),
        ('https://registry.test:5000/', 'registry.test:5000', False),
        ('https://myregistry.test/', 'registry.test', True),
        ('https://10.1.2.3/', '10.0.0.0/8', False),
        ('https://11.1.2.3/', '10.0.0.0/8,::1', True),
    ],
)
def test_who_is_reached_through_the_proxy(url: str, exceptions: str, goes_through: bool) -> None:
    environ = {'HTTPS_PROXY': 'http://proxy.test:3128', 'NO_PROXY': exceptions}
    assert (proxy_for(Origin.of(url), environ) is not None) == goes_through


@pytest.mark.parametrize('named', ['ftp://ada:hush@proxy', 'http://', 'http://ada:hush@proxy:no'])
def test_what_is_no_proxy_is_told_without_its_password(named: str) -> None:
    with pytest.raises(PackagingError, match='HTTPS_PROXY') as caught:
        proxy_for(Origin.of('https://registry.test/'), {'HTTPS_PROXY': named})
    assert 'hush' not in str(caught.value)


class _Knows(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200 if self.headers['Host'] == 'registry.test' else 404)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        pass


def test_the_certificate_is_that_of_the_registry_and_the_proxy_gets_its_password(
    tmp_path: Path,
) -> None:
    need('openssl')
    key = tmp_path / 'key'
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=tests',
         '-addext', 'subjectAltName=DNS:registry.test', '-keyout', str(key), '-out', f'{key}.crt'],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f'{key}.crt', key)
    asked: list[bytes] = []
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def stand_in() -> None:
            """The proxy, and behind it the registry."""
            line, _ = listener.accept()
            asked.append(line.recv(65536))
            line.sendall(b'HTTP/1.1 200 Connected\r\n\r\n')
            with contextlib.suppress(OSError), context.wrap_socket(line, server_side=True) as inner:
                _Knows(inner, ('', 0), HTTPServer.__new__(HTTPServer))

        thread = threading.Thread(target=stand_in)
        thread.start()
        port = listener.getsockname()[1]
        environ = {
            'HTTPS_PROXY': f'http://ada:hu%20sh@127.0.0.1:{port}',
            'SSL_CERT_FILE': f'{key}.crt',
        }
        reference = Reference.parse('registry.test/a')
        with Registry(reference, environ, patience=Clock().patience) as registry:
            assert registry.has_blob(f'sha256:{"0" * 64}')
        thread.join()
    assert asked[0].startswith(b'CONNECT registry.test:443 ')
    assert b'Proxy-Authorization: Basic YWRhOmh1IHNo\r\n' in asked[0]
