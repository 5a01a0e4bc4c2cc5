"""Brings an image into an engine of this machine: only its new layers where the engine takes that, else all of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from xmanager.errors import PackagingError
from xmanager.images.append import Base
from xmanager.images.manifests import check_settings
from xmanager.images.reference import is_digest
from xmanager.images.values import Image, ImageConfig, Layer, Platform

# Images of ours in an engine are called `xmanager/NAME:DIGEST`, so that they are found, and aren't dangling.
_NAMESPACE: Final = 'xmanager'


class ImageEngine(Protocol):
    """What is needed of `xmanager.containers.Engine` here."""

    @property
    def url(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def inspect_image(self, name: str) -> dict[str, Any] | None: ...
    def load(self, chunks: Iterable[bytes]) -> str: ...
    def export(self, name: str) -> Iterator[bytes]: ...


def base_in(engine: ImageEngine, name: str) -> tuple[str, Base] | None:
    """The id of an image that the engine has, and what to append to; None if it has none of that name."""
    found = engine.inspect_image(name)
    if found is None:
        return None
    config = config_of(found, name)
    return str(found['Id']), Base(config, tuple(Layer(None, one) for one in config.diff_ids))


def config_of(inspected: dict[str, Any], name: str) -> ImageConfig:
    """An image's configuration as an engine tells it. Raises PackagingError if something of it is missing."""
    diff_ids = (inspected.get('RootFS') or {}).get('Layers') or []
    if not isinstance(diff_ids, list) or not all(map(is_digest, diff_ids)):
        raise PackagingError(f"The engine doesn't say which layers {name} has.")
    settings = inspected.get('Config') or {}
    check_settings(settings, name)
    platform = Platform(
        str(inspected.get('Architecture') or ''),
        str(inspected.get('Os') or ''),
        str(inspected.get('Variant') or ''),
    )
    return ImageConfig(platform, tuple(diff_ids), settings)


def local_name(name: str, image_id: str) -> str:
    """What an image is called in an engine: `xmanager/my_project:0123456789ab`."""
    plain = re.sub(r'[^a-z0-9]+', '_', name.lower(), flags=re.ASCII).strip('_')
    return f'{_NAMESPACE}/{plain[:100] or "image"}:{image_id.removeprefix("sha256:")[:12]}'


def load(
    image: Image,
    engine: ImageEngine,
    tell: Callable[[str], None],
    *,
    name: str = 'image',
    base: str = '',
) -> str:
    """Makes sure that the engine has the image, and returns its id; nothing is sent if it is there already.

    `base` is the image to append to by the engine's name: its layers come from there if the engine wants them sent.
    Raises PackagingError: the engine refuses, or made something else of it.
    """
    if engine.inspect_image(image.id) is not None:
        return image.id
    tell('loading the image')
    refused = ''
    try:
        said = engine.load(_stream(image, engine, local_name(name, image.id)))
    except PackagingError as error:
        refused = said = str(error)
    if engine.inspect_image(image.id) is None and _is_thin(image):
        said = _load_whole(image, engine, tell, local_name(name, image.id), base, refused or said)
    elif refused:
        raise PackagingError(refused)
    if engine.inspect_image(image.id) is None:
        raise PackagingError(
            f'{engine.url} took the image {image.id}, but made another one of it: {_last_line(said)} '
            'Push it to a registry instead (--push).'
        )
    return image.id


def _is_thin(image: Image) -> bool:
    return any(layer.path is None for layer in image.layers)


def _stream(image: Image, engine: ImageEngine, name: str) -> Iterator[bytes]:
    from xmanager.images.streams import docker_stream, oci_stream

    # Podman refuses an archive of Docker's kind that lacks layers, but asks an OCI layout for new ones only.
    if engine.kind == 'podman':
        return oci_stream(image, f'localhost/{name}')
    return docker_stream(image, name)


def _load_whole(
    image: Image,
    engine: ImageEngine,
    tell: Callable[[str], None],
    name: str,
    base: str,
    refused: str,
) -> str:
    """With the layers of the base, which the engine exports: an image store of containerd keeps no layers apart."""
    from xmanager.images.archive import layers_of
    from xmanager.images.streams import docker_stream

    if not base:
        raise PackagingError(refused)
    tell('loading the image with all its layers')
    with tempfile.TemporaryDirectory(prefix='xmanager-load-') as folder:
        there = {layer.diff_id: layer for layer in layers_of(engine.export(base), Path(folder))}
        layers = tuple(
            layer if layer.path is not None else there.get(layer.diff_id, layer)
            for layer in image.layers
        )
        return engine.load(docker_stream(attrs.evolve(image, layers=layers), name))


def _last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1][:300] if lines else 'it said nothing.'


def remember(cache: Path, engine: ImageEngine, name: str, image_id: str) -> None:
    """Notes that this image of ours was wanted now, for `prune_images`."""
    folder = cache / 'images'
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{image_id.removeprefix("sha256:")}.json'
    beside = path.with_name(f'.{path.name}-{os.getpid()}-{time.monotonic_ns()}')
    note = {'engine': engine.url, 'image': image_id, 'name': local_name(name, image_id)}
    beside.write_text(json.dumps(note))
    os.replace(beside, path)


def prune_images(
    cache: Path,
    remove: Callable[[str, str], bool],
    keep: Collection[str],
    older_than: float,
    *,
    dry_run: bool = False,
) -> list[str]:
    """Removes images that this home loaded, nobody packaged for so many seconds, and `keep` (ids) doesn't name.

    `remove(engine_url, image_name)` says whether the image is gone; a note of one that isn't stays. Returns the names.
    """
    removed = []
    for path in sorted((cache / 'images').glob('*.json')):
        # Another process may prune as well; half of a note is never seen.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime <= older_than:
                continue
            try:
                note = json.loads(path.read_bytes())
                image, name, url = note['image'], note['name'], note['engine']
            except (ValueError, KeyError, TypeError):
                # Left by a machine that went down: it names nothing that could be removed.
                if not dry_run:
                    path.unlink()
                continue
            if image in keep:
                continue
            if dry_run or remove(url, name):
                removed.append(name)
                if not dry_run:
                    path.unlink(missing_ok=True)
    return removed
