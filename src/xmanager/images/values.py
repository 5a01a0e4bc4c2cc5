"""What an image is made of, as values: descriptors, layers, the configuration; media types of OCI and Docker v2."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from xmanager.errors import PackagingError
from xmanager.images.reference import Reference

# https://github.com/opencontainers/image-spec/blob/v1.1.0/media-types.md
OCI_MANIFEST: Final = 'application/vnd.oci.image.manifest.v1+json'
OCI_INDEX: Final = 'application/vnd.oci.image.index.v1+json'
OCI_CONFIG: Final = 'application/vnd.oci.image.config.v1+json'
OCI_LAYER_TAR: Final = 'application/vnd.oci.image.layer.v1.tar'
OCI_LAYER_GZIP: Final = 'application/vnd.oci.image.layer.v1.tar+gzip'
OCI_LAYER_ZSTD: Final = 'application/vnd.oci.image.layer.v1.tar+zstd'
# https://distribution.github.io/distribution/spec/manifest-v2-2/
DOCKER_MANIFEST: Final = 'application/vnd.docker.distribution.manifest.v2+json'
DOCKER_INDEX: Final = 'application/vnd.docker.distribution.manifest.list.v2+json'
DOCKER_CONFIG: Final = 'application/vnd.docker.container.image.v1+json'
DOCKER_LAYER_TAR: Final = 'application/vnd.docker.image.rootfs.diff.tar'
DOCKER_LAYER_GZIP: Final = 'application/vnd.docker.image.rootfs.diff.tar.gzip'
DOCKER_LAYER_FOREIGN: Final = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'

MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_INDEX})

_IN_OCI: Final = {DOCKER_LAYER_TAR: OCI_LAYER_TAR, DOCKER_LAYER_GZIP: OCI_LAYER_GZIP}
_IN_DOCKER: Final = {oci: docker for docker, oci in _IN_OCI.items()}


def digest_of(data: bytes) -> str:
    """The digest by which a registry, an engine and a manifest call these bytes."""
    return f'sha256:{hashlib.sha256(data).hexdigest()}'


def canonical_json(value: Any) -> bytes:
    """The same bytes for the same value: keys in order, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(',', ':'), ensure_ascii=False)
    return text.encode()


@attrs.frozen
class Platform:
    """What an image runs on; `amd64`, `arm64` and so on are Go's names."""

    architecture: str = 'amd64'
    os: str = 'linux'
    variant: str = ''

    def __str__(self) -> str:
        return '/'.join(filter(None, (self.os, self.architecture, self.variant)))


@attrs.frozen
class Descriptor:
    """A blob by its content. `platform` is said by an index of the images in it."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None

    def as_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {'mediaType': self.media_type, 'digest': self.digest, 'size': self.size}


@attrs.frozen
class Layer:
    """One layer. `diff_id` is the digest of its tar before compression.

    `descriptor` is the blob that a registry keeps; None where an engine holds the layer and only its diff_id is known.
    `path` is a local file with that blob; `origin` is where a registry has it (a layer of the base), to be mounted.
    """

    descriptor: Descriptor | None
    diff_id: str
    path: Path | None = None
    origin: Reference | None = None

    @property
    def compressed(self) -> bool:
        """Whether the blob is something else than the tar itself."""
        return self.descriptor is None or self.descriptor.digest != self.diff_id


@attrs.frozen
class ImageConfig:
    """What an image's configuration says; `settings` is its `config`: Env, Entrypoint, WorkingDir, …"""

    platform: Platform
    diff_ids: tuple[str, ...]
    settings: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The environment in which its processes start."""
        pairs: Sequence[str] = self.settings.get('Env') or ()
        return {name: value for name, _, value in (pair.partition('=') for pair in pairs)}


@attrs.frozen
class Image:
    """A whole image: the bytes of its configuration and its layers, the lowest first.

    `manifest_type` is the kind of manifest it gets: that of its base.
    """

    config: bytes
    layers: tuple[Layer, ...]
    manifest_type: str = OCI_MANIFEST

    @property
    def id(self) -> str:
        """The digest of the configuration: the image's id in a local engine."""
        return digest_of(self.config)

    @property
    def config_descriptor(self) -> Descriptor:
        media_type = OCI_CONFIG if self.manifest_type == OCI_MANIFEST else DOCKER_CONFIG
        return Descriptor(media_type, self.id, len(self.config))

    def manifest(self) -> bytes:
        """The bytes of its manifest; the same for the same image. Raises PackagingError if a blob isn't known."""
        return canonical_json(
            {
                'schemaVersion': 2,
                'mediaType': self.manifest_type,
                'config': self.config_descriptor.as_json(),
                'layers': [self._blob(layer).as_json() for layer in self.layers],
            }
        )

    def _blob(self, layer: Layer) -> Descriptor:
        if layer.descriptor is None:
            raise PackagingError(
                f'The layer {layer.diff_id} is in an engine only: a manifest needs its size and digest as a blob.'
            )
        known = _IN_OCI if self.manifest_type == OCI_MANIFEST else _IN_DOCKER
        media_type = known.get(layer.descriptor.media_type, layer.descriptor.media_type)
        return attrs.evolve(layer.descriptor, media_type=media_type)
