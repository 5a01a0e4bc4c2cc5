"""One program by its content: what is known of it, and the copy that is kept of it unless it is too large."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Final

import attrs

from xmanager.errors import NotFoundError, PackagingError
from xmanager.packaging.workshop import Workshop
from xmanager.snapshot import Limits, Snapshot, SnapshotStore
from xmanager.snapshot.replacing import replace
from xmanager.snapshot.stamps import NEVER, safe_stamp, stamp

_TRIES: Final = 4


@attrs.frozen
class Program:
    """A program as it was when it was packaged.

    `digest` is the SHA-256 of its content, '' if it may not be read. `kept` names the snapshot that holds a copy of it,
    and `copy` is where that is; '' if there is none.
    """

    path: str
    digest: str
    bytes: int
    modified: float
    inode: int
    kept: str = ''
    copy: str = ''

    def facts(self) -> dict[str, Any]:
        """As they are recorded with every job."""
        return attrs.asdict(self)


def keep_program(path: str, limit: int, workshop: Workshop) -> Program:
    """Reads a program unless it is the one that was read last time, and keeps it if it has at most `limit` bytes."""
    store = SnapshotStore(workshop.snapshots)
    memory = _Memory(workshop.cache, path)
    for _ in range(_TRIES):
        status, seen = os.stat(path), time.time_ns()
        wants_copy = is_kept(path, status.st_size, limit)
        found = memory.recall(status)
        snapshot = _snapshot(store, found.get('kept', '')) if wants_copy else None
        digest = found.get('digest', '')
        if wants_copy and snapshot is None:
            alone = Limits(file_bytes=limit, total_bytes=limit, secrets=False)
            snapshot = store.take_files({os.path.basename(path): Path(path)}, limits=alone)
            digest = next(entry.digest for entry in snapshot.entries)
        elif not digest:
            digest = digest_of(path)
        if stamp(os.stat(path)) == stamp(status):
            kept = snapshot.digest if snapshot else ''
            try:
                copy = str(store.tree(snapshot) / os.path.basename(path)) if snapshot else ''
            except PackagingError:
                # The copy was damaged, and is removed by now: it is made anew once.
                if not found.get('kept'):
                    raise
                memory.forget()
                continue
            memory.remember(safe_stamp(status, seen), digest, kept)
            return _program(path, status, digest, kept, copy)
    raise PackagingError(f'{path} changes while it is read. Wait until whoever writes it has done.')


def look_at_program(path: str, workshop: Workshop) -> Program:
    """What is known of a program; keeps nothing."""
    status = os.stat(path)
    found = _Memory(workshop.cache, path).recall(status)
    digest = found.get('digest') or digest_of(path)
    snapshot = _snapshot(SnapshotStore(workshop.snapshots), found.get('kept', ''))
    return _program(path, status, digest, snapshot.digest if snapshot else '', '')


def is_kept(path: str, size: int, limit: int) -> bool:
    """Whether a copy is kept: not of what is too large, or may not be read, or is nothing outside of its place."""
    return size <= limit and os.access(path, os.R_OK) and not _is_of_environment(path)


def digest_of(path: str) -> str:
    """The SHA-256 of its content; '' if it may be run but not read."""
    try:
        with open(path, 'rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    except PermissionError:
        return ''


def _is_of_environment(path: str) -> bool:
    # The interpreter of a virtual environment finds its packages by where it is (PEP 405): a copy of it would run, with
    # the packages of another one.
    folder, name = os.path.split(path)
    places = (folder, os.path.dirname(folder))
    is_interpreter = name.startswith(('python', 'pypy'))
    return is_interpreter and any(os.path.exists(f'{place}/pyvenv.cfg') for place in places)


def _program(path: str, status: os.stat_result, digest: str, kept: str, copy: str) -> Program:
    return Program(path, digest, status.st_size, status.st_mtime, status.st_ino, kept, copy)


def _snapshot(store: SnapshotStore, digest: str) -> Snapshot | None:
    if not digest:
        return None
    try:
        return store.get(digest)
    except (
        NotFoundError,
        PackagingError,
    ):  # It was removed, for nothing referred to it, or is damaged.
        return None


class _Memory:
    """What was found out about the program at a path, for as long as its file stays the same."""

    def __init__(self, cache: Path, path: str) -> None:
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
        self._file = cache / 'programs' / f'{name}.json'

    def recall(self, status: os.stat_result) -> dict[str, Any]:
        try:
            known = json.loads(self._file.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return known if isinstance(known, dict) and known.get('stamp') == stamp(status) else {}

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)

    def remember(self, seen: int, digest: str, kept: str) -> None:
        if seen == NEVER:  # It may change again, and nothing would tell.
            return
        text = json.dumps({'stamp': seen, 'digest': digest, 'kept': kept})
        try:
            if self._file.read_text() == text:
                return
        except FileNotFoundError:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        replace(self._file, text.encode())
