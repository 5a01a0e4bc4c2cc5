"""Who is alive on an experiment: locks that the kernel releases at death, and a pipe to wake the supervisor."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import weakref
from pathlib import Path

from xmanager.errors import StoreError
from xmanager.store.trouble import NO_LOCKS_ERRNO


class Lock:
    """A held lock; it ends with `release` or with the process, whichever comes first.

    A forked child has no part in it, though the kernel would give it one (man 2 flock).
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        if self._descriptor >= 0:
            # Closing alone would leave it to a child that was forked behind Python's back.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for lock in list(_held):
        lock._close()


os.register_at_fork(after_in_child=_leave_to_parent)


class Presence:
    """The locks of one experiment's folder.

    The supervisor holds one exclusively; every launcher whose context is open holds the other in common.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._supervisor = folder / 'supervisor.lock'
        self._launchers = folder / 'launchers.lock'
        self.wake_pipe = folder / 'wake'
        self._on_demand = folder / 'on-demand'
        self._looked = folder / 'looked'

    def supervise(self) -> Lock | None:
        """Becomes the supervisor, or returns None if there is one."""
        lock = _lock(self._supervisor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            self._supervisor.write_text(f'{os.getpid()}')
        return lock

    def has_supervised(self, pid: int) -> bool:
        """Whether the last one to become the supervisor was this process."""
        try:
            return self._supervisor.read_text() == f'{pid}'
        except FileNotFoundError:
            return False

    def is_supervised(self) -> bool:
        return _is_held(self._supervisor, fcntl.LOCK_SH)

    def launch(self) -> Lock:
        """Tells that more units may come, until released."""
        lock = _lock(self._launchers, fcntl.LOCK_SH)
        assert lock is not None
        return lock

    def is_launching(self) -> bool:
        """Whether some launcher's context is open."""
        return _is_held(self._launchers, fcntl.LOCK_EX)

    def let_come_on_demand(self, wanted: bool) -> None:
        """Whether the supervisor leaves while its units are with engines that go on without it."""
        if wanted:
            self._on_demand.touch()
        else:
            self._on_demand.unlink(missing_ok=True)

    def comes_on_demand(self) -> bool:
        return self._on_demand.exists()

    def tell_looked(self) -> None:
        """The supervisor has just looked at all units."""
        self._looked.touch()

    def looked_at(self) -> float:
        """When a supervisor told so last, by the clock of the file system; 0 if none ever did."""
        try:
            return self._looked.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def open_wake_pipe(self) -> int:
        """The supervisor's end: readable whenever somebody called `wake`. Non-blocking."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.wake_pipe, 0o600)
        # Read and write: with a writer of its own the pipe never reports end of file.
        return os.open(self.wake_pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wake(self) -> bool:
        """Wakes the supervisor; False if none listens."""
        return wake_by(self.wake_pipe)


def wake_by(pipe: str | os.PathLike[str]) -> bool:
    """Wakes whoever listens at that pipe; False if nobody does, or it is another user's."""
    try:
        if not stat.S_ISFIFO(os.stat(pipe).st_mode):
            return False
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return False
    except OSError as error:
        if error.errno == errno.ENXIO:  # Nobody has opened it for reading.
            return False
        raise
    try:
        os.write(descriptor, b'.')
    except BlockingIOError:  # The pipe is full of earlier calls: it will wake.
        return True
    except BrokenPipeError:  # It died between our open and our write.
        return False
    finally:
        os.close(descriptor)
    return True


def _lock(path: Path, mode: int) -> Lock | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, mode)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        if error.errno in NO_LOCKS_ERRNO:
            raise StoreError(
                f'{path.parent} is on a file system without locks. Set XM_HOME to a folder on a local disk.'
            ) from error
        raise
    return Lock(descriptor)


def _is_held(path: Path, mode: int) -> bool:
    """Whether somebody holds it in a way that excludes `mode`."""
    if not path.exists():
        return False
    lock = _lock(path, mode | fcntl.LOCK_NB)
    if lock is None:
        return True
    lock.release()
    return False
