"""An image made of a base and layers on top of it: nothing is built, and the same parts make the same image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from xmanager.images.values import OCI_MANIFEST, Image, ImageConfig, Layer, canonical_json

# No time of day is part of an image: it would be another one each time.
_CREATED: Final = '1970-01-01T00:00:00Z'
# What a container inherits from its image. What else engines note there (host names, the image that a build step began
# with) differs with where the base came from.
_INHERITED: Final = (
    'Cmd', 'Entrypoint', 'Env', 'ExposedPorts', 'Healthcheck', 'Labels', 'Shell', 'StopSignal', 'StopTimeout',
    'User', 'Volumes', 'WorkingDir',
)  # fmt: skip


@attrs.frozen
class Base:
    """An image to append to: what it says, and its layers, the lowest first."""

    config: ImageConfig
    layers: tuple[Layer, ...]
    manifest_type: str = OCI_MANIFEST


def append(
    base: Base,
    layers: Sequence[Layer],
    *,
    working_dir: str,
    entrypoint: Sequence[str],
    env: Mapping[str, str],
) -> Image:
    """The base with these layers on top. `env` is added to its environment; its default command is dropped."""
    settings = {key: base.config.settings.get(key) for key in _INHERITED}
    environment = {**base.config.env, **env}
    settings |= {
        'Env': [f'{name}={value}' for name, value in environment.items()],
        'Entrypoint': list(entrypoint),
        'Cmd': None,
        'WorkingDir': working_dir,
    }
    every = (*base.layers, *layers)
    platform = base.config.platform
    config: dict[str, Any] = {
        'architecture': platform.architecture,
        'os': platform.os,
        'created': _CREATED,
        'config': {key: value for key, value in settings.items() if value},
        'rootfs': {'type': 'layers', 'diff_ids': [layer.diff_id for layer in every]},
    }
    if platform.variant:
        config['variant'] = platform.variant
    return Image(canonical_json(config), every, base.manifest_type)
