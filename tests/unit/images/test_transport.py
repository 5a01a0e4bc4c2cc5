"""Where requests go, and what is said when they don't get there."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engines.registry import make_certificate, need
from tests.unit.images.registry_desk import Clock

from xmanager.errors import PackagingError
from xmanager.images.reference import Reference
from xmanager.images.registry import Registry
from xmanager.images.transport import UnreachableError
from xmanager.images.transport_address import Origin, is_loopback
from xmanager.images.values import OCI_LAYER_GZIP, Descriptor

DIGEST = f'sha256:{"0" * 64}'


@pytest.mark.parametrize(
    'host', ['localhost', 'LOCALHOST', '127.0.0.1', '127.9.9.9', '[::1]', '::1']
)
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize('host', ['localhost.test', '128.0.0.1', '127.0.0.1.test', '0.0.0.0', ''])
def test_others_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_an_origin_is_scheme_host_and_port() -> None:
    assert Origin.of('https://A.test/x?y') == Origin('https', 'a.test', 443)
    assert Origin.of('http://[::1]:80/') == Origin('http', '::1', 80)
    assert Origin.of('http://[::1]:5000/').address == '[::1]:5000'
    assert Origin.of('https://a.test:443/').address == 'a.test'


@given(st.text(max_size=60) | st.text(max_size=30).map('http://{}'.format))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    with contextlib.suppress(PackagingError):
        origin = Origin.of(text)
        assert origin.host
        assert 0 < origin.port < 65536


@pytest.fixture(scope='module')
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need('openssl')
    path = tmp_path_factory.mktemp('tls') / 'both.pem'
    make_certificate(path, Path(f'{path}.crt'))
    return path


class _Knows(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        pass


@pytest.fixture
def tls_port(certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f'{certificate}.crt', certificate)
    server = HTTPServer(('127.0.0.1', 0), _Knows)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def secure(port: int, environ: dict[str, str]) -> Registry:
    registry = Registry(Reference.parse(f'127.0.0.1:{port}/a'), environ, patience=Clock().patience)
    registry._session.base = f'https://127.0.0.1:{port}'
    return registry


def test_a_certificate_of_an_authority_that_is_named_is_trusted(
    tls_port: int, certificate: Path
) -> None:
    with secure(tls_port, {'SSL_CERT_FILE': f'{certificate}.crt'}) as registry:
        assert registry.has_blob(DIGEST)


def test_another_certificate_is_not(tls_port: int) -> None:
    refused = pytest.raises(PackagingError, match=r'is not trusted.*SSL_CERT_FILE')
    with secure(tls_port, {}) as registry, refused:
        registry.has_blob(DIGEST)


def test_a_file_of_certificates_that_is_not_there_is_told(tls_port: int) -> None:
    environ = {'SSL_CERT_FILE': '/nowhere/ca.pem'}
    told = pytest.raises(PackagingError, match=r'SSL_CERT_FILE=/nowhere/ca\.pem')
    with secure(tls_port, environ) as registry, told:
        registry.has_blob(DIGEST)


def test_plain_http_where_tls_is_expected_is_told_with_the_setting() -> None:
    server = HTTPServer(('127.0.0.1', 0), _Knows)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    port = server.server_address[1]
    try:
        told = pytest.raises(PackagingError, match=f'XM_INSECURE_REGISTRIES=127.0.0.1:{port}')
        with secure(port, {}) as registry, told:
            registry.has_blob(DIGEST)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    'answer', [b'', b'nonsense\r\n\r\n', b'HTTP/1.1 abc\r\n\r\n', b'\0' * 70_000]
)
def test_what_is_no_http_is_told_after_several_attempts(answer: bytes) -> None:
    clock = Clock()
    listener = socket.create_server(('127.0.0.1', 0))

    def serve() -> None:
        for _ in range(5):
            line, _address = listener.accept()
            with line:
                line.recv(65536)
                line.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    reference = Reference.parse(f'127.0.0.1:{listener.getsockname()[1]}/a')
    told = pytest.raises(PackagingError, match='5 times in a row')
    with Registry(reference, {}, patience=clock.patience) as registry, told:
        registry.has_blob(DIGEST)
    thread.join()
    listener.close()
    assert len(clock.slept) == 4


def test_a_registry_that_is_named_is_spoken_to_in_plain_http() -> None:
    reference = Reference.parse('registry.test:5000/a')
    for named, scheme in (
        ('', 'https'),
        ('x.test, registry.test:5000', 'http'),
        ('registry.test', 'https'),
    ):
        with Registry(reference, {'XM_INSECURE_REGISTRIES': named}) as registry:
            assert registry._session.base == f'{scheme}://registry.test:5000'
    with Registry(Reference.parse('python'), {}) as registry:
        assert registry._session.base == 'https://registry-1.docker.io'


def hangs_up_after(head: bytes, port: list[int], times: int) -> threading.Thread:
    """Answers so often with these bytes and closes; its port is in `port`."""
    listener = socket.create_server(('127.0.0.1', 0))
    port.append(listener.getsockname()[1])

    def serve() -> None:
        with listener:
            for _ in range(times):
                line, _address = listener.accept()
                with line:
                    line.recv(65536)
                    line.sendall(head)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize('sent', [b'', b'half'])
def test_one_that_never_sends_more_is_given_up_with(sent: bytes) -> None:
    port: list[int] = []
    thread = hangs_up_after(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n' + sent, port, 5)
    clock = Clock()
    reference = Reference.parse(f'127.0.0.1:{port[0]}/a')
    told = pytest.raises(PackagingError, match='5 times in a row')
    with Registry(reference, {}, patience=clock.patience) as registry, told:
        registry.get_manifest()
    thread.join()
    assert len(clock.slept) == 4


@pytest.mark.parametrize('sent', [b'', b'half'])
def test_a_blob_of_which_nothing_more_comes_is_given_up(sent: bytes) -> None:
    port: list[int] = []
    thread = hangs_up_after(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n' + sent, port, 5)
    reference = Reference.parse(f'127.0.0.1:{port[0]}/a')
    told = pytest.raises(PackagingError, match='5 times in a row')
    wanted = Descriptor(OCI_LAYER_GZIP, DIGEST, 100)
    with Registry(reference, {}, patience=Clock().patience) as registry, told:
        list(registry.get_blob(wanted))
    thread.join()


def test_nobody_there_is_unreachable_but_one_out_of_order_is_not() -> None:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]
    reference = Reference.parse(f'127.0.0.1:{port}/a')
    with Registry(reference, {}) as registry, pytest.raises(UnreachableError):
        registry.get_manifest()
    ports: list[int] = []
    thread = hangs_up_after(b'HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n', ports, 5)
    reference = Reference.parse(f'127.0.0.1:{ports[0]}/a')
    patience = Clock().patience
    with (
        Registry(reference, {}, patience=patience) as registry,
        pytest.raises(PackagingError, match='answered with 500') as caught,
    ):
        registry.get_manifest()
    thread.join()
    assert not isinstance(caught.value, UnreachableError)
