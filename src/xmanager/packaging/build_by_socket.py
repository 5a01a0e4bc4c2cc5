"""Builds over an engine's socket, where no command is to be used: by Docker's classic builder, or by Podman's only one.

BuildKit wants a session of its own protocol beside the request, which its commands bring.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from xmanager.errors import EngineError, PackagingError
from xmanager.images.reference import Reference
from xmanager.packaging.build_context import DOCKERFILE, context_tar

if TYPE_CHECKING:
    from xmanager.containers import Engine
    from xmanager.images.credentials import Credentials

_PIECE: Final = 1 << 20
_IS_NO_DOCKERFILE: Final = 400
_FROM: Final = re.compile(r'(?im)^\s*FROM\s+(?:--\S+\s+)*(?P<image>\S+)')


def build_by_socket(
    context: Path,
    dockerfile: Path,
    engine: Engine,
    environ: Mapping[str, str],
    hear: Callable[[str], None],
) -> str | None:
    """The id of the image, None if the build failed; `hear` is told each line of what the engine says."""
    with context_tar(context, dockerfile) as tar:
        try:
            answer = engine.request(
                'POST',
                '/build',
                body=_pieces(tar),
                query={'dockerfile': DOCKERFILE, 'rm': '1', 'forcerm': '1'},
                headers={'Content-Type': 'application/x-tar', **_credentials(dockerfile, environ)},
                stream=True,
            )
        except EngineError as error:
            if error.status != _IS_NO_DOCKERFILE:
                raise
            hear(f'Error: {error}')
            return None
        try:
            return _follow(answer.pieces(), hear)
        finally:
            answer.close()


def _follow(pieces: Iterator[bytes], hear: Callable[[str], None]) -> str | None:
    image = None
    for said in _records(pieces):
        for line in str(said.get('stream', '')).splitlines():
            hear(line)
        if error := said.get('error'):
            hear(f'Error: {error}')
            return None
        aux = said.get('aux')
        if isinstance(aux, dict) and str(aux.get('ID', '')).startswith('sha256:'):
            image = str(aux['ID'])
    return image


def _records(pieces: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    from xmanager.containers.wire import WireError

    rest = b''
    try:
        for piece in pieces:
            *lines, rest = (rest + piece).split(b'\n')
            yield from filter(None, map(_record, lines))
    except WireError as error:
        raise PackagingError(
            f'the engine broke off the build: {error}. Is it still running?'
        ) from error
    if last := _record(rest):
        yield last


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _pieces(tar: IO[bytes]) -> Iterator[bytes]:
    while piece := tar.read(_PIECE):
        yield piece


def _credentials(dockerfile: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The header by which the engine may pull the images that the Dockerfile begins from."""
    from xmanager.images.credentials import credentials_for

    known = {}
    for registry in _registries(dockerfile.read_text(errors='replace')):
        # What Docker Hub is called where credentials are kept: https://docs.docker.com/reference/api/engine/
        host = 'https://index.docker.io/v1/' if registry == 'docker.io' else registry
        if found := credentials_for(registry, environ):
            known[host] = _login(found)
    if not known:
        return {}
    header = base64.urlsafe_b64encode(json.dumps(known).encode()).decode()
    return {'X-Registry-Config': header}


def _login(credentials: Credentials) -> dict[str, str]:
    if credentials.identity_token:
        return {'identitytoken': credentials.identity_token}
    return {'username': credentials.username, 'password': credentials.password}


def _registries(dockerfile: str) -> list[str]:
    registries = set()
    for match in _FROM.finditer(dockerfile):
        try:
            registries.add(Reference.parse(match['image']).registry)
        except PackagingError:
            continue  # A stage's name, `scratch`, or `$BASE`: what it stands for the engine will say.
    return sorted(registries)
