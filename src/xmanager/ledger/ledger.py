"""The ledger itself: a folder in which each supervisor of this host keeps one file, and takes turns with the others."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from xmanager import faults
from xmanager.errors import LedgerError
from xmanager.ledger import locks, text
from xmanager.ledger.place import Place, prepare
from xmanager.ledger.values import Entry, Hold, Want

# An owner that has not said so for this long (it is stopped, or its store can't be used) waits for nothing.
FRESH_SECONDS = 10.0
_PATIENCE = 5.0
_PAGE = 4096
_USE = 3600.0
NOBODY: Mapping[str, tuple[str, ...]] = {}
_SUFFIX = '.json'


class Reader:
    """Reads the entries of a ledger, whoever wrote them."""

    def __init__(self, place: Place, *, clock: Callable[[], float] = time.time) -> None:
        self._place = place
        self._clock = clock
        self._holders = os.open(place.holders, os.O_RDONLY | os.O_CLOEXEC)
        self._read: dict[str, tuple[bytes, Entry | None]] = {}

    def close(self) -> None:
        os.close(self._holders)

    def entries(self, but: str = '') -> list[Entry]:
        """All entries that count, but the one of that file: of a dead owner, what its jobs still hold."""
        found = []
        seen = self._read
        self._read = {}  # Anew: who has left is forgotten.
        for file in os.scandir(self._place.folder):
            if not file.name.endswith(_SUFFIX) or file.name.startswith('.') or file.name == but:
                continue
            entry, written_at = self._entry(file, seen)
            if entry is not None:
                found.append(self._living(entry, written_at))
        return found

    def _entry(
        self, file: os.DirEntry[str], seen: Mapping[str, tuple[bytes, Entry | None]]
    ) -> tuple[Entry | None, float]:
        """What is written there, and when. Its time alone does not tell whether it has changed: that is too coarse."""
        path = Path(file.path)
        try:
            data, written_at = _read(path)
        except FileNotFoundError:  # Its owner has just left.
            return None, 0.0
        except OSError as error:
            _warn(path, error)
            return None, 0.0
        known = seen.get(file.name)
        if known is None or known[0] != data:
            known = (data, _decode(path, data))
        self._read[file.name] = known
        return known[1], written_at

    def _living(self, entry: Entry, written_at: float) -> Entry:
        if locks.is_held(self._holders, entry.owner):
            fresh = abs(self._clock() - written_at) <= FRESH_SECONDS
            return entry if fresh else attrs.evolve(entry, wants=())
        holds = tuple(hold for hold in entry.holds if locks.is_held(self._holders, hold.key))
        return attrs.evolve(entry, holds=holds, wants=(), alive=False)


@attrs.frozen
class _Files:
    """What an owner has open: `alive` holds the lock that says so, `turn` is locked in its turn."""

    place: Place
    reader: Reader
    alive: int
    turn: int

    @classmethod
    def open(cls, place: Place, owner: str, clock: Callable[[], float]) -> _Files:
        turn = os.open(place.turn, os.O_RDONLY | os.O_CLOEXEC)
        try:
            alive = locks.hold(place.holders, owner)
            return cls(place, Reader(place, clock=clock), alive, turn)
        except BaseException:
            os.close(turn)
            raise

    def close(self) -> None:
        self.reader.close()
        os.close(self.turn)
        os.close(self.alive)


class Ledger:
    """One owner's part in the ledger. The owner is alive until `close`, or until its process is not."""

    def __init__(
        self, place: Place, owner: Entry, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`owner` is an entry without holds and wants. Raises LedgerError."""
        self._owner = owner
        self._file = place.folder / f'{owner.owner}{_SUFFIX}'
        self._clock = clock
        self._descriptor = -1  # Of our entry's file, while it is small.
        self._size = 0
        self._used_at = -math.inf
        with self._translated():
            self._files = _Files.open(place, owner.owner, clock)

    @contextlib.contextmanager
    def turn(self) -> Iterator[list[Entry]]:
        """Nobody else reads or changes the ledger meanwhile; yields the entries of the others.

        Raises LedgerError if the others keep it for seconds, or files can't be read or written.
        """
        with self._translated():
            self._take_turn()
            try:
                entries = self._files.reader.entries(but=self._file.name)
                yield self._without_empty(entries)
            finally:
                fcntl.flock(self._files.turn, fcntl.LOCK_UN)

    def _take_turn(self) -> None:
        _lock(self._files.turn, self._files.place.turn)
        if not os.fstat(self._files.turn).st_nlink:
            # Somebody has removed the folder: all who are alive meet in a new one.
            place = prepare(self._files.place.folder)
            removed = self._files
            self._files = _Files.open(place, self._owner.owner, self._clock)
            removed.close()
            _lock(self._files.turn, place.turn)
        if time.monotonic() >= self._used_at + _USE and not self._files.place.shared:
            self._used_at = time.monotonic()
            with contextlib.suppress(OSError):  # They are not in danger before days have passed.
                # What sweeps up old temporary files must see that these are in use.
                os.utime(self._files.place.turn)
                os.utime(self._files.place.holders)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerError(
                f'the ledger of this host, {self._file.parent}, cannot be used: {error.strerror} ({error.filename}). '
                'Units wait until it can.'
            ) from error

    def write(
        self,
        holds: Sequence[Hold],
        wants: Sequence[Want],
        strangers: Mapping[str, tuple[str, ...]] = NOBODY,
    ) -> None:
        """Says what this owner holds, waits for and leaves alone. To be called in its turn."""
        entry = attrs.evolve(
            self._owner, holds=tuple(holds), wants=tuple(wants), strangers=strangers
        )
        data = text.encode(entry)
        if not self._overwrite(data):
            self._replace(data)

    def _overwrite(self, data: bytes) -> bool:
        """Writes into the file that is there: one page in one call, which a death leaves whole, old or new."""
        size = max(len(data), self._size)
        if self._descriptor < 0 or size > _PAGE or not os.fstat(self._descriptor).st_nlink:
            return False
        os.pwrite(self._descriptor, data.ljust(size), 0)
        self._size = size
        return True

    def _replace(self, data: bytes) -> None:
        beside = _beside(self._file)
        self._forget_file()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(beside, flags, 0o600)
        if self._files.place.shared:
            os.fchmod(self._descriptor, 0o644)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        faults.pass_by('ledger.before')
        os.replace(beside, self._file)
        faults.pass_by('ledger.after')
        self._size = len(data)

    def _forget_file(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def leave(self) -> None:
        """Removes the entry: this owner holds nothing and waits for nothing. To be called in its turn."""
        self._file.unlink(missing_ok=True)
        self._forget_file()

    def close(self) -> None:
        """This owner is no longer alive; what is written of it counts for as long as its jobs live."""
        self._forget_file()
        self._files.close()

    def _without_empty(self, entries: Sequence[Entry]) -> list[Entry]:
        """Removes the files of the dead who hold nothing any more (those of other users are theirs to remove)."""
        for entry in entries:
            if not entry.alive and not entry.holds:
                file = self._file.with_name(f'{entry.owner}{_SUFFIX}')
                with contextlib.suppress(PermissionError):
                    _beside(file).unlink(missing_ok=True)
                    file.unlink(missing_ok=True)
        return [entry for entry in entries if entry.alive or entry.holds]


def _beside(file: Path) -> Path:
    """What is written before it takes the place of a file."""
    return file.with_name(f'.{file.name}')


def _lock(descriptor: int, path: Path) -> None:
    pause = 0.0002
    latest = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        if time.monotonic() > latest:
            raise LedgerError(
                f'another process has kept {path} locked for {_PATIENCE:g} s. See which (fuser {path}) and end it.'
            )
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)


def _read(path: Path) -> tuple[bytes, float]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, 'rb', buffering=0) as file:
        return file.readall(), os.fstat(descriptor).st_mtime


def _decode(path: Path, data: bytes) -> Entry | None:
    try:
        entry = text.decode(data)
        # The name of the file is what its owner is known by.
        if path.name != f'{entry.owner}{_SUFFIX}':
            raise ValueError(f'it speaks of {entry.owner}')
        return entry
    except ValueError as error:
        _warn(path, error)
        return None


def _warn(path: Path, error: Exception) -> None:
    import logging  # Costs 13 ms, which a supervisor need not pay.

    logging.getLogger('xmanager').warning(
        '%s in the ledger of this host is left out of account: %s', path, error
    )
