"""Single files and folders from anywhere, under the names that are given for them. No rules leave anything out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from xmanager.errors import PackagingError
from xmanager.snapshot import guard
from xmanager.snapshot.content import Contents
from xmanager.snapshot.survey import with_parents
from xmanager.snapshot.values import FILE, FOLDER, LINK, Entry, Limits

Found = tuple[str, str, str]
"""Its name in the snapshot, its path, its kind."""


def entries_of_files(
    files: Mapping[str, Path], contents: Contents, limits: Limits
) -> tuple[Entry, ...]:
    """Reads and keeps them. Raises PackagingError for what isn't there, can't be kept or is too large."""
    found = [one for name, path in files.items() for one in _found(_checked(name), path)]
    place = ', '.join(map(str, files.values()))
    sizes = {name: os.lstat(path).st_size for name, path, kind in found if kind == FILE}
    guard.refuse_sizes(place, sizes, limits)
    suspicions: dict[str, str] = {}
    entries: dict[str, Entry] = {}
    for name, path, kind in found:
        if kind == LINK:
            entries[name] = Entry(name, LINK, target=os.readlink(path))
        elif kind == FOLDER:
            entries[name] = Entry(name, FOLDER)
        else:
            allowed = not limits.secrets or limits.allows(name)
            seen = contents.read(path, name, keep=True, allowed=allowed)
            entries[name] = Entry(name, FILE, seen.executable, seen.size, seen.digest.hex())
            if seen.why and not allowed:
                suspicions[name] = seen.why
    guard.refuse_secrets(place, suspicions)
    for folder in with_parents({name.rpartition('/')[0] for name in entries}):
        if entries.setdefault(folder, Entry(folder, FOLDER)).kind != FOLDER:
            raise PackagingError(f'{folder!r} is given as a file and as a folder.')
    return tuple(entries[name] for name in sorted(entries))


def _checked(name: str) -> str:
    parts = name.split('/')
    if not name or any(part in ('', '.', '..') for part in parts) or '\0' in name:
        raise PackagingError(f'{name!r} cannot be a place in a snapshot: give a relative path.')
    return name


def _found(name: str, path: Path | str) -> Iterator[Found]:
    """What is at a path, links followed, and below, links not followed."""
    real = os.path.realpath(path)
    try:
        kind = stat.S_IFMT(os.stat(real).st_mode)
    except OSError as error:
        raise PackagingError(f'{path} cannot be kept: {error.strerror}.') from error
    if kind == stat.S_IFREG:
        yield name, real, FILE
    elif kind == stat.S_IFDIR:
        yield name, real, FOLDER
        yield from _below(name, real)
    else:
        raise PackagingError(f'{path} is neither a file nor a folder.')


def _below(name: str, folder: str) -> Iterator[Found]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        inner = f'{name}/{entry.name}'
        if entry.is_symlink():
            yield inner, entry.path, LINK
        elif entry.is_dir():
            yield inner, entry.path, FOLDER
            yield from _below(inner, entry.path)
        elif entry.is_file():
            yield inner, entry.path, FILE
        else:
            raise PackagingError(f'{entry.path} is neither a file nor a folder. Remove it.')
