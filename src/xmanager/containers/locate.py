"""Finds the container engine of this machine, as its own commands would."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from xmanager.containers.engine import Engine
from xmanager.containers.wire import WireError
from xmanager.errors import EngineError

_START = (
    'Start Docker (`sudo systemctl start docker`) or Podman (`systemctl --user start podman.socket`), '
    'or set DOCKER_HOST'
)


def find_engine(environ: Mapping[str, str] = os.environ) -> Engine:
    """The engine that is named by DOCKER_HOST, CONTAINER_HOST or Docker's context; else the first usual socket's.

    Raises EngineError in one sentence if none can be used.
    """
    named = _named(environ)
    if named is not None:
        url, source = named
        return _connect(_checked(url, source, environ), source)
    troubles = []
    for url in _usual(environ):
        try:
            return Engine.connect(url)
        except WireError as error:
            troubles.append((url, error))
    for url, trouble in troubles:
        if _is_denied(trouble):
            raise EngineError(_denied(url)) from trouble
    tried = ', '.join(url.removeprefix('unix://') for url, _ in troubles)
    raise EngineError(f'no container engine is running (tried {tried}). {_START}.')


def connect(url: str) -> Engine:
    """The engine at `url`. Raises EngineError in one sentence if it can't be used."""
    return _connect(_checked(url, 'the engine', {}), '')


def _named(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """What the user has chosen, and where he said so."""
    for name in ('DOCKER_HOST', 'CONTAINER_HOST'):
        if environ.get(name):
            return environ[name], f'{name}={environ[name]}'
    return _context(environ)


def _context(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The endpoint of the context in use of Docker's command; None for the default one."""
    folder = Path(environ.get('DOCKER_CONFIG') or Path(_home(environ), '.docker'))
    name = environ.get('DOCKER_CONTEXT') or ''
    if not name:
        name = str(_read(folder / 'config.json').get('currentContext') or '')
    if name in ('', 'default'):
        return None
    # Docker keeps each context in a folder that is called by the digest of its name.
    meta = folder / 'contexts' / 'meta' / hashlib.sha256(name.encode()).hexdigest() / 'meta.json'
    endpoints = _read(meta).get('Endpoints')
    docker = endpoints.get('docker') if isinstance(endpoints, dict) else None
    host = docker.get('Host') if isinstance(docker, dict) else None
    if not host:
        raise EngineError(
            f"Docker's context {name!r} is in use, but {meta} names no host. Choose another one: docker context ls."
        )
    return str(host), f"Docker's context {name!r} ({host})"


def _read(path: Path) -> dict[str, object]:
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EngineError(f'{path} can not be read: {error}. Mend or remove it.') from error
    return said if isinstance(said, dict) else {}


def _usual(environ: Mapping[str, str]) -> Iterator[str]:
    yield 'unix:///var/run/docker.sock'
    runtime = environ.get('XDG_RUNTIME_DIR')
    if runtime:
        yield f'unix://{runtime}/docker.sock'
        yield f'unix://{runtime}/podman/podman.sock'
    yield 'unix:///run/podman/podman.sock'


def _checked(url: str, source: str, environ: Mapping[str, str]) -> str:
    if url.startswith('/'):
        return f'unix://{url}'
    scheme, found, address = url.partition('://')
    if scheme == 'ssh':
        raise EngineError(
            f'{source}: an engine on another machine (ssh://) is not supported: jobs run and keep their files here. '
            'Use an engine of this machine, or launch there.'
        )
    if not found or scheme not in ('unix', 'tcp') or not address:
        raise EngineError(
            f'{source}: {url!r} is no address of an engine. Expected unix:///path/of/socket or tcp://host:port.'
        )
    if scheme == 'tcp' and (environ.get('DOCKER_TLS_VERIFY') or environ.get('DOCKER_TLS')):
        raise EngineError(
            f'{source}: TLS is not supported. Use the socket of an engine of this machine: unset DOCKER_HOST.'
        )
    if scheme == 'tcp' and not address.strip('/').rpartition(':')[2].isdecimal():
        raise EngineError(f'{source}: {url!r} names no port. Write tcp://host:2375.')
    return url


def _connect(url: str, source: str) -> Engine:
    said = f' ({source})' if source else ''
    try:
        return Engine.connect(url)
    except WireError as error:
        if _is_denied(error):
            raise EngineError(_denied(url)) from error
        raise EngineError(
            f'no container engine is running at {url}{said}: {error}. {_START} to another one.'
        ) from error


def _is_denied(error: WireError) -> bool:
    return error.cause is not None and error.cause.errno in (errno.EACCES, errno.EPERM)


def _denied(url: str) -> str:
    path = url.removeprefix('unix://')
    return (
        f'you have no permission to use the container engine at {path}. '
        'Join its group (`sudo usermod -aG docker "$USER"`, then log in anew), or use rootless Podman.'
    )


def _home(environ: Mapping[str, str]) -> str:
    return environ.get('HOME') or os.path.expanduser('~')
