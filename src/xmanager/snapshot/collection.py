"""Removes snapshots that nothing refers to and nobody has used for long, and contents that no snapshot holds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import attrs

from xmanager.errors import PackagingError
from xmanager.snapshot import manifest, trees
from xmanager.snapshot.content import Contents
from xmanager.snapshot.values import FILE, Entry


@attrs.frozen
class Kept:
    """A snapshot in the store: when it was last taken or used (seconds since the epoch) and where it was taken from.

    `damaged`: its manifest can't be read, as `collect` finds out.
    """

    digest: str
    files: int
    bytes: int
    used_at: float
    path: str
    damaged: bool = False


@attrs.frozen
class Collected:
    """What was removed, or would be: snapshots, and how many contents and bytes that no other one holds."""

    snapshots: tuple[Kept, ...]
    contents: int
    bytes: int


def collect(
    folder: Path,
    contents: Contents,
    kept: Sequence[Kept],
    keep: Set[str],
    before: float,
    *,
    dry_run: bool,
) -> Collected:
    """Removes those of `kept` that `keep` doesn't name and nobody has used since `before`. Repeating it is harmless.

    One that is damaged is of no use to anybody, and goes whatever its age; not if `keep` names it, for a job may
    run in its folder.
    """
    due: list[Kept] = []
    needed: set[tuple[str, bool]] = set()
    for one in kept:
        entries = _entries(folder / 'manifests' / one.digest)
        if one.digest not in keep and (entries is None or one.used_at < before):
            due.append(attrs.evolve(one, damaged=entries is None))
            continue
        needed.update(
            (entry.digest, entry.executable) for entry in entries or () if entry.kind == FILE
        )
    if not dry_run:
        contents.begin_epoch()
        _remove(folder, due)
        _remove_indexes(folder / 'index', before)
    count, size = _sweep(folder / 'blobs', needed, dry_run=dry_run)
    return Collected(tuple(due), count, size)


def _entries(path: Path) -> tuple[Entry, ...] | None:
    """What a manifest names; None if it isn't what was written."""
    text = path.read_bytes()
    if manifest.digest_of(text) != path.name:
        return None
    try:
        return manifest.parse(text)
    except PackagingError:
        return None


def _remove(folder: Path, due: Sequence[Kept]) -> None:
    for one in due:
        # Its manifest first: without it nothing else of it counts.
        (folder / 'manifests' / one.digest).unlink(missing_ok=True)
        (folder / 'origins' / one.digest).unlink(missing_ok=True)
        for tree in (folder / 'trees').glob(f'{one.digest}*'):
            if tree.suffix == '.changed':
                tree.unlink()
            else:
                trees.remove(tree)
    # Nobody is at work in the meantime: these are what processes left that were killed.
    for half in (*(folder / 'staging').glob('*'), *(folder / 'trees').glob('.*')):
        if half.is_dir():
            trees.remove(half)
        else:
            half.unlink()


def _remove_indexes(folder: Path, before: float) -> None:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        for one in found:
            if one.stat().st_mtime < before:
                os.unlink(one.path)


def _sweep(folder: Path, needed: set[tuple[str, bool]], *, dry_run: bool) -> tuple[int, int]:
    """Contents that no snapshot needs: how many, and their bytes."""
    count = size = 0
    for content in _contents(folder):
        name = os.path.basename(os.path.dirname(content.path)) + content.name
        if (name.removesuffix('.x'), name.endswith('.x')) not in needed:
            count += 1
            size += content.stat(follow_symlinks=False).st_size
            if not dry_run:
                os.unlink(content.path)
    return count, size


def _contents(folder: Path) -> Iterator[os.DirEntry[str]]:
    for part in sorted(folder.glob('??')):
        with os.scandir(part) as found:
            yield from list(found)
