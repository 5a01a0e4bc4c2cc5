"""What packaging keeps to be quick, and how the old of it is removed: all of it can be made again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Final

import attrs

from xmanager.images.layer_cache import gc_layers
from xmanager.packaging.environments import gc_environments
from xmanager.packaging.loading import prune_images
from xmanager.packaging.shared_image import gc_images

# Scratch folders of a packaging that was killed; none takes longer.
_UNFINISHED: Final = ('.packages-*', '.exported-*', '.context-*')
_LONGEST: Final = 86400.0


@attrs.frozen
class Old:
    """Something that was removed, or would be: `image`, `environment`, `layer` or `unfinished folder`."""

    kind: str
    name: str


def remove_old(
    cache: Path,
    images: Set[str],
    environments: Set[str],
    remove_image: Callable[[str, str], bool],
    older_than: float,
    *,
    layouts: Path,
    dry_run: bool,
) -> Iterator[Old]:
    """Removes what was not used for so many seconds, less the images (ids) and environments (keys) that are named.

    `remove_image(engine_url, name)` says whether the image is gone; `layouts` is where images for clusters lie.
    Repeating it is harmless.
    """
    for name in prune_images(cache, remove_image, images, older_than, dry_run=dry_run):
        yield Old('image', name)
    for image in gc_images(layouts, images, older_than, dry_run=dry_run):
        yield Old('image', image)
    for folder in gc_environments(cache, older_than, environments, dry_run=dry_run):
        yield Old('environment', folder.name)
    for path in gc_layers(cache, older_than, dry_run=dry_run):
        yield Old('layer', path.name)
    for pattern in _UNFINISHED:
        for path in cache.glob(pattern):
            if path.stat().st_mtime < time.time() - max(older_than, _LONGEST):
                if not dry_run:
                    shutil.rmtree(path, ignore_errors=True)
                yield Old('unfinished folder', path.name)
