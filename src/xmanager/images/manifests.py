"""Reads manifests, indexes and configurations out of bytes that nobody vouches for."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn, TypeVar

import attrs

from xmanager.errors import PackagingError
from xmanager.images.reference import is_digest
from xmanager.images.values import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Platform,
    digest_of,
)

# Registries take manifests of up to 4 MiB; a configuration holds the history too, and may be a little larger.
MANIFEST_BYTES: Final = 4 * 2**20
CONFIG_BYTES: Final = 8 * 2**20
_BLOB_BYTES: Final = 2**50
_MOST: Final = 10_000
# Docker's schema 1, which no registry has made since 2019.
_OLD: Final = 'application/vnd.docker.distribution.manifest.v1'

T = TypeVar('T')


@attrs.frozen
class Manifest:
    """One image for one platform, by its blobs."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    data: bytes = attrs.field(repr=False)

    @property
    def digest(self) -> str:
        return digest_of(self.data)


@attrs.frozen
class Index:
    """Several images under one name: one for each platform."""

    media_type: str
    manifests: tuple[Descriptor, ...]

    def choose(self, platform: Platform, name: str) -> Descriptor:
        """The image for a platform; raises PackagingError with those that there are."""
        for wanted in (platform, attrs.evolve(platform, variant='')):
            for descriptor in self.manifests:
                there = descriptor.platform
                if there == wanted or (there and not wanted.variant and _same(there, wanted)):
                    return descriptor
        there_are = sorted({str(one.platform) for one in self.manifests if one.platform})
        raise PackagingError(
            f'{name} has no image for {platform}: it has {", ".join(there_are) or "none at all"}.'
        )


def _same(one: Platform, other: Platform) -> bool:
    return (one.os, one.architecture) == (other.os, other.architecture)


def read_manifest(
    data: bytes, name: str, *, digest: str = '', media_type: str = ''
) -> Manifest | Index:
    """Reads a manifest or an index. `name` is said in errors; `media_type` is what the server called it.

    Raises PackagingError: too large, another digest than asked for, no JSON, a field missing or of a wrong type.
    """
    read = _Reading(f'The manifest of {name}')
    value = read.document(data, MANIFEST_BYTES, digest)
    if value.get('schemaVersion') != 2:
        read.refuse(f'has schemaVersion {_shown(value.get("schemaVersion"))}; only 2 is read')
    said = read.optional(value, 'mediaType', str, '') or media_type.partition(';')[0].strip()
    if said.startswith(_OLD):
        read.refuse("is of Docker's schema 1, which no tool writes any more: push the image again")
    if 'manifests' in value and 'layers' in value:
        # What one reader takes for an index would be an image to the next: CVE-2021-41190.
        read.refuse('has both manifests and layers')
    if 'manifests' in value:
        return _read_index(read, value, said)
    kind = said if said in MANIFESTS else ''
    if said and not kind:
        read.refuse(f'is of the media type {_shown(said)}, which is no image')
    config = read.descriptor(read.field(value, 'config', dict), 'config')
    layers = tuple(
        read.descriptor(layer, f'layers[{i}]') for i, layer in enumerate(read.many(value, 'layers'))
    )
    if not kind:
        kind = DOCKER_MANIFEST if 'docker' in config.media_type else OCI_MANIFEST
    return Manifest(kind, config, layers, data)


def _read_index(read: _Reading, value: dict[str, Any], said: str) -> Index:
    if said and said not in INDEXES:
        read.refuse(f'is of the media type {_shown(said)}, but has manifests')
    manifests = tuple(
        read.descriptor(one, f'manifests[{i}]')
        for i, one in enumerate(read.many(value, 'manifests'))
    )
    docker = any(one.media_type == DOCKER_MANIFEST for one in manifests)
    return Index(said or (DOCKER_INDEX if docker else OCI_INDEX), manifests)


