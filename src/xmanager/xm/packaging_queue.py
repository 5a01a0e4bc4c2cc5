"""Packageables that wait for the next `package()` call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any

from xmanager.xm.executables import Executable
from xmanager.xm.packageables import Packageable

PackageAll = Callable[[Sequence[Packageable]], list[Executable]]


class QueuedPackageable:
    """What `package_async` returns: await it after the next `package()`."""

    def __init__(self, packageable: Packageable) -> None:
        self.packageable = packageable
        self.executable: Executable | None = None
        self.error: BaseException | None = None

    def __await__(self) -> Generator[Any, None, Executable]:
        yield from ()  # Makes this function a generator, as __await__ must be.
        if self.error is not None:
            raise self.error
        if self.executable is None:
            raise RuntimeError(
                f'{self.packageable.executable_spec.name!r} was queued by package_async and is not packaged yet: '
                'call experiment.package() before you await it.'
            )
        return self.executable


class PackagingQueue:
    """Collects what `package_async` queues and packages it with the next batch."""

    def __init__(self, package_all: PackageAll) -> None:
        self._package_all = package_all
        self._queued: list[QueuedPackageable] = []

    def queue(self, packageable: Packageable) -> Awaitable[Executable]:
        queued = QueuedPackageable(packageable)
        self._queued.append(queued)
        return queued

    def package(self, packageables: Sequence[Packageable]) -> list[Executable]:
        """Packages the given ones and the queued ones together; returns the given ones' executables."""
        if isinstance(packageables, Packageable):
            raise TypeError(
                'experiment.package() takes a list: write `[executable] = experiment.package([…])`.'
            )
        given = list(packageables)
        queued, self._queued = self._queued, []
        try:
            executables = self._package_all(given + [item.packageable for item in queued])
        except BaseException as error:
            for item in queued:
                item.error = error
            raise
        for item, executable in zip(queued, executables[len(given) :], strict=True):
            item.executable = executable
        return executables[: len(given)]
