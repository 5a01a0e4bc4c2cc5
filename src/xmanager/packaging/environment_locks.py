"""The lock file that an environment is made from, with the files that it names; none that may change unseen."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from xmanager.errors import PackagingError
from xmanager.packaging.requirements import Requirements, gather, lies_here

_SOURCES: Final = ('editable', 'directory', 'path')


def read_lock(lock: str, asked: str) -> Requirements:
    """The lock file at this path, with all that it names. Raises PackagingError with one sentence."""
    folder, name = os.path.split(lock)
    if not os.path.isfile(lock):
        raise PackagingError(
            f'{asked}: environment={lock!r} is no file. Give a uv.lock, pylock.toml or requirements.txt.'
        )
    if name == 'uv.lock':
        project = Path(folder, 'pyproject.toml')
        if not project.is_file():
            raise PackagingError(f'{asked}: there is no pyproject.toml beside {lock}. Add it.')
        files = {name: Path(lock).read_bytes(), project.name: project.read_bytes()}
        _refuse_first(_local_in_uv_lock(_toml(files[name], lock, asked)), lock, asked)
        return Requirements(name, files)
    if name.startswith('pylock.') and name.endswith('.toml'):
        data = Path(lock).read_bytes()
        _refuse_first(_local_in_pylock(_toml(data, lock, asked)), lock, asked)
        return Requirements(name, {name: data})
    if name.endswith(('.txt', '.in')):
        return _read_requirements(folder, name, asked)
    raise PackagingError(
        f'{asked}: environment={lock!r}: expected a uv.lock, a pylock.toml or a requirements.txt.'
    )


class _Files(Collection[str]):
    """The files that a file of requirements may name, by their paths relative to its folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def __contains__(self, path: object) -> bool:
        # An absolute path is no file of the folder: another machine has something else there.
        is_relative = isinstance(path, str) and not path.startswith('/')
        return is_relative and (self._folder / str(path)).is_file()

    def __iter__(self) -> Iterator[str]:
        for parent, _, names in os.walk(self._folder):
            for name in names:
                yield Path(parent, name).relative_to(self._folder).as_posix()

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _read_requirements(folder: str, name: str, asked: str) -> Requirements:
    found: dict[str, bytes] = {}
    gather(name, _Files(folder), lambda path: Path(folder, path).read_bytes(), found, asked)
    return _from_common_folder(folder, name, found)


def _from_common_folder(folder: str, name: str, found: dict[str, bytes]) -> Requirements:
    """With the paths as they are seen from the folder that holds all of them, so that none begins with `..`."""
    up = max(path.split('/').count('..') for path in found)
    inside = '/'.join(Path(folder).parts[-up:]) if up else ''
    files = {posixpath.normpath(posixpath.join(inside, path)): found[path] for path in found}
    return Requirements(posixpath.join(inside, name), files)


def _toml(data: bytes, lock: str, asked: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PackagingError(f'{asked}: {lock} is no TOML: {error}.') from None


def _tables(document: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    tables = document.get(name, [])
    yield from (one for one in tables if isinstance(one, dict)) if isinstance(tables, list) else ()


def _local_in_uv_lock(document: dict[str, Any]) -> Iterator[str]:
    for package in _tables(document, 'package'):
        source = package.get('source', {})
        for kind in _SOURCES:
            # The project itself stands in its lock as `.`; its code comes with the snapshot.
            if isinstance(source, dict) and source.get(kind, '.') != '.':
                yield f'{package.get("name")} from {source[kind]}'


def _local_in_pylock(document: dict[str, Any]) -> Iterator[str]:
    for package in _tables(document, 'packages'):
        places = [package.get('directory'), package.get('archive'), package.get('sdist')]
        for place in (*places, *_tables(package, 'wheels')):
            if isinstance(place, dict) and 'path' in place:
                yield f'{package.get("name")} from {place["path"]}'


def _refuse_first(found: Iterator[str], lock: str, asked: str) -> None:
    for what in found:
        raise lies_here(what, lock, asked)
