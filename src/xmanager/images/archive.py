"""Reads archives of images, `docker save` or OCI, that nobody vouches for: no path leads outside, sizes are bounded."""

from __future__ import annotations

import contextlib
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import attrs

from xmanager.errors import PackagingError
from xmanager.images.manifests import (
    CONFIG_BYTES,
    MANIFEST_BYTES,
    Index,
    Manifest,
    read_config,
    read_manifest,
)
from xmanager.images.values import (
    OCI_LAYER_TAR,
    Descriptor,
    ImageConfig,
    Layer,
    Platform,
    digest_of,
)

_MOST_MEMBERS: Final = 100_000
_READ_BYTES: Final = 2**20
_REPOSITORY_TAG: Final = re.compile(r'[\w.:/@-]{1,400}', re.ASCII)


@attrs.frozen
class Archived:
    """An image in an archive. `id` is the digest of its configuration; `names` are those it was saved under."""

    id: str
    config: ImageConfig
    data: bytes = attrs.field(repr=False)
    names: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    """The members of the archive with the layers, the lowest first."""


def read_archive(path: Path, platform: Platform | None = None) -> Archived:
    """The image in a `.tar`, which may be compressed; nothing is unpacked. Raises PackagingError.

    An archive with several images is refused; in an OCI index the one for `platform` is taken.
    """
    with opened(path) as archive:
        members = _members(archive, path)
        if 'manifest.json' in members:
            return _read_docker(archive, members, path)
        if 'index.json' in members:
            return _read_oci(archive, members, path, platform or Platform())
    raise PackagingError(
        f'{path} is no image: it holds neither manifest.json (docker save) nor index.json (an OCI layout).'
    )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive, whatever it is compressed with; faults in it are errors of one sentence."""
    import lzma
    import zlib

    try:
        with tarfile.open(path) as archive:
            yield archive
    except (
        tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise PackagingError(
            f'{path} is no tar archive, or a damaged one: {str(error)[:200]}.'
        ) from None
    except OSError as error:
        raise PackagingError(
            f"{path} can't be read as an archive: {error.strerror or error}."
        ) from None


def _members(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(archive):
        if count >= _MOST_MEMBERS:
            raise PackagingError(f'{path} has more than {_MOST_MEMBERS} members: that is no image.')
        members[member.name.removeprefix('./')] = member
    return members


def _read_docker(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], path: Path
) -> Archived:
    described = _json(_bytes(archive, members, 'manifest.json', MANIFEST_BYTES, path), path)
    if not isinstance(described, list) or not all(isinstance(one, dict) for one in described):
        raise PackagingError(f'{path} has a manifest.json that is no list of images.')
    if len(described) != 1:
        raise PackagingError(
            f'{path} holds {len(described)} images; one is expected. Save it alone: docker save NAME.'
        )
    one = described[0]
    layers, names = _texts(one, 'Layers', path), _texts(one, 'RepoTags', path)
    name = one.get('Config')
    if not isinstance(name, str):
        raise PackagingError(f'{path} has a manifest.json that names no Config.')
    data = _bytes(archive, members, name, CONFIG_BYTES, path)
    config = read_config(data, str(path))
    if len(config.diff_ids) != len(layers):
        raise PackagingError(
            f'{path} names {len(layers)} layers, but its configuration has {len(config.diff_ids)}.'
        )
    for layer in layers:
        _member(members, layer, path)
    good = tuple(name for name in names if _REPOSITORY_TAG.fullmatch(name))
    return Archived(digest_of(data), config, data, good, tuple(layers))


def _read_oci(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], path: Path, platform: Platform
) -> Archived:
    index = read_manifest(
        _bytes(archive, members, 'index.json', MANIFEST_BYTES, path), f'{path} (index.json)'
    )
    # An index of indexes is how several platforms stand under one name; no tool nests them deeper.
    for _ in range(3):
        if isinstance(index, Manifest):
            break
        chosen = _only(index, platform, path)
        data = _bytes(archive, members, _blob_name(chosen.digest), MANIFEST_BYTES, path)
        index = read_manifest(data, str(path), digest=chosen.digest, media_type=chosen.media_type)
    if not isinstance(index, Manifest):
        raise PackagingError(f'{path} has an index in an index in an index: that is no image.')
    config_data = _bytes(archive, members, _blob_name(index.config.digest), CONFIG_BYTES, path)
    config = read_config(config_data, str(path), digest=index.config.digest)
    layers = tuple(_blob_name(layer.digest) for layer in index.layers)
    if len(config.diff_ids) != len(layers):
        raise PackagingError(
            f'{path} names {len(layers)} layers, but its configuration has {len(config.diff_ids)}.'
        )
    for layer in layers:
        _member(members, layer, path)
    return Archived(index.config.digest, config, config_data, (), layers)


def _only(index: Index, platform: Platform, path: Path) -> Descriptor:
    if len(index.manifests) == 1:
        return index.manifests[0]
    if any(one.platform is None for one in index.manifests):
        raise PackagingError(f'{path} holds {len(index.manifests)} images; one is expected.')
    return index.choose(platform, str(path))


def _blob_name(digest: str) -> str:
    return f'blobs/{digest.replace(":", "/")}'


def _member(members: dict[str, tarfile.TarInfo], name: str, path: Path) -> tarfile.TarInfo:
    member = members.get(name)
    for _ in range(2):
        if member is not None and (member.issym() or member.islnk()):
            # Docker saves a layer that stands twice as a link to the first; it leads to another member, never outside.
            member = members.get(_link_target(name, member))
    if member is None or not member.isfile():
        raise PackagingError(f'{path} names {name[:200]!r}, which is no file in it.')
    return member


def _link_target(name: str, member: tarfile.TarInfo) -> str:
    if member.islnk():
        return member.linkname
    parts = name.split('/')[:-1]
    for part in member.linkname.split('/'):
        if part == '..':
            parts = parts[:-1]
        elif part not in ('', '.'):
            parts.append(part)
    return '/'.join(parts)


def _bytes(
    archive: tarfile.TarFile,
    members: dict[str, tarfile.TarInfo],
    name: str,
    limit: int,
    path: Path,
) -> bytes:
    member = _member(members, name, path)
    if member.size > limit:
        raise PackagingError(
            f'{path} has {member.size} bytes of {name[:200]!r}; at most {limit} are read.'
        )
    file = archive.extractfile(member)
    assert file is not None  # It is a regular file.
    data = file.read(limit + 1)
    if len(data) != member.size:
        raise PackagingError(f'{path} is cut short in {name[:200]!r}.')
    return data


def _json(data: bytes, path: Path) -> Any:
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        raise PackagingError(f'{path} has a manifest.json that is no JSON.') from None


def _texts(value: dict[str, Any], key: str, path: Path) -> list[str]:
    found = value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise PackagingError(f'{path} has a manifest.json whose {key} is no list of names.')
    return found


def layers_of(chunks: Iterable[bytes], folder: Path) -> tuple[Layer, ...]:
    """The layers of an image that an engine exports (`docker save`), as files in `folder`; the lowest first."""
    saved = folder / 'saved.tar'
    with saved.open('wb') as file:
        for chunk in chunks:
            file.write(chunk)
    archived = read_archive(saved)
    with opened(saved) as archive:
        members = _members(archive, saved)
        return tuple(
            _unpacked(archive, _member(members, name, saved), diff_id, folder / f'{i}.tar')
            for i, (name, diff_id) in enumerate(
                zip(archived.layers, archived.config.diff_ids, strict=True)
            )
        )


def _unpacked(archive: tarfile.TarFile, member: tarfile.TarInfo, diff_id: str, path: Path) -> Layer:
    """The tar of a layer, checked; OCI archives have it compressed."""
    import gzip
    import hashlib

    source = archive.extractfile(member)
    assert source is not None
    file: IO[bytes] | gzip.GzipFile = source
    if source.read(2) == b'\x1f\x8b':
        file = gzip.GzipFile(fileobj=source)
    source.seek(0)
    found, size = hashlib.sha256(), 0
    with path.open('wb') as target:
        while chunk := file.read(_READ_BYTES):
            found.update(chunk)
            size += target.write(chunk)
    if f'sha256:{found.hexdigest()}' != diff_id:
        raise PackagingError(f'The engine exported another layer than {diff_id}. Try again.')
    return Layer(Descriptor(OCI_LAYER_TAR, diff_id, size), diff_id, path)
