"""Images of random bytes: a registry doesn't look inside."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import attrs

from xmanager.images.reference import Reference
from xmanager.images.values import (
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Image,
    Layer,
    canonical_json,
    digest_of,
)


def image(
    folder: Path,
    sizes: Sequence[int],
    seed: int = 0,
    base: Sequence[Layer] = (),
    manifest_type: str = OCI_MANIFEST,
) -> Image:
    """Layers in files of `folder` upon those of a base."""
    layers = list(base)
    for index, size in enumerate(sizes):
        data = random.Random(f'{seed} {index}').randbytes(size)
        path = folder / f'{seed}-{index}'
        path.write_bytes(data)
        descriptor = Descriptor(OCI_LAYER_GZIP, digest_of(data), size)
        layers.append(Layer(descriptor, digest_of(data), path=path))
    diff_ids = [layer.diff_id for layer in layers]
    config = {
        'architecture': 'amd64',
        'os': 'linux',
        'rootfs': {'type': 'layers', 'diff_ids': diff_ids},
    }
    return Image(canonical_json(config), tuple(layers), manifest_type)


def as_base(image: Image, origin: Reference) -> list[Layer]:
    """Its layers as those that a registry has."""
    return [attrs.evolve(layer, path=None, origin=origin) for layer in image.layers]
