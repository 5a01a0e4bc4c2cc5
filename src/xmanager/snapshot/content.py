"""Contents of files, each kept once under its SHA-256: written whole or not at all, and never changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from xmanager.errors import PackagingError
from xmanager.snapshot import guard
from xmanager.snapshot.replacing import replace
from xmanager.snapshot.stamps import NEVER, safe_stamp, stamp, wait_a_tick
from xmanager.snapshot.values import Entry

EPOCH: Final = 315_532_800
"""What is kept bears this time (1980-01-01 UTC, the first that a zip archive can hold): a change is seen by it."""
EPOCH_NS: Final = EPOCH * 10**9

_IN_MEMORY: Final = 4 * 1024**2
_BLOCK: Final = 1024**2
_TRIES: Final = 4
_BOOT: Final = Path('/proc/sys/kernel/random/boot_id')
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class DamagedError(PackagingError):
    """A content that was kept is gone, or somebody has changed it."""


@attrs.frozen
class Content:
    """What was read of a file. `why` says why it may hold a secret; then it isn't kept unless that is allowed."""

    stamp: int
    size: int
    executable: bool
    digest: bytes
    why: str = ''


class Contents:
    """The folder of contents."""

    def __init__(self, folder: Path) -> None:
        self._folder = f'{folder}/blobs'
        self._staging = f'{folder}/staging'
        self._generation = folder / 'generation'

    def epoch(self) -> str:
        """Changes when what was kept may be there no more: contents were removed, or the machine has lost power."""
        parts = []
        for path in (_BOOT, self._generation):
            try:
                parts.append(path.read_text().strip())
            except FileNotFoundError:
                parts.append('')
        return '/'.join(parts)

    def begin_epoch(self) -> None:
        """Called by whoever removes contents."""
        replace(self._generation, os.urandom(8).hex().encode())

    def place(self, digest: str, executable: bool = False) -> str:
        """Where a content is: a program has a file of its own, for links to a file share its mode."""
        return f'{self._folder}/{digest[:2]}/{digest[2:]}{".x" if executable else ""}'

    def has(self, digest: str, size: int, executable: bool) -> bool:
        """Whether it is there, unchanged and whole, as far as a look at it tells."""
        try:
            found = os.lstat(self.place(digest, executable))
        except FileNotFoundError:
            return False
        return is_intact(found, size, executable)

    def open(self, entry: Entry) -> BinaryIO:
        """Raises DamagedError."""
        return open(self.ensure(entry), 'rb')

    def ensure(self, entry: Entry) -> str:
        """The place of a content, made from the one of the other mode perhaps. Raises DamagedError."""
        place = self.place(entry.digest, entry.executable)
        if self.has(entry.digest, entry.size, entry.executable):
            return place
        if not self._mend(place, entry):
            other = self.place(entry.digest, not entry.executable)
            if not self.has(entry.digest, entry.size, not entry.executable):
                raise DamagedError(
                    f'the kept content of {entry.path} ({entry.digest[:12]}) is gone or was changed. '
                    'Launch again from the folder that it was taken from.'
                )
            with open(other, 'rb') as source, self._new_file() as (file, beside):
                while block := source.read(_BLOCK):
                    _write(file, block)
                self._put(file, beside, place, entry.executable)
        return place

    def _mend(self, place: str, entry: Entry) -> bool:
        """Looks into a content whose time or mode was changed: it is kept if it is still the same, else removed."""
        try:
            with open(place, 'rb') as source:
                digest = hashlib.file_digest(source, 'sha256').hexdigest()
        except FileNotFoundError:
            return False
        if digest != entry.digest:
            os.unlink(place)
            self.begin_epoch()
            return False
        os.chmod(place, _mode(entry.executable))
        os.utime(place, ns=(EPOCH_NS, EPOCH_NS))
        return True

    def read(self, path: str, name: str, *, keep: bool, allowed: bool) -> Content:
        """Reads a file, called `name` in its tree, and keeps its content if told to.

        What may hold a secret is kept only if it is `allowed`. Raises PackagingError if the file can't be read, or
        changes each time that it is tried.
        """
        for _ in range(_TRIES):
            with _opened(path, name) as source:
                wait_a_tick(os.fstat(source))
                now, before = time.time_ns(), os.fstat(source)
                if not stat.S_ISREG(before.st_mode):
                    break
                digest, size, why = self._copied(source, before, name, keep, allowed)
                after = os.fstat(source)
            if stamp(before) == stamp(after) and size == before.st_size:
                # What was let in is looked at again, for the next time it may not be allowed.
                seen = NEVER if why else safe_stamp(before, now)
                return Content(seen, size, bool(before.st_mode & stat.S_IXUSR), digest, why)
        raise PackagingError(
            f'{path} changes while it is read. Wait until whoever writes it has done, or leave it out by a line '
            f'`/{name}` in .xmignore.'
        )

    def _copied(
        self, source: int, found: os.stat_result, name: str, keep: bool, allowed: bool
    ) -> tuple[bytes, int, str]:
        if found.st_size > _IN_MEMORY:
            return self._copied_in_blocks(source, found, name, keep, allowed)
        data = os.read(source, found.st_size + 1)
        digest = hashlib.sha256(data)
        why = guard.suspicion(name, data)
        if len(data) == found.st_size and keep and (allowed or not why):
            executable = bool(found.st_mode & stat.S_IXUSR)
            if not self.has(digest.hexdigest(), len(data), executable):
                place = self.place(digest.hexdigest(), executable)
                with self._new_file(place) as (file, beside):
                    _write(file, data)
                    self._put(file, beside, place, executable)
        return digest.digest(), len(data), why

    def _copied_in_blocks(
        self, source: int, found: os.stat_result, name: str, keep: bool, allowed: bool
    ) -> tuple[bytes, int, str]:
        digest, size, why = hashlib.sha256(), 0, ''
        with self._new_file() if keep else contextlib.nullcontext((-1, '')) as (file, beside):
            while block := os.read(source, _BLOCK):
                if not size and (why := guard.suspicion(name, block)) and not allowed:
                    return digest.digest(), found.st_size, why
                digest.update(block)
                size += len(block)
                if keep:
                    _write(file, block)
            executable = bool(found.st_mode & stat.S_IXUSR)
            if keep and not self.has(digest.hexdigest(), size, executable):
                self._put(file, beside, self.place(digest.hexdigest(), executable), executable)
        return digest.digest(), size, why

    @contextlib.contextmanager
    def _new_file(self, place: str = '') -> Iterator[tuple[int, str]]:
        """A file beside its place, as far as that is known: file systems spread the files of different folders."""
        name = f'.{os.urandom(8).hex()}'
        beside = f'{os.path.dirname(place) if place else self._staging}/{name}'
        try:
            file = os.open(beside, _WRITE, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(beside), exist_ok=True)
            file = os.open(beside, _WRITE, 0o600)
        try:
            yield file, beside
        finally:
            os.close(file)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)

    def _put(self, file: int, beside: str, place: str, executable: bool) -> None:
        os.fchmod(file, _mode(executable))
        os.utime(file, ns=(EPOCH_NS, EPOCH_NS))
        try:
            os.rename(beside, place)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.rename(beside, place)


def is_intact(found: os.stat_result, size: int, executable: bool) -> bool:
    """Whether a kept file, or a link to it, is as it was made."""
    return (
        found.st_mtime_ns == EPOCH_NS
        and found.st_size == size
        and stat.S_IMODE(found.st_mode) == _mode(executable)
    )


def _mode(executable: bool) -> int:
    return 0o555 if executable else 0o444


def _write(file: int, data: bytes) -> None:
    """All of it: a disk that is nearly full takes a part first."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, data[written:])


@contextlib.contextmanager
def _opened(path: str, name: str) -> Iterator[int]:
    """Opens a regular file, whatever has been put in its place since it was looked at."""
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        raise PackagingError(
            f'{path} cannot be read: {error.strerror}. Make it readable, or leave it out by a line `/{name}` in '
            '.xmignore.'
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
