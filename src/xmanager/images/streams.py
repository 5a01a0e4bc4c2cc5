"""Images as the streams that engines load: whole ones, or thin ones without the layers that the engine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from xmanager.images.layer import plain_file_header
from xmanager.images.values import (
    OCI_LAYER_TAR,
    OCI_MANIFEST,
    Descriptor,
    Image,
    Layer,
    canonical_json,
    digest_of,
)

_BLOCK: Final = 512
_END: Final = bytes(2 * _BLOCK)
_READ_BYTES: Final = 2**20


def docker_stream(image: Image, name: str) -> Iterator[bytes]:
    """As `docker save` writes it. Layers without a local file are named only: Docker's graph drivers look them up."""
    members = [f'{_hex(layer.diff_id)}/layer.tar' for layer in image.layers]
    config = f'{_hex(image.id)}.json'
    described = [{'Config': config, 'RepoTags': [name], 'Layers': members}]
    yield from _file(config, image.config)
    yield from _file('manifest.json', canonical_json(described))
    yield from _layers(dict(zip(members, image.layers, strict=True)))


def oci_stream(image: Image, name: str) -> Iterator[bytes]:
    """As an OCI layout in a tar. Podman takes layers out of it only if it doesn't have their digest."""
    layers = tuple(_as_blob(layer) for layer in image.layers)
    image = attrs.evolve(image, layers=layers, manifest_type=OCI_MANIFEST)
    manifest = image.manifest()
    descriptor = Descriptor(OCI_MANIFEST, digest_of(manifest), len(manifest)).as_json()
    descriptor['annotations'] = {'org.opencontainers.image.ref.name': name}
    yield from _file('oci-layout', canonical_json({'imageLayoutVersion': '1.0.0'}))
    index = {'schemaVersion': 2, 'manifests': [descriptor]}
    yield from _file('index.json', canonical_json(index))
    for data in (manifest, image.config):
        yield from _file(_blob(digest_of(data)), data)
    yield from _layers({_blob(_digest(layer)): layer for layer in layers})


def _as_blob(layer: Layer) -> Layer:
    """What only an engine has is called by its diff_id there; its size isn't looked at."""
    if layer.descriptor is not None and layer.path is not None:
        return layer
    return attrs.evolve(layer, descriptor=Descriptor(OCI_LAYER_TAR, layer.diff_id, 0), path=None)


def _digest(layer: Layer) -> str:
    assert layer.descriptor is not None
    return layer.descriptor.digest


def _layers(members: dict[str, Layer]) -> Iterator[bytes]:
    for name, layer in members.items():
        if layer.path is not None:
            yield from _file_of(name, layer.path)
    yield _END


def _file(name: str, data: bytes) -> Iterator[bytes]:
    yield plain_file_header(name, len(data)) + data + bytes(-len(data) % _BLOCK)


def _file_of(name: str, path: Path) -> Iterator[bytes]:
    with path.open('rb') as file:
        left = path.stat().st_size
        yield plain_file_header(name, left)
        padding = bytes(-left % _BLOCK)
        while chunk := file.read(_READ_BYTES):
            yield chunk
    yield padding


def _blob(digest: str) -> str:
    return f'blobs/sha256/{_hex(digest)}'


def _hex(digest: str) -> str:
    return digest.removeprefix('sha256:')
