"""Snapshots as folders that jobs run in: made of links to the kept contents, shared, and checked before each use."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from xmanager.snapshot.content import EPOCH_NS, Contents, is_intact
from xmanager.snapshot.guard import listed
from xmanager.snapshot.replacing import beside, replace
from xmanager.snapshot.values import FILE, FOLDER, LINK, Entry, Snapshot

BYTE_CODE: Final = '__pycache__'

# A file can't have more names (EMLINK), or the file system knows no links: then it is copied.
_NO_LINK: Final = frozenset({errno.EMLINK, errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS})
_THERE: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST})


class Trees:
    """The folder of trees. Their folders are read-only, and bear one time: who writes into one is found out by it.

    A folder with Python files has a `__pycache__` that may be written to, so that the units share byte code.
    """

    def __init__(self, folder: Path, contents: Contents) -> None:
        self._folder = folder
        self._contents = contents

    def get(self, snapshot: Snapshot) -> Path:
        """The tree, made if it isn't there. One that somebody has written into is left to whoever runs in it.

        Raises DamagedError if a content is gone.
        """
        for number in itertools.count(1):
            name = snapshot.digest if number == 1 else f'{snapshot.digest}-{number}'
            path, mark = self._folder / name, self._folder / f'{name}.changed'
            if mark.exists():
                continue
            if not path.is_dir():
                self._make(snapshot, path)
                return path
            changed = list(itertools.islice(changes(snapshot, str(path)), 20))
            if not changed:
                return path
            replace(mark, '\n'.join(changed).encode('utf-8', 'surrogateescape'))
            _warn(changed, path)
        raise AssertionError('unreachable')

    def _make(self, snapshot: Snapshot, path: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # In the same folder: to move a read-only folder to another one takes the right to write to it.
        staging = beside(path)
        try:
            os.mkdir(staging)
            self.fill(snapshot, staging)
            os.rename(staging, path)
        except OSError as error:
            if error.errno not in _THERE or not path.is_dir():
                raise
            # Somebody else was quicker, with the same.
        finally:
            remove(staging)

    def fill(self, snapshot: Snapshot, path: Path, *, writable: bool = False) -> None:
        """Makes everything in an empty folder; `writable`: copies that are the user's own to change."""
        root = str(path)
        folders = [root]
        for entry in snapshot.entries:
            place = f'{root}/{entry.path}'
            if entry.kind == FOLDER:
                os.mkdir(place)
                folders.append(place)
            elif entry.kind == LINK:
                os.symlink(entry.target, place)
            elif writable:
                self._copy(entry, place, writable=True)
            else:
                self._link(entry, place)
        if writable:
            return
        for folder in _of_python(snapshot):
            os.mkdir(f'{root}/{folder}{BYTE_CODE}')
        for folder in reversed(folders):
            os.chmod(folder, 0o555)
            os.utime(folder, ns=(EPOCH_NS, EPOCH_NS))

    def _link(self, entry: Entry, place: str) -> None:
        source = self._contents.place(entry.digest, entry.executable)
        try:
            os.link(source, place)
            # What was linked is looked at, not what stood there before.
            if is_intact(os.lstat(place), entry.size, entry.executable):
                return
            os.unlink(place)
        except FileNotFoundError:
            pass  # `ensure` says so, if it can't be made from what is there.
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._copy(entry, place)
            return
        try:
            os.link(self._contents.ensure(entry), place)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._copy(entry, place)

    def _copy(self, entry: Entry, place: str, *, writable: bool = False) -> None:
        shutil.copyfile(self._contents.ensure(entry), place)
        mode = 0o777 if entry.executable else 0o666
        if writable:
            os.chmod(place, mode & ~_umask())
        else:
            os.chmod(place, mode & 0o555)
            os.utime(place, ns=(EPOCH_NS, EPOCH_NS))


def changes(snapshot: Snapshot, root: str) -> Iterator[str]:
    """What is no more as it was made: any change of names changes a folder's time, any write a file's."""
    lstat = os.lstat
    if lstat(root).st_mtime_ns != EPOCH_NS:
        yield 'the top folder'
    for entry in snapshot.entries:
        if entry.kind == LINK:
            continue  # It can only be changed by changing its folder.
        try:
            found = lstat(f'{root}/{entry.path}')
        except OSError:
            yield entry.path
            continue
        if entry.kind == FOLDER:
            if found.st_mtime_ns != EPOCH_NS or not stat.S_ISDIR(found.st_mode):
                yield entry.path
        elif not is_intact(found, entry.size, entry.executable):
            yield entry.path


def remove(path: Path) -> None:
    """Removes a tree, read-only folders and all; nothing if it isn't there."""
    if not os.path.lexists(path):
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o755)
    shutil.rmtree(path)


def _warn(changed: list[str], path: Path) -> None:
    what = listed(dict.fromkeys(changed, 'changed'))
    logging.getLogger('xmanager').warning(
        'A job has written into the copy of the code that it ran from, %s: %s. The next ones run from a fresh copy. '
        'Jobs should write to the folder that XM_OUTPUT_DIR names.',
        path,
        what,
    )


def _of_python(snapshot: Snapshot) -> list[str]:
    """The folders ('' or ending in '/') that hold Python files and no `__pycache__` of their own."""
    found = set()
    for entry in snapshot.entries:
        if entry.kind == FILE and entry.path.endswith('.py'):
            folder, slash, _ = entry.path.rpartition('/')
            found.add(folder + slash)
    taken = {entry.path for entry in snapshot.entries if entry.path.endswith(BYTE_CODE)}
    return sorted(folder for folder in found if folder + BYTE_CODE not in taken)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
