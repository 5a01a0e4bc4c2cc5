"""Which program builds images for an engine: docker with BuildKit, docker without, or none."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal

import attrs

if TYPE_CHECKING:
    from xmanager.containers import Engine

Kind = Literal['buildkit', 'classic']

_VERSION: Final = re.compile(r'Docker version (\d+)\.(\d+)')
_HAS_BUILDKIT_INSIDE: Final = (18, 9)
_NEEDS_BUILDX: Final = (23, 0)


@attrs.frozen
class Builder:
    """A command to which options and a context are appended, and what its environment must say."""

    kind: Kind
    command: tuple[str, ...]
    environ: Mapping[str, str] = attrs.field(repr=False)


def find_builder(engine: Engine, environ: Mapping[str, str]) -> Builder | None:
    """The first program on PATH that can do BuildKit, else the first that can build; None if there is none.

    It speaks to this very engine, whatever the user's own docker context or builder is. Podman has one
    builder, which is asked over the socket: its command does the same, and leaves the Dockerfile in the image.
    """
    if engine.kind == 'podman':
        return None
    programs = tuple(_docker_programs(environ.get('PATH', os.defpath)))
    if environ.get('DOCKER_BUILDKIT') not in ('0', 'false'):
        for program in programs:
            if _can_buildkit(program, environ):
                command = (program, 'build', '--progress=plain')
                return Builder('buildkit', command, _docker_environ(engine, environ, '1'))
    for program in programs:
        if _version(program) is not None:
            command = (program, 'build', '--force-rm')
            return Builder('classic', command, _docker_environ(engine, environ, '0'))
    return None


def _docker_environ(engine: Engine, environ: Mapping[str, str], buildkit: str) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name != 'DOCKER_CONTEXT'}
    return {
        **kept,
        'DOCKER_HOST': engine.url,
        'DOCKER_BUILDKIT': buildkit,
        # Another builder of buildx would keep the image to itself.
        'BUILDX_BUILDER': 'default',
        # An attestation holds times: the same image would get another id.
        'BUILDX_NO_DEFAULT_ATTESTATIONS': '1',
    }


def _docker_programs(path: str) -> Iterator[str]:
    """All programs of that name, each once: /bin is often a link to /usr/bin."""
    seen = set()
    for folder in path.split(os.pathsep):
        program = shutil.which('docker', path=folder) if folder else None
        if program and (real := os.path.realpath(program)) not in seen:
            seen.add(real)
            yield program


def _can_buildkit(program: str, environ: Mapping[str, str]) -> bool:
    version = _version(program)
    if version is None or version < _HAS_BUILDKIT_INSIDE:
        return False
    if version < _NEEDS_BUILDX:
        return True
    return _said(program, 'buildx', 'version', config=environ.get('DOCKER_CONFIG', '')) is not None


def _version(program: str) -> tuple[int, int] | None:
    """None for what only goes by the name of docker, such as Podman's stand-in."""
    match = _VERSION.match(_said(program, '--version') or '')
    return (int(match[1]), int(match[2])) if match else None


@functools.lru_cache
def _said(program: str, *arguments: str, config: str = '') -> str | None:
    """What it prints, None if it fails. Asked once: 15 ms each time would be felt."""
    import subprocess

    environ = {**os.environ, 'DOCKER_CONFIG': config} if config else None
    try:
        done = subprocess.run(
            (program, *arguments),
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors='replace') if done.returncode == 0 else None
