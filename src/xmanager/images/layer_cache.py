"""Layers that have been made, kept in files by what they were made of: what hasn't changed isn't made again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from xmanager.images.compression import blocks_of, gzip_chunks
from xmanager.images.reference import is_digest
from xmanager.images.values import OCI_LAYER_GZIP, OCI_LAYER_TAR, Descriptor, Layer, canonical_json

# Raised whenever the bytes of a layer come out differently for the same content.
_FORMAT: Final = 1
# Who found a layer's file may still be reading it.
_IN_USE_SECONDS: Final = 600.0
_SUFFIXES: Final = ('.tar', '.tar.gz')


class LayerCache:
    """The files of layers below a folder. Several processes may use it at once.

    Beside each `KEY.tar` or `KEY.tar.gz` a small `….json` says what its digests are; it is written last.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / 'layers'

    def find(self, content: str, place: str, *, compressed: bool) -> Layer | None:
        """The layer made of this content (any text that fixes it) for this place, if it is kept."""
        path = self._path(content, place, compressed)
        layer = _read_record(path)
        if layer is not None:
            with contextlib.suppress(OSError):
                os.utime(_record_of(path))
        return layer

    def make(
        self, content: str, place: str, chunks: Callable[[], Iterable[bytes]], *, compressed: bool
    ) -> Layer:
        """The kept layer, or a new one of the tar that `chunks` yields."""
        if layer := self.find(content, place, compressed=compressed):
            return layer
        path = self._path(content, place, compressed)
        self._folder.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as file:
            diff_id, descriptor = _write(chunks(), file, compressed)
        with _replacing(_record_of(path)) as file:
            file.write(canonical_json({**descriptor.as_json(), 'diff_id': diff_id}))
        return Layer(descriptor, diff_id, path)

    def _path(self, content: str, place: str, compressed: bool) -> Path:
        key = hashlib.sha256(f'{_FORMAT}\0{content}\0{place}'.encode(errors='surrogateescape'))
        return self._folder / f'{key.hexdigest()}{_SUFFIXES[compressed]}'


def gc_layers(
    cache: Path, older_than: float, *, max_bytes: int | None = None, dry_run: bool = False
) -> list[Path]:
    """Removes layers that nobody used for so many seconds, and the least used beyond `max_bytes`; says which."""
    now = time.time()
    kept = sorted(_files(cache / 'layers'), reverse=True)
    total, removed = 0, []
    for used, size, path in kept:
        total += size
        over = max_bytes is not None and total > max_bytes and now - used > _IN_USE_SECONDS
        if now - used > older_than or over:
            removed.append(path)
    for path in [] if dry_run else removed:
        _record_of(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return removed


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When it was last used, its size, and the file, for each; half-written ones too."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.suffix == '.json' and path.with_suffix('').exists():
            continue
        # Another process may sweep as well.
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            record = _record_of(path)
            used = record.stat().st_mtime if record.exists() else status.st_mtime
            yield used, status.st_size, path


def _record_of(path: Path) -> Path:
    return path.with_name(f'{path.name}.json')


def _read_record(path: Path) -> Layer | None:
    """The layer that a record speaks of, unless its file is gone or was cut short."""
    try:
        record = json.loads(_record_of(path).read_bytes())
        descriptor = Descriptor(record['mediaType'], record['digest'], record['size'])
        if path.stat().st_size != descriptor.size or not is_digest(record['diff_id']):
            return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return Layer(descriptor, record['diff_id'], path)


def _write(chunks: Iterable[bytes], file: BinaryIO, compressed: bool) -> tuple[str, Descriptor]:
    """Writes the blob; the digests of the tar and of the blob are known at the end."""
    of_tar = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        for block in blocks_of(chunks):
            of_tar.update(block)
            yield block

    if not compressed:
        size = sum(file.write(block) for block in blocks())
        diff_id = f'sha256:{of_tar.hexdigest()}'
        return diff_id, Descriptor(OCI_LAYER_TAR, diff_id, size)
    of_blob, size = hashlib.sha256(), 0
    for chunk in gzip_chunks(blocks()):
        of_blob.update(chunk)
        size += file.write(chunk)
    blob = Descriptor(OCI_LAYER_GZIP, f'sha256:{of_blob.hexdigest()}', size)
    return f'sha256:{of_tar.hexdigest()}', blob


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside, which takes the place of this one when all is written."""
    descriptor, name = tempfile.mkstemp(prefix='.half-', dir=path.parent)
    try:
        with os.fdopen(descriptor, 'wb') as file:
            yield file
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
