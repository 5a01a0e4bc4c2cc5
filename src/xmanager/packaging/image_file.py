"""Images in `.tar` files: which image it is, read once, and loaded only into an engine that lacks it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xmanager.errors import EngineError, PackagingError
from xmanager.packaging.building import keep
from xmanager.packaging.loading import local_name
from xmanager.packaging.workshop import Workshop

if TYPE_CHECKING:
    from xmanager.containers import Engine

_PIECE: Final = 1 << 20
_LOADED: Final = re.compile(r'Loaded image(?: ID)?: (\S+)')


def identify(file: Path, workshop: Workshop) -> str:
    """The image's id: the digest of its configuration. A file that hasn't changed since isn't read again."""
    return str(_record(file, workshop)['id'])


def load_file(file: Path, image: str, name: str, engine: Engine, workshop: Workshop) -> str:
    """The id by which the engine knows the image, loaded if it isn't there yet. Raises PackagingError."""
    record = _record(file, workshop)
    # An engine on containerd's store calls an image by the digest of its manifest.
    known = record.get('loaded', {}).get(engine.url, image)
    if engine.inspect_image(known) is not None:
        keep(str(known), name, engine, workshop)
        return str(known)
    workshop.tell(name, f'loading {file.name}')
    said = _loaded(file, engine, local_name(name, image))
    for candidate in (image, *_LOADED.findall(said)):
        if found := engine.inspect_image(candidate):
            loaded = f'sha256:{str(found["Id"]).removeprefix("sha256:")}'
            keep(loaded, name, engine, workshop)
            if loaded != image:
                _remember(file, {**record, 'loaded': {engine.url: loaded}}, workshop)
            return loaded
    raise PackagingError(
        f'{file}: the engine at {engine.url} said {said[:200]!r} and still has no image {image}.'
    )


def _loaded(file: Path, engine: Engine, name: str) -> str:
    """What the engine says. Docker before 25 reads no OCI layouts: then it gets the same image in its own format."""
    try:
        return engine.load(_pieces(file))
    except EngineError:
        from xmanager.images.archive import layers_of, read_archive
        from xmanager.images.streams import docker_stream
        from xmanager.images.values import Image

        archived = read_archive(file)
        if all(member.startswith('blobs/') for member in archived.layers):
            with tempfile.TemporaryDirectory(prefix='xmanager-load-') as folder:
                layers = layers_of(_pieces(file), Path(folder))
                return engine.load(docker_stream(Image(archived.data, layers), name))
        raise


def _pieces(file: Path) -> Iterator[bytes]:
    with open(file, 'rb') as opened:
        while piece := opened.read(_PIECE):
            yield piece


def _record(file: Path, workshop: Workshop) -> dict[str, Any]:
    from xmanager.images.archive import read_archive

    stat = _stat(file)
    try:
        record = json.loads(_place(file, workshop).read_bytes())
        if isinstance(record, dict) and record['stat'] == stat:
            return record
    except (OSError, ValueError, KeyError):
        pass  # Not read yet, or by a newer version.
    record = {'stat': stat, 'id': read_archive(file).id}
    if not workshop.dry_run:
        _remember(file, record, workshop)
    return record


def _remember(file: Path, record: dict[str, Any], workshop: Workshop) -> None:
    place = _place(file, workshop)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile('w', dir=place.parent, delete=False) as written:
        json.dump(record, written)
    os.replace(written.name, place)


def _place(file: Path, workshop: Workshop) -> Path:
    key = hashlib.sha256(os.fsencode(file)).hexdigest()
    return workshop.cache / 'image-files' / f'{key}.json'


def _stat(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
