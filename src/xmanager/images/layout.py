"""Writes an image into a folder, as an OCI image layout that other tools read (skopeo, podman, crane)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

from xmanager.errors import PackagingError
from xmanager.images.values import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Image,
    Layer,
    canonical_json,
    digest_of,
)

# https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
_VERSION: Final = canonical_json({'imageLayoutVersion': '1.0.0'})
_READ_BYTES: Final = 2**20

Fetch = Callable[[Layer], Iterable[bytes]]
"""Yields the blob of a layer of which there is no local file."""


def write_layout(
    image: Image, folder: Path, *, name: str, fetch: Fetch | None = None, store: Path | None = None
) -> str:
    """Writes it to `folder`, which is replaced if it is a layout already; returns the digest of the manifest.

    Layers without a local file come from `fetch`; without it they are left out, and whoever reads the layout has to
    have them. With a `store`, a folder beside that several layouts share, what it has is not written again: the
    layout's `blobs` is a link to it. Nobody sees half of it. Raises PackagingError: the folder holds something else,
    a blob is wrong.
    """
    _check_folder(folder)
    image = attrs.evolve(image, manifest_type=OCI_MANIFEST)
    manifest = image.manifest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(folder) as beside:
        blobs = (store or beside / 'blobs') / 'sha256'
        blobs.mkdir(parents=True, exist_ok=True)
        if store is not None:
            (beside / 'blobs').symlink_to(os.path.relpath(store, folder))
        for layer in image.layers:
            _write_layer(blobs, layer, fetch)
        for data in (image.config, manifest):
            _write_blob(_blob(blobs, digest_of(data)), [data])
        descriptor = Descriptor(OCI_MANIFEST, digest_of(manifest), len(manifest)).as_json()
        descriptor['annotations'] = {'org.opencontainers.image.ref.name': name}
        index = {'schemaVersion': 2, 'mediaType': OCI_INDEX, 'manifests': [descriptor]}
        (beside / 'index.json').write_bytes(canonical_json(index))
        (beside / 'oci-layout').write_bytes(_VERSION)
    return digest_of(manifest)


def _check_folder(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise PackagingError(f'{folder}: expected a folder or nothing, to write an image into.')
    if folder.exists() and any(folder.iterdir()) and not (folder / 'oci-layout').exists():
        raise PackagingError(
            f'{folder} holds something else than an image. Give another folder, or empty this one.'
        )


def _blob(blobs: Path, digest: str) -> Path:
    return blobs / digest.removeprefix('sha256:')


def _write_layer(blobs: Path, layer: Layer, fetch: Fetch | None) -> None:
    descriptor = layer.descriptor
    assert descriptor is not None  # Image.manifest() has seen to it.
    target = _blob(blobs, descriptor.digest)
    if target.exists():
        with contextlib.suppress(OSError):
            os.utime(target)  # Whoever sweeps a shared store spares what is young.
        return
    if layer.path is not None:
        chunks: Iterable[bytes] = _read(layer.path)
    elif fetch is not None:
        chunks = fetch(layer)
    else:
        return
    found, size = _write_blob(target, chunks, descriptor.digest)
    if (found, size) != (descriptor.digest, descriptor.size):
        raise PackagingError(
            f'The layer {descriptor.digest} came as {size} bytes with the digest {found}; '
            f'{descriptor.size} bytes were expected. Try again.'
        )


def _write_blob(target: Path, chunks: Iterable[bytes], digest: str = '') -> tuple[str, int]:
    """Its digest and size; it stands there only if it has the digest that is asked for, if any."""
    found, size = hashlib.sha256(), 0
    # Others may write the same blob into a shared store now.
    descriptor, half = tempfile.mkstemp(prefix='.half-', dir=target.parent)
    try:
        with os.fdopen(descriptor, 'wb') as file:
            os.fchmod(file.fileno(), 0o644)
            for chunk in chunks:
                found.update(chunk)
                size += file.write(chunk)
        said = f'sha256:{found.hexdigest()}'
        if digest in ('', said):
            os.replace(half, target)
        return said, size
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(half)


def _read(path: Path) -> Iterator[bytes]:
    with path.open('rb') as file:
        while chunk := file.read(_READ_BYTES):
            yield chunk


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder beside, which takes the place of this one when all is written."""
    beside = Path(tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
    try:
        beside.chmod(0o755)
        yield beside
        old = beside.with_name(f'{beside.name}-old')
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, old)
        os.rename(beside, folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
