"""Images for the machines of a cluster: OCI layouts in a folder that all of them see, from which any engine runs them.

Layouts share their blobs: twenty versions of an image take the space of their base once. No engine is needed for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xmanager.errors import PackagingError
from xmanager.images.layer import READ_BYTES
from xmanager.images.layer_cache import LayerCache
from xmanager.images.reference import is_digest
from xmanager.images.values import Image, Layer
from xmanager.packaging.one_at_a_time import one_at_a_time
from xmanager.packaging.workshop import Workshop
from xmanager.xm.packageables import Packageable

if TYPE_CHECKING:
    from xmanager.containers import Engine

_BLOBS: Final = 'blobs'
# A packaging that is at work has written blobs that no layout names yet.
_YOUNGEST: Final = 86400.0


def is_for_cluster(packageable: Packageable) -> bool:
    """Whether it is to run on machines that share no engine with this one."""
    return getattr(packageable.executor_spec, 'backend', '') == 'slurm'


def share(image: Image, name: str, workshop: Workshop) -> dict[str, Any]:
    """Makes sure that the layout is there; the facts of it. Layers without a file are fetched from their registry.

    Raises PackagingError.
    """
    folder = _folder(image.id, workshop)
    with one_at_a_time(workshop.cache, str(folder), _waits(name, workshop)):
        if not _is_whole(folder):
            _write(image, folder, name, workshop)
        _want(folder, workshop)
    return _facts(folder, image.id)


def share_from_engine(
    engine_image: str, name: str, engine: Engine, workshop: Workshop
) -> dict[str, Any]:
    """The facts of an image that an engine of this machine has; it exports it unless its layout is there."""
    return find_shared(engine_image, workshop) or _share_saved(
        engine.export(engine_image), name, workshop
    )


def share_archive(file: Path, image_id: str, name: str, workshop: Workshop) -> dict[str, Any]:
    """The facts of an image in a `.tar` file, of `docker save` or of an OCI layout."""
    return find_shared(image_id, workshop) or _share_saved(_pieces(file), name, workshop)


def share_from_registry(reference: str, name: str, workshop: Workshop) -> dict[str, Any]:
    """The facts of an image that a registry has: only blobs that no layout has yet are fetched."""
    from xmanager.images.manifests import read_config
    from xmanager.images.reference import Reference
    from xmanager.images.registry import Registry

    place = Reference.parse(reference)
    workshop.tell(name, f'looking for {place.familiar}')
    with Registry(place, workshop.environ, lambda step: workshop.tell(name, step)) as registry:
        manifest = registry.get_manifest()
        data = registry.get_config(manifest)
    config = read_config(data, str(place), digest=manifest.config.digest)
    if len(config.diff_ids) != len(manifest.layers):
        raise PackagingError(
            f'{place} has {len(manifest.layers)} layers, but its configuration speaks of {len(config.diff_ids)}.'
        )
    layers = tuple(
        Layer(descriptor, diff_id, origin=place)
        for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    return share(Image(data, layers, manifest.media_type), name, workshop)


def find_shared(image_id: str, workshop: Workshop) -> dict[str, Any] | None:
    """The facts of an image whose layout is there, which counts as wanted now; else None."""
    if not is_digest(image_id):
        return None
    folder = _folder(image_id, workshop)
    if not _is_whole(folder):
        return None
    _want(folder, workshop)
    return _facts(folder, image_id)


def gc_images(
    images: Path, keep: Set[str], older_than: float, *, dry_run: bool = False
) -> list[str]:
    """Removes layouts that nobody wanted for so many seconds, and `keep` (ids) doesn't name; their ids.

    Blobs go with the last layout that names them.
    """
    removed = []
    for folder in _layouts(images):
        with contextlib.suppress(FileNotFoundError):  # Another process may sweep as well.
            old = time.time() - _last(folder).stat().st_mtime > older_than
            if not old or f'sha256:{folder.name}' in keep:
                continue
            removed.append(f'sha256:{folder.name}')
            if not dry_run:
                _remove(folder)
    if removed and not dry_run:
        _remove_blobs(images, older_than)
    return removed


def _waits(name: str, workshop: Workshop) -> Any:
    return lambda: workshop.tell(name, 'waiting for another launch that makes the same image')


def _folder(image_id: str, workshop: Workshop) -> Path:
    return workshop.images / image_id.removeprefix('sha256:')


def _is_whole(folder: Path) -> bool:
    return _last(folder).exists()


def _last(folder: Path) -> Path:
    """The file of a layout that is written last, and touched whenever the image is wanted."""
    return folder / 'environment'


def _write(image: Image, folder: Path, name: str, workshop: Workshop) -> None:
    from xmanager.images.layout import write_layout

    workshop.images.mkdir(parents=True, exist_ok=True, mode=0o700)
    workshop.tell(name, f'writing {folder}')
    write_layout(
        image,
        folder,
        name='latest',
        fetch=lambda layer: _fetch(layer, name, workshop),
        store=workshop.images / _BLOBS,
    )
    blobs = [layer.descriptor.digest for layer in image.layers if layer.descriptor]
    config = json.loads(image.config).get('config') or {}
    # For engines that read no layouts: the blobs of the layers, the lowest first, and the image's environment.
    (folder / 'layers').write_text(''.join(f'{one.replace(":", "/")}\n' for one in blobs))
    _last(folder).write_text(''.join(f'{one}\n' for one in config.get('Env') or ()))


def _want(folder: Path, workshop: Workshop) -> None:
    if not workshop.dry_run:
        _last(folder).touch()


def _facts(folder: Path, image_id: str) -> dict[str, Any]:
    """What fixes the image, where it lies, and what it runs: engines of clusters run no entry point by themselves."""
    index = json.loads((folder / 'index.json').read_bytes())
    blob = folder / _BLOBS / 'sha256' / image_id.removeprefix('sha256:')
    config = json.loads(blob.read_bytes()).get('config') or {}
    return {
        'image': image_id,
        'layout': str(folder),
        'manifest': index['manifests'][0]['digest'],
        'entrypoint': config.get('Entrypoint') or [],
        'command': config.get('Cmd') or [],
        'working_dir': config.get('WorkingDir') or '/',
    }


def _fetch(layer: Layer, name: str, workshop: Workshop) -> Iterable[bytes]:
    from xmanager.images.registry import Registry

    if layer.origin is None or layer.descriptor is None:
        raise PackagingError(
            f'{name}: the layer {layer.diff_id} is neither in a file nor in a registry.'
        )
    megabytes = -(-layer.descriptor.size // 10**6)
    workshop.tell(name, f'fetching {megabytes} MB from {layer.origin.registry}')
    with Registry(
        layer.origin, workshop.environ, lambda step: workshop.tell(name, step)
    ) as registry:
        yield from registry.get_blob(layer.descriptor)


def _share_saved(chunks: Iterable[bytes], name: str, workshop: Workshop) -> dict[str, Any]:
    """Of what `docker save` writes. Layers are compressed as those of other images are, so that they are shared."""
    from xmanager.images.archive import layers_of, read_archive

    workshop.tell(name, 'exporting the image')
    cache = LayerCache(workshop.cache)
    workshop.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.exported-', dir=workshop.cache) as scratch:
        exported = layers_of(chunks, Path(scratch))
        data = read_archive(Path(scratch, 'saved.tar')).data
        workshop.tell(name, 'packing the image')
        layers = tuple(_compressed(cache, layer) for layer in exported)
        return share(Image(data, layers), name, workshop)


def _compressed(cache: LayerCache, layer: Layer) -> Layer:
    assert layer.path is not None
    path = layer.path
    return cache.make(layer.diff_id, '', lambda: _pieces(path), compressed=True)


def _pieces(file: Path) -> Iterator[bytes]:
    with open(file, 'rb') as opened:
        while piece := opened.read(READ_BYTES):
            yield piece


def _layouts(images: Path) -> list[Path]:
    return sorted(path for path in images.glob('*/') if is_digest(f'sha256:{path.name}'))


def _remove(folder: Path) -> None:
    """Removes a layout, and what nodes made of it."""
    # Nobody may find half of it.
    gone = folder.with_name(f'.{folder.name}-gone-{os.getpid()}')
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
    for made in folder.parent.glob(f'{folder.name}.*'):
        made.unlink(missing_ok=True)


def _remove_blobs(images: Path, older_than: float) -> None:
    """Removes blobs that no layout names."""
    named: set[str] = set()
    for folder in _layouts(images):
        with contextlib.suppress(FileNotFoundError):  # Another process may sweep as well.
            index = json.loads((folder / 'index.json').read_bytes())
            named |= _named(images, index['manifests'][0]['digest'])
    for blob in (images / _BLOBS / 'sha256').iterdir():
        with contextlib.suppress(FileNotFoundError):
            if blob.name in named:
                continue
            if time.time() - blob.stat().st_mtime > min(older_than, _YOUNGEST):
                blob.unlink()


def _named(images: Path, digest: str) -> set[str]:
    name = digest.removeprefix('sha256:')
    manifest = json.loads((images / _BLOBS / 'sha256' / name).read_bytes())
    digests = [manifest['config']['digest'], *(layer['digest'] for layer in manifest['layers'])]
    return {name, *(one.removeprefix('sha256:') for one in digests)}
