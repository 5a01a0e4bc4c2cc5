"""The engine is found where its own commands find it, and what is wrong with it is told in one sentence."""

import hashlib
import json
import socket
import threading

import pytest

from xmanager.containers import EngineError, find_engine

PING = 'HTTP/1.1 200 OK\r\nApi-Version: {}\r\nServer: Docker/20.10.24 (linux)\r\nContent-Length: 2\r\n\r\nOK'


@pytest.fixture
def serve(tmp_path):
    """A socket on which whatever is asked is answered with one text."""
    listeners = []

    def serve(text, name='engine.sock'):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / name))
        listener.listen()
        listeners.append(listener)

        def answer():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(text.encode())

        threading.Thread(target=answer, daemon=True).start()
        return f'unix://{tmp_path}/{name}'

    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_docker_host_names_the_engine(serve):
    url = serve(PING.format('1.41'))
    engine = find_engine({'DOCKER_HOST': url})
    assert (engine.url, engine.kind, engine.api_version) == (url, 'docker', '1.41')
    assert engine.version == '20.10.24'


def test_podman_says_who_it_is(serve):
    url = serve(PING.format('1.41\r\nLibpod-API-Version: 4.3.1'))
    engine = find_engine({'CONTAINER_HOST': url})
    assert (engine.kind, engine.version) == ('podman', '4.3.1')


def test_the_api_is_no_newer_than_what_this_client_knows(serve):
    assert find_engine({'DOCKER_HOST': serve(PING.format('1.60'))}).api_version == '1.43'


def test_the_context_of_docker_is_followed(serve, tmp_path):
    url = serve(PING.format('1.41'))
    (tmp_path / 'config.json').write_text(json.dumps({'currentContext': 'lab'}))
    meta = tmp_path / 'contexts' / 'meta' / hashlib.sha256(b'lab').hexdigest()
    meta.mkdir(parents=True)
    (meta / 'meta.json').write_text(json.dumps({'Endpoints': {'docker': {'Host': url}}}))
    assert find_engine({'DOCKER_CONFIG': str(tmp_path)}).url == url
    with pytest.raises(EngineError, match=r"context 'other' is in use, but .* names no host"):
        find_engine({'DOCKER_CONFIG': str(tmp_path), 'DOCKER_CONTEXT': 'other'})


def test_an_engine_that_is_too_old_is_refused(serve):
    with pytest.raises(EngineError, match=r'too old: it speaks version 1\.39 of the API and 1\.40'):
        find_engine({'DOCKER_HOST': serve(PING.format('1.39'))})


def test_what_is_no_engine_is_refused(serve):
    with pytest.raises(EngineError, match='is no container engine'):
        find_engine({'DOCKER_HOST': serve('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')})
    with pytest.raises(EngineError, match='does not speak HTTP'):
        find_engine({'DOCKER_HOST': serve('SSH-2.0-OpenSSH_9\r\n\r\n', 'ssh.sock')})


@pytest.mark.parametrize(
    ('url', 'message'),
    [
        ('ssh://lab', 'ssh://. is not supported'),
        ('lab:2375', 'no address of an engine'),
        ('tcp://lab', 'names no port'),
        ('unix:///nowhere/docker.sock', 'no container engine is running at .*Start Docker'),
    ],
)
def test_an_address_that_can_not_be_used_is_told(url, message):
    with pytest.raises(EngineError, match=message):
        find_engine({'DOCKER_HOST': url})
