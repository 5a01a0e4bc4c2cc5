"""One image of Python code in the making: its snapshot, its packages, its layers; it knows no destination."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from xmanager.errors import EngineError, PackagingError
from xmanager.images.append import append
from xmanager.images.layer import tar_chunks
from xmanager.images.layer_cache import LayerCache, gc_layers
from xmanager.images.values import Image, Layer
from xmanager.packaging import image_base
from xmanager.packaging.dependency_layer import dependency_layer, environment_of
from xmanager.packaging.entry_point import check_entrypoint, entrypoint_of
from xmanager.packaging.requirements import LOCKS, Requirements, find_requirements
from xmanager.packaging.workshop import Workshop
from xmanager.xm.executables import PythonContainer

if TYPE_CHECKING:
    from xmanager.containers import Engine
    from xmanager.packaging.image_base import Found
    from xmanager.snapshot import Entry, Limits, SnapshotStore

# Layers are small beside what they were made of; those of a month of editing fit.
_MOST_LAYER_BYTES: Final = 4 * 2**30
_NO_AGE: Final = float('inf')
# Where base images keep links and mounts: a folder in a layer would take their place.
_TAKEN: Final = frozenset(
    [
        'bin', 'boot', 'dev', 'etc', 'lib', 'lib32', 'lib64', 'libx32', 'proc', 'root', 'run', 'sbin', 'sys', 'tmp',
        'usr', 'var',
    ]
)  # fmt: skip


@attrs.define(slots=False)
class PythonImage:
    """What an `xm.python_container` is made of; to be checked first. `is_shared`: other machines are to run it."""

    spec: PythonContainer
    workshop: Workshop
    is_shared: bool = False

    def check(self) -> None:
        """Raises PackagingError if the path is no folder that an image can be made of."""
        path = self.spec.path
        if not os.path.lexists(path):
            raise PackagingError(
                f'{self.asked}: {path} does not exist. Paths are relative to the launch script.'
            )
        if not os.path.isdir(path):
            raise PackagingError(f'{self.asked}: it is a file. Give the folder that it is in.')
        if not self.folder or not self.folder.isprintable():
            raise PackagingError(
                f'{self.asked}: an image needs a folder with a printable name of its own.'
            )
        if self.place in _TAKEN:
            raise PackagingError(
                f'{self.asked}: the code would lie in /{self.place} of the image, where the system is. '
                'Rename the folder, or set use_deep_module=True.'
            )

    @property
    def asked(self) -> str:
        """How the user would recognise it in an error."""
        return f'xm.python_container(path={self.spec.path!r})'

    @property
    def folder(self) -> str:
        return os.path.basename(os.path.abspath(self.spec.path))

    @property
    def place(self) -> str:
        """Where the code is in the image."""
        return f'workdir/{self.folder}' if self.spec.use_deep_module else self.folder

    @property
    def base_name(self) -> str:
        return self.spec.base_image or image_base.default_base()

    @functools.cached_property
    def snapshots(self) -> SnapshotStore:
        from xmanager.snapshot import SnapshotStore

        return SnapshotStore(self.workshop.snapshots)

    @property
    def limits(self) -> Limits:
        from xmanager.snapshot import Limits

        return Limits.of(self.workshop.environ)

    @functools.cached_property
    def engine(self) -> Engine:
        from xmanager.containers import find_engine

        return find_engine(self.workshop.environ)

    def engine_if_any(self) -> Engine | None:
        """The engine of this machine, None if none runs."""
        try:
            return self.engine
        except EngineError:
            return None

    def tell(self, step: str) -> None:
        """Says what is being done; see `Workshop.tell`."""
        self.workshop.tell(self.spec.name, step)

    def check_entrypoint(self, entries: Iterable[Entry]) -> None:
        """Raises PackagingError if these entries can't have the module that is to be run."""
        files = [entry.path for entry in entries if entry.kind != 'folder']
        own = self.spec.base_image is not None or self.spec.docker_instructions is not None
        brought = own or any('/' not in path and path in LOCKS for path in files)
        before = f'{self.folder}/' if self.spec.use_deep_module else ''
        check_entrypoint(self.spec.entrypoint, before, files, self.asked, installs=brought)

    def image(
        self, found: Found, digest: str, entries: Sequence[Entry], *, compressed: bool
    ) -> tuple[Image, list[dict[str, Any]]]:
        """The image with the snapshot `digest` of these entries, and what is recorded of the layers on its base."""
        image_base.check_platform(found, self.asked)
        env = {'LANG': 'C.UTF-8'}
        layers: dict[str, Layer] = {}
        if requirements := self.requirements(entries):
            target = image_base.target_of(found, self.workshop, self.engine_if_any, self.asked)
            layers[requirements.lock] = dependency_layer(
                requirements, target, self.workshop, self.spec.name, compressed=compressed
            )
            env |= environment_of(found.base.config.env)
        layers['code'] = self._code_layer(digest, entries, compressed)
        image = append(
            found.base,
            list(layers.values()),
            working_dir='/workdir' if self.spec.use_deep_module else f'/{self.place}',
            entrypoint=entrypoint_of(self.spec.entrypoint),
            env=env,
        )
        return image, [layer_facts(what, layer) for what, layer in layers.items()]

    def _code_layer(self, digest: str, entries: Sequence[Entry], compressed: bool) -> Layer:
        cache = LayerCache(self.workshop.cache)
        layer = cache.find(digest, self.place, compressed=compressed)
        if layer is None:
            self.tell('packing the code')
            read = self.snapshots.read
            layer = cache.make(
                digest,
                self.place,
                lambda: tar_chunks(entries, read, self.place),
                compressed=compressed,
            )
            gc_layers(self.workshop.cache, _NO_AGE, max_bytes=_MOST_LAYER_BYTES)
        return layer

    def requirements(self, entries: Iterable[Entry]) -> Requirements | None:
        """Which packages the folder asks for; in a dry run it is read as it is now."""
        files = {entry.path: entry for entry in entries if entry.kind == 'file'}

        def read(path: str) -> bytes:
            if self.workshop.dry_run:
                return Path(self.spec.path, path).read_bytes()
            with self.snapshots.read(files[path]) as file:
                return file.read()

        return find_requirements(files, read, self.asked)


def layer_facts(what: str, layer: Layer) -> dict[str, Any]:
    """What is recorded and planned of a layer."""
    assert layer.descriptor is not None
    return {'what': what, 'digest': layer.diff_id, 'bytes': layer.descriptor.size}
