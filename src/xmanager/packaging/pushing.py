"""Pushes an image to a registry: only what is missing there is sent, several blobs at a time, the manifest last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import attrs

from xmanager.errors import PackagingError
from xmanager.images.registry_patience import Patience
from xmanager.images.values import Image, Layer

if TYPE_CHECKING:
    from xmanager.images.reference import Reference
    from xmanager.images.registry import Registry

_CONNECTIONS: Final = 4


def push(
    image: Image,
    target: Reference,
    environ: Mapping[str, str],
    tell: Callable[[str], None],
) -> str:
    """Makes the registry have the image under the target's repository, and its tag if it has one.

    Returns `REGISTRY/REPOSITORY@sha256:…`, the name that fixes the content. Layers of a base in the same registry are
    mounted, those of another pass through without being kept. A push that was cut can simply be repeated: what had
    arrived is found. Raises PackagingError.
    """
    from xmanager.images.registry import Registry

    _check(image, target)
    with ExitStack() as stack:
        progress = _Progress(tell, target.registry)
        registry = stack.enter_context(Registry(target, environ, patience=progress.patience))
        _Pushing(image, registry, environ, progress, stack).send_blobs()
        digest = registry.put_manifest(image.manifest(), image.manifest_type, target.tag)
    return str(target.with_digest(digest))


def _check(image: Image, target: Reference) -> None:
    for layer in image.layers:
        if layer.descriptor is None or (layer.path is None and layer.origin is None):
            raise PackagingError(
                f'The layer {layer.diff_id} is neither in a file nor in a registry: it can not be pushed to {target}. '
                'Take the base image from a registry.'
            )


class _Progress:
    """Sums up what several uploads send, and stops them all when one has failed; thread-safe."""

    def __init__(self, tell: Callable[[str], None], registry: str) -> None:
        self.patience = Patience(tell, sleep=self._pause)
        self._tell = tell
        self._registry = registry
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._sent = 0
        self._total = 0
        self._told = -1

    def stop(self) -> None:
        """Ends what still goes on, at its next block or pause."""
        self._stopped.set()

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise PackagingError('Another part of the push has failed.')

    def more(self, size: int) -> None:
        """So much more is to be sent."""
        with self._lock:
            self._total += size

    def sent(self, size: int) -> None:
        """So much of it went out."""
        self._pause(0)
        with self._lock:
            self._sent += size
            megabytes = self._sent // 10**6
            if megabytes == self._told or self._total < 10**6:
                return
            self._told = megabytes
            total = -(-self._total // 10**6)
        self._tell(f'uploading to {self._registry}: {megabytes} of {total} MB')


@attrs.frozen
class _Pushing:
    """One image on its way."""

    image: Image
    registry: Registry
    environ: Mapping[str, str]
    progress: _Progress
    stack: ExitStack
    sources: dict[str, Registry] = attrs.field(factory=dict)
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def send_blobs(self) -> None:
        """Returns when the registry has all; the first failure ends it."""
        layers = {layer.descriptor.digest: layer for layer in self.image.layers if layer.descriptor}
        # The largest first: it is the one to be waited for.
        order = sorted(layers.values(), key=_size, reverse=True)
        tasks: list[Callable[[], None]] = [self._send_config]
        tasks[:0] = [_bound(self._send_layer, layer) for layer in order]
        with ThreadPoolExecutor(min(_CONNECTIONS, len(tasks)), 'push') as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                self.progress.stop()
                for registry in (self.registry, *self.sources.values()):
                    registry.abort()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send_config(self) -> None:
        descriptor = self.image.config_descriptor
        if not self.registry.has_blob(descriptor.digest):
            self.registry.upload(descriptor, self.image.config)

    def _send_layer(self, layer: Layer) -> None:
        descriptor, origin, registry = layer.descriptor, layer.origin, self.registry
        assert descriptor is not None
        if registry.has_blob(descriptor.digest):
            return
        if layer.path is not None:
            self.progress.more(descriptor.size)
            registry.upload(descriptor, layer.path, self.progress.sent)
            return
        assert origin is not None
        is_near = origin.registry == registry.reference.registry
        if is_near and registry.mount(descriptor.digest, origin.repository):
            return
        self.progress.more(descriptor.size)
        registry.upload_stream(descriptor, self._source(origin), self.progress.sent)

    def _source(self, origin: Reference) -> Registry:
        from xmanager.images.registry import Registry

        if origin.registry == self.registry.reference.registry:
            return self.registry.at(origin)
        with self.lock:
            if origin.name not in self.sources:
                other = Registry(origin, self.environ, patience=self.progress.patience)
                self.sources[origin.name] = self.stack.enter_context(other)
            return self.sources[origin.name]


def _size(layer: Layer) -> int:
    return layer.descriptor.size if layer.descriptor else 0


def _bound(send: Callable[[Layer], None], layer: Layer) -> Callable[[], None]:
    return lambda: send(layer)