def read_config(data: bytes, name: str, *, digest: str = '') -> ImageConfig:
    """Reads an image's configuration. Raises PackagingError as `read_manifest` does."""
    read = _Reading(f'The configuration of {name}')
    value = read.document(data, CONFIG_BYTES, digest)
    platform = Platform(
        read.field(value, 'architecture', str),
        read.field(value, 'os', str),
        read.optional(value, 'variant', str, ''),
    )
    rootfs = read.field(value, 'rootfs', dict)
    diff_ids = read.many(rootfs, 'diff_ids')
    for diff_id in diff_ids:
        if not is_digest(diff_id):
            read.refuse(f'has the diff_id {_shown(diff_id)}, which is no sha256 digest')
    settings = read.optional(value, 'config', dict, {})
    check_settings(settings, name)
    return ImageConfig(platform, tuple(diff_ids), settings)


def check_settings(settings: dict[str, Any], name: str) -> None:
    """Checks the types of those fields of a configuration that are used here; raises PackagingError."""
    read = _Reading(f'The configuration of {name}')
    for field in ('Env', 'Entrypoint', 'Cmd', 'Shell', 'OnBuild'):
        for one in read.optional(settings, field, list, []):
            if not isinstance(one, str) or '\0' in one:
                read.refuse(f'has {_shown(one)} in {field}, where only text may be')
    for field in ('User', 'WorkingDir', 'StopSignal'):
        read.optional(settings, field, str, '')
    for field in ('Labels', 'ExposedPorts', 'Volumes', 'Healthcheck'):
        read.optional(settings, field, dict, {})


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:80]}…'


@attrs.frozen
class _Reading:
    """Takes fields out of a document; what is wrong is said of `what`."""

    what: str

    def refuse(self, fault: str) -> NoReturn:
        raise PackagingError(f'{self.what} {fault}.')

    def document(self, data: bytes, limit: int, digest: str) -> dict[str, Any]:
        if len(data) > limit:
            self.refuse(f'is larger than {limit // 2**20} MiB')
        if digest and digest_of(data) != digest:
            self.refuse(f'is not what was asked for: its digest is {digest_of(data)}, not {digest}')
        try:
            value = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
            json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            reason = str(error) if not isinstance(error, RecursionError) else 'it is too deep'
            raise PackagingError(f'{self.what} is no JSON: {reason[:120]}.') from None
        if not isinstance(value, dict):
            self.refuse(f'is {_shown(value)}, not an object')
        return value

    def field(self, value: dict[str, Any], key: str, kind: type[T]) -> T:
        found = value.get(key)
        if found is None:
            self.refuse(f'has no {key}')
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            self.refuse(f'has {_shown(found)} as {key}, not a {_KINDS[kind]}')
        return found

    def optional(self, value: dict[str, Any], key: str, kind: type[T], default: T) -> T:
        return default if value.get(key) is None else self.field(value, key, kind)

    def many(self, value: dict[str, Any], key: str) -> list[Any]:
        # Go writes an empty list as null.
        found = self.optional(value, key, list, [])
        if key not in value:
            self.refuse(f'has no {key}')
        if len(found) > _MOST:
            self.refuse(f'has {len(found)} {key}; at most {_MOST} are read')
        return found

    def descriptor(self, value: Any, where: str) -> Descriptor:
        if not isinstance(value, dict):
            self.refuse(f'has {_shown(value)} as {where}, not an object')
        inner = attrs.evolve(self, what=f'{self.what} (in {where})')
        digest = inner.field(value, 'digest', str)
        if not is_digest(digest):
            inner.refuse(
                f'has the digest {_shown(digest)}, which is not sha256 and 64 hexadecimal digits'
            )
        size = inner.field(value, 'size', int)
        if not 0 <= size <= _BLOB_BYTES:
            inner.refuse(f'has the size {_shown(size)}')
        platform = inner.optional(value, 'platform', dict, {})
        return Descriptor(
            inner.field(value, 'mediaType', str), digest, size, _platform(inner, platform)
        )


def _platform(read: _Reading, value: dict[str, Any]) -> Platform | None:
    if not value:
        return None
    return Platform(
        read.field(value, 'architecture', str),
        read.field(value, 'os', str),
        read.optional(value, 'variant', str, ''),
    )


_KINDS: Final[dict[type, str]] = {str: 'text', int: 'number', list: 'list', dict: 'object'}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers of a key that stands twice may each take another value for it.
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError('a key stands twice in an object')
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f'{name} is no value of JSON')
