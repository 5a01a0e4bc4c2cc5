"""From a look at a folder to the manifest of its snapshot: reads what is unread, and refuses what must not go in."""

from __future__ import annotations

import os
from collections.abc import Callable

from xmanager.errors import PackagingError
from xmanager.snapshot import guard, manifest
from xmanager.snapshot.content import Content, Contents
from xmanager.snapshot.index import Files, Index
from xmanager.snapshot.values import Limits
from xmanager.snapshot.walk import Walk

Item = tuple[str, Files, int]
Seen = tuple[str, Content]

_THREADS = 3
_BATCH = 64


def folder_of(path: str | os.PathLike[str]) -> str:
    """The real path of a folder. Raises PackagingError if it is none."""
    given = os.path.abspath(os.path.expanduser(os.fspath(path)))
    try:
        os.stat(given)
    except OSError as error:
        if os.path.islink(given):
            raise PackagingError(
                f'{given} is a link that leads nowhere ({error.strerror}). Give a folder.'
            ) from error
        if not isinstance(error, FileNotFoundError):
            raise PackagingError(f'{given} cannot be looked at: {error.strerror}.') from error
        raise PackagingError(
            f'{given} does not exist. Paths are relative to the launch script.'
        ) from error
    if not os.path.isdir(given):
        raise PackagingError(f'{given} is a file. Give the folder that holds it.')
    return os.path.realpath(given)


def check(walk: Walk, limits: Limits) -> None:
    """Raises PackagingError, before anything is read, for what can't be kept or is too large."""
    guard.refuse_odd(walk.root, walk.refused)
    guard.refuse_sizes(walk.root, sizes_of(walk.index), limits)


def read_all(walk: Walk, contents: Contents, limits: Limits, *, keep: bool) -> None:
    """Fills in the digests of all files whose content was not known. Raises PackagingError for secrets."""

    def one(item: Item) -> Seen:
        name, files, number = item
        allowed = not limits.secrets or limits.allows(name)
        found = contents.read(f'{walk.root}/{name}', name, keep=keep, allowed=allowed)
        files.set(number, found.stamp, found.size, found.executable, found.digest)
        return name, found

    seen = _each(one, walk.unread)
    suspicions = {
        name: found.why
        for name, found in sorted(seen)
        if found.why and limits.secrets and not limits.allows(name)
    }
    guard.refuse_secrets(walk.root, suspicions)


def _each(one: Callable[[Item], Seen], todo: list[Item]) -> list[Seen]:
    """In a few threads, for most of the time goes by in the kernel and in hashing."""
    if len(todo) <= _BATCH:
        return list(map(one, todo))
    from concurrent.futures import ThreadPoolExecutor

    batches = [todo[start : start + _BATCH] for start in range(0, len(todo), _BATCH)]
    with ThreadPoolExecutor(_THREADS) as executor:
        futures = [executor.submit(lambda batch: list(map(one, batch)), batch) for batch in batches]
        try:
            return [each for future in futures for each in future.result()]
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def sizes_of(index: Index) -> dict[str, int]:
    """The size of each file by its path."""
    found = {path: index.extra.size(number) for number, path in enumerate(index.extra.names)}
    for at, listing in index.listings.items():
        sizes = listing.files.numbers[1::2]
        for name, size in zip(listing.files.names, sizes, strict=True):
            found[at + name] = size >> 1
    return found


def manifest_of(index: Index) -> bytes:
    """The manifest of what was seen; the sums are noted in the index.

    A folder all of whose content is left out is left out, too: a first run makes `__pycache__`, which must not change
    the digest.
    """
    lines: list[tuple[str, str]] = []
    folders: set[str] = set()
    for at, listing in index.listings.items():
        lines += [
            (at + name, manifest.link_line(at + name, to)) for name, to in listing.links.items()
        ]
        is_empty = not (listing.folders or listing.omitted)
        if listing.files.names or listing.links or is_empty:
            folders.add(at[:-1])
        _add_files(lines, at, listing.files)
    _add_files(lines, '', index.extra)
    folders |= {path.rpartition('/')[0] for path in index.extra.names}
    lines += [(path, manifest.folder_line(path)) for path in with_parents(folders)]
    sizes = sizes_of(index)
    index.files, index.bytes = len(sizes), sum(sizes.values())
    index.largest = max(sizes.values(), default=0)
    return manifest.render(lines, index.files, index.bytes)


def with_parents(folders: set[str]) -> set[str]:
    """These folders and all above them, but for the root."""
    found: set[str] = set()
    for one in folders:
        folder = one
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition('/')[0]
    return found


def _add_files(lines: list[tuple[str, str]], at: str, files: Files) -> None:
    hexed, numbers = files.digests.hex(), files.numbers
    for number, name in enumerate(files.names):
        size = numbers[2 * number + 1]
        digest = hexed[64 * number : 64 * number + 64]
        lines.append((at + name, manifest.file_line(at + name, digest, size >> 1, bool(size & 1))))


def omitted_by(index: Index) -> dict[str, str]:
    """What is left out, and by which rule; a folder is one entry, whatever is in it."""
    tracked = set(index.extra.names)
    found = {
        (at + name).rstrip('/'): why
        for at, listing in index.listings.items()
        for name, why in listing.omitted.items()
    }
    return {path: found[path] for path in sorted(found) if path not in tracked}
