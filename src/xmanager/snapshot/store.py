"""The store of snapshots: takes them, finds them again, and makes folders of them to run in."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from xmanager.errors import NotFoundError, PackagingError
from xmanager.snapshot import index as indexes
from xmanager.snapshot import manifest
from xmanager.snapshot import survey as surveys
from xmanager.snapshot.collection import Collected, Kept, collect
from xmanager.snapshot.content import Contents, DamagedError
from xmanager.snapshot.files import entries_of_files
from xmanager.snapshot.index import Index
from xmanager.snapshot.replacing import beside, replace
from xmanager.snapshot.stamps import NEVER
from xmanager.snapshot.trees import Trees, remove
from xmanager.snapshot.values import FILE, Entry, Limits, Snapshot, Survey
from xmanager.snapshot.walk import Walk

_DIGITS: Final = frozenset('0123456789abcdef')
_WHOLE: Final = 64
_SHORTEST: Final = 4
_USUAL: Final = Limits()

Place = str | os.PathLike[str]


class SnapshotStore:
    """Snapshots in a folder. Any number of processes may use it at once, and any of them may die at any moment."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._contents = Contents(folder)
        self._manifests = folder / 'manifests'
        self._origins = folder / 'origins'
        self._trees = Trees(folder / 'trees', self._contents)

    # Taking.

    def survey(self, path: Place, *, limits: Limits = _USUAL) -> Survey:
        """What a snapshot of a folder would be; writes nothing. Raises PackagingError as `take` does."""
        walk = self._walk(surveys.folder_of(path))
        surveys.check(walk, limits)
        surveys.read_all(walk, self._contents, limits, keep=False)
        text = surveys.manifest_of(walk.index)
        return Survey(
            manifest.digest_of(text),
            manifest.parse(text),
            walk.index.files,
            walk.index.bytes,
            surveys.omitted_by(walk.index),
        )

    def take(self, path: Place, *, limits: Limits = _USUAL) -> Snapshot:
        """Keeps a folder as it is now; what has not changed since the last time is not read again.

        Raises PackagingError, and keeps no half of it, if the folder isn't there, can't be read, holds what can't be
        kept or looks like a secret, is larger than the limits, or the disk is full.
        """
        root = surveys.folder_of(path)
        with self._shared(), self._room():
            walk = self._walk(root)
            last = walk.last
            if last is not None and last.digest and not walk.has_changed and _fits(last, limits):
                self._used(last.digest, root)
                return self._snapshot(last.digest, last.files, last.bytes)
            surveys.check(walk, limits)
            surveys.read_all(walk, self._contents, limits, keep=True)
            snapshot = self._keep(surveys.manifest_of(walk.index), root)
            walk.index.digest, walk.index.epoch = snapshot.digest, self._contents.epoch()
            indexes.write(self._index_of(root), walk.index)
            return snapshot

    def take_files(self, files: Mapping[str, Path], *, limits: Limits = _USUAL) -> Snapshot:
        """Keeps single files and whole folders (whatever is in them) under the names that are given for them.

        A name may have folders in it (`data/x.txt`). Links given here are followed, links within folders are kept.
        """
        with self._shared(), self._room():
            entries = entries_of_files(files, self._contents, limits)
            text = manifest.render_entries(entries)
            return self._keep(text, '')

    def _walk(self, root: str) -> Walk:
        walk = Walk(root, self._last(root))
        walk.go()
        return walk

    def _last(self, root: str) -> Index | None:
        """What the last look at a folder saw, less what is kept no more."""
        last = indexes.read(self._index_of(root))
        if last is None:
            return None
        if last.epoch != self._contents.epoch():
            for listing in last.listings.values():
                self._forget_what_is_gone(listing.files)
            self._forget_what_is_gone(last.extra)
            last.digest = ''
        elif not self._is_kept(last.digest):
            last.digest = ''
        return last

    def _forget_what_is_gone(self, files: indexes.Files) -> None:
        for number in range(len(files.names)):
            digest, size = files.digest(number), files.size(number)
            if not self._contents.has(digest.hex(), size, files.executable(number)):
                files.set(number, NEVER, size, files.executable(number), digest)

    def _index_of(self, root: str) -> Path:
        return indexes.place_of(self.folder / 'index', root)

    def _is_kept(self, digest: str) -> bool:
        try:
            return bool(digest) and (self._manifests / digest).stat().st_size > 0
        except FileNotFoundError:
            return False

    def _keep(self, text: bytes, origin: str) -> Snapshot:
        digest = manifest.digest_of(text)
        place = self._manifests / digest
        try:
            is_kept = place.read_bytes() == text
        except FileNotFoundError:
            is_kept = False
        if not is_kept:
            self._manifests.mkdir(exist_ok=True)
            replace(place, text)
        self._used(digest, origin)
        return self._snapshot(digest, *manifest.totals(text))

    # Finding.

    def get(self, digest_or_prefix: str) -> Snapshot:
        """By digest or the beginning of one. Raises NotFoundError; PackagingError if it is damaged."""
        digest = self._resolve(digest_or_prefix)
        text = self._text(digest)
        return self._snapshot(digest, *manifest.totals(text))

    def list(self) -> list[Kept]:
        """All snapshots, the one used last first."""
        try:
            with os.scandir(self._manifests) as found:
                names = [(one.name, one.stat().st_mtime) for one in found if _is_digest(one.name)]
        except FileNotFoundError:
            return []
        kept = [
            Kept(name, *self._totals(name), used_at, self._origin(name)) for name, used_at in names
        ]
        return sorted(kept, key=lambda one: (-one.used_at, one.digest))

    def _resolve(self, prefix: str) -> str:
        if len(prefix) < _SHORTEST or not set(prefix) <= _DIGITS:
            raise NotFoundError(
                f'{prefix!r} names no snapshot: give its digest, or at least {_SHORTEST} digits of it.'
            )
        if len(prefix) == _WHOLE and self._is_kept(prefix):
            return prefix
        names = os.listdir(self._manifests) if self._manifests.is_dir() else []
        found = sorted(name for name in names if _is_digest(name) and name.startswith(prefix))
        if not found:
            raise NotFoundError(
                f'there is no snapshot {prefix[:12]} in {self.folder}: see `xmanager snapshot ls`.'
            )
        if len(found) > 1:
            shown = ', '.join(name[:12] for name in found[:5])
            raise NotFoundError(
                f'{len(found)} snapshots begin with {prefix}: {shown}. Give more digits.'
            )
        return found[0]

    def _snapshot(self, digest: str, files: int, size: int) -> Snapshot:
        return Snapshot(digest, files, size, read=partial(self._entries, digest))

    def _entries(self, digest: str) -> tuple[Entry, ...]:
        return manifest.parse(self._text(digest))

    def _text(self, digest: str) -> bytes:
        try:
            text = (self._manifests / digest).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f'there is no snapshot {digest[:12]} in {self.folder}.') from None
        if manifest.digest_of(text) != digest:
            raise PackagingError(
                f'snapshot {digest[:12]} is damaged: its manifest is not what was written. '
                'Launch again from the folder that it was taken from.'
            )
        return text

    def _totals(self, digest: str) -> tuple[int, int]:
        with open(self._manifests / digest, 'rb') as file:
            try:
                return manifest.totals(file.read(manifest.HEAD_BYTES))
            except PackagingError:
                return 0, 0

    # Using.

    def tree(self, snapshot: Snapshot) -> Path:
        """A folder that holds the snapshot, for jobs to run in; the same one until somebody changes it.

        What was changed or lost of its contents is read again from where it was taken, if it is still there. Raises
        PackagingError if it isn't.
        """
        with self._shared(), self._room():
            self._used(snapshot.digest, '')
            try:
                return self._trees.get(snapshot)
            except DamagedError:
                self._read_again(snapshot)
                return self._trees.get(snapshot)

    def _read_again(self, snapshot: Snapshot) -> None:
        """Fetches contents that are gone from the folder that the snapshot was taken from."""
        origin = self._origin(snapshot.digest)
        for entry in snapshot.entries:
            if entry.kind != FILE or not origin:
                continue
            if not self._contents.has(entry.digest, entry.size, entry.executable):
                with contextlib.suppress(PackagingError):  # `ensure` says which content is gone.
                    path = f'{origin}/{entry.path}'
                    self._contents.read(path, entry.path, keep=True, allowed=True)

    def restore(self, snapshot: Snapshot, path: Path) -> None:
        """Makes an ordinary folder of a snapshot, the user's own. Raises PackagingError if there is one already."""
        if os.path.lexists(path):
            raise PackagingError(f'{path} exists already. Give a folder that does not.')
        path = path.absolute()
        staging = beside(path)
        with self._shared(), self._room():
            try:
                staging.mkdir(parents=True)
                self._trees.fill(snapshot, staging, writable=True)
                os.rename(staging, path)
            finally:
                remove(staging)

    def read(self, entry: Entry) -> BinaryIO:
        """The content of a file. Raises PackagingError if it is gone or damaged."""
        return self._contents.open(entry)

    def gc(self, keep: Set[str], older_than: float, dry_run: bool = False) -> Collected:
        """Removes snapshots that `keep` does not name, unused for so many seconds, and what only they hold."""
        with self._shared(fcntl.LOCK_EX), self._room():
            before = self._clock() - older_than
            kept = self.list()
            return collect(self.folder, self._contents, kept, keep, before, dry_run=dry_run)

    def _used(self, digest: str, origin: str) -> None:
        now = self._clock()
        try:
            os.utime(self._manifests / digest, (now, now))
        except FileNotFoundError:
            raise NotFoundError(f'there is no snapshot {digest[:12]} in {self.folder}.') from None
        if origin and self._origin(digest) != origin:
            self._origins.mkdir(exist_ok=True)
            replace(self._origins / digest, json.dumps(origin).encode())

    def _origin(self, digest: str) -> str:
        try:
            return str(json.loads((self._origins / digest).read_bytes()))
        except (FileNotFoundError, ValueError):
            return ''

    # Order among processes.

    @contextlib.contextmanager
    def _shared(self, how: int = fcntl.LOCK_SH) -> Iterator[None]:
        """Whoever adds or uses holds the lock in common with others; whoever removes holds it alone."""
        try:
            # Code may be confidential, and other users of the machine have no business here.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / 'staging').mkdir(exist_ok=True)
            descriptor = os.open(self.folder / 'lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PackagingError(
                f'{self.folder} cannot be written: {error.strerror}. Set XM_HOME to a folder of yours.'
            ) from error
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """Turns what the disk says into a sentence."""
        try:
            yield
        except OSError as error:
            raise PackagingError(
                f'the snapshot cannot be written to {self.folder}: {error.strerror}. '
                'Make room there (`xmanager snapshot gc`), or set XM_HOME to another disk.'
            ) from error


def _fits(last: Index, limits: Limits) -> bool:
    return last.largest <= limits.file_bytes and last.bytes <= limits.total_bytes


def _is_digest(name: str) -> bool:
    return len(name) == _WHOLE and set(name) <= _DIGITS
