"""The image to append to: in the engine of this machine or in a registry, and which Python it has."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from xmanager.errors import EngineError, PackagingError
from xmanager.images.append import Base
from xmanager.images.layer import READ_BYTES
from xmanager.images.layer_cache import LayerCache
from xmanager.images.reference import Reference
from xmanager.images.values import Layer
from xmanager.packaging.dependency_layer import Target
from xmanager.packaging.loading import base_in
from xmanager.packaging.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xmanager.containers import Engine

_ID: Final = re.compile(r'(?:sha256:)?[0-9a-f]{64}')
_VERSION: Final = re.compile(r'(\d+)\.(\d+)')
_ASK: Final = "import platform, sys; print('xm', '%d.%d' % sys.version_info[:2], platform.libc_ver()[0] or '-')"
# Podman's own defaults are more than an unprivileged machine may grant.
_LIMITS: Final = [{'Name': name, 'Soft': 1024, 'Hard': 4096} for name in ('nofile', 'nproc')]


@attrs.frozen
class Found:
    """A base: `name` is what the user calls it, `id` its id if an engine has it."""

    name: str
    base: Base
    id: str = ''


def default_base() -> str:
    """An image with the launcher's own minor version of Python."""
    return f'python:{sys.version_info[0]}.{sys.version_info[1]}-slim'


def from_engine(
    name: str, engine: Engine, workshop: Workshop, executable: str, asked: str
) -> Found:
    """The base as the engine has it; pulled if it doesn't. Raises PackagingError."""
    reference = None if _ID.fullmatch(name) else Reference.parse(name)
    found = look_in_engine(name, engine)
    if found is None and reference is not None:
        from xmanager.packaging.engine_images import pull

        pull(reference.familiar, reference, asked, executable, engine, workshop)
        found = look_in_engine(name, engine)
    if found is None:
        raise PackagingError(
            f'{asked}: the engine at {engine.url} has no image {name}. See `{engine.kind} images`.'
        )
    return found


def look_in_engine(name: str, engine: Engine) -> Found | None:
    """The base if the engine has it; nothing is pulled."""
    found = base_in(engine, name)
    return found and Found(name, found[1], found[0])


def from_registry(name: str, workshop: Workshop, tell: Callable[[str], None]) -> Found:
    """The base as a registry has it: its manifest and configuration are read, its layers are not."""
    from xmanager.images.manifests import read_config
    from xmanager.images.registry import Registry
    from xmanager.images.registry_session import NotThereError

    if _ID.fullmatch(name):
        raise NotThereError(f'{name} is the id of an image in an engine: no registry knows it.')
    reference = Reference.parse(name)
    with Registry(reference, workshop.environ, tell) as registry:
        manifest = registry.get_manifest()
        data = registry.get_config(manifest)
    config = read_config(data, str(reference), digest=manifest.config.digest)
    if len(config.diff_ids) != len(manifest.layers):
        raise PackagingError(
            f'{reference} has {len(manifest.layers)} layers, but its configuration speaks of {len(config.diff_ids)}.'
        )
    layers = tuple(
        Layer(descriptor, diff_id, origin=reference)
        for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    return Found(name, Base(config, layers, manifest.media_type), manifest.config.digest)


def with_layers_of_engine(found: Found, engine: Engine, workshop: Workshop) -> Found:
    """The same base with its layers as compressed files: the engine exports them once, then they are kept."""
    cache = LayerCache(workshop.cache)

    def kept(diff_id: str) -> Layer | None:
        return cache.find(diff_id, '', compressed=True)

    layers = [kept(layer.diff_id) for layer in found.base.layers]
    if None in layers:
        from xmanager.images.archive import layers_of

        workshop.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.exported-', dir=workshop.cache) as folder:
            exported = layers_of(engine.export(found.id), Path(folder))
            layers = [_compressed(cache, layer) for layer in exported]
    base = attrs.evolve(found.base, layers=tuple(filter(None, layers)))
    return attrs.evolve(found, base=base)


def _compressed(cache: LayerCache, layer: Layer) -> Layer:
    def pieces() -> Iterator[bytes]:
        assert layer.path is not None
        with layer.path.open('rb') as file:
            while chunk := file.read(READ_BYTES):
                yield chunk

    return cache.make(layer.diff_id, '', pieces, compressed=True)


def check_platform(found: Found, asked: str) -> None:
    """Raises PackagingError for what can't run a Linux program."""
    if found.base.config.platform.os != 'linux':
        raise PackagingError(
            f'{asked}: {found.name} is made for {found.base.config.platform}. Give a base_image for Linux.'
        )


def target_of(
    found: Found, workshop: Workshop, engine: Callable[[], Engine | None], asked: str
) -> Target:
    """Which packages the base takes. If it doesn't say, it is run once in the local engine, if that has it."""
    architecture = found.base.config.platform.architecture
    said = _VERSION.match(found.base.config.env.get('PYTHON_VERSION', ''))
    if said:
        libc = 'musl' if 'alpine' in found.name else 'gnu'
        return Target(f'{said[1]}.{said[2]}', architecture, libc)
    note = workshop.cache / 'pythons' / f'{found.id.removeprefix("sha256:")}.json'
    try:
        python, libc = json.loads(note.read_bytes())
        return Target(python, architecture, libc)
    except (OSError, ValueError):
        pass  # It wasn't asked yet, or the note is damaged: it is written anew.
    there = engine()
    if there is None or there.inspect_image(found.id) is None:
        raise PackagingError(
            f"{asked}: {found.name} doesn't say which Python it has (PYTHON_VERSION in its environment), and the local "
            'engine does not have it to try. Pull it there, or make it say so.'
        )
    python, libc = _ask_python(there, found, asked)
    if not workshop.dry_run:
        note.parent.mkdir(parents=True, exist_ok=True)
        beside = note.with_name(f'.{note.name}-{os.getpid()}-{threading.get_ident()}')
        beside.write_text(json.dumps([python, libc]))
        os.replace(beside, note)
    return Target(python, architecture, libc)


def _ask_python(engine: Engine, found: Found, asked: str) -> tuple[str, str]:
    said = _output_of(engine, found.id, ['python3', '-c', _ASK])
    match = re.search(r'^xm (\d+\.\d+) (\S+)', said, re.MULTILINE)
    if match is None:
        raise PackagingError(
            f'{asked}: python3 does not run in {found.name}: {said.strip()[-300:] or "it said nothing"}. '
            'Give a base_image with Python.'
        )
    return match[1], 'gnu' if match[2] == 'glibc' else 'musl'


def _output_of(engine: Engine, image: str, command: list[str]) -> str:
    """What a program prints in a container of its own, without a network."""
    made: dict[str, Any] = {
        'Image': image,
        'Entrypoint': command,
        'Cmd': [],
        'Tty': True,
        'Labels': {'xmanager.question': 'python'},
        'HostConfig': {'NetworkMode': 'none', 'Ulimits': _LIMITS},
    }
    created = engine.request('POST', '/containers/create', body=made).json()
    assert isinstance(created, dict)
    container = str(created['Id'])
    path = f'/containers/{container}'
    try:
        engine.request('POST', f'{path}/start')
        engine.request('POST', f'{path}/wait').read()
        query = {'stdout': '1', 'stderr': '1'}
        return engine.request('GET', f'{path}/logs', query=query).read().decode(errors='replace')
    except EngineError as error:
        return str(error)
    finally:
        engine.request('DELETE', path, query={'force': '1'})
