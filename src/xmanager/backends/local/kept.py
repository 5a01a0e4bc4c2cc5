"""Sees to it, when a task starts, that it runs the bits that were packaged: at their place, or a kept copy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from xmanager.backends.local.programs import CannotStartError
from xmanager.errors import XManagerError

_AGAIN = 'Launch again: that packages what is there now.'


def prepend(environment: MutableMapping[str, str], executable: Mapping[str, Any]) -> None:
    """Puts places before those that a variable names already, as packaging asks: `{'PATH': '/…/bin'}`."""
    for name, place in executable.get('prepended', {}).items():
        before = environment.get(name)
        environment[name] = f'{place}{os.pathsep}{before}' if before else place


def program_of(executable: Mapping[str, Any], name: str) -> str:
    """What to run for the first word of a command, given what packaging has fixed.

    Raises CannotStartError if neither what was packaged nor a copy of it is there.
    """
    if executable.get('kind') == 'python':
        _check_environment(executable)
    elif executable.get('digest') and executable.get('kind') == 'binary':
        return _binary(name, executable)
    return name


def _binary(name: str, executable: Mapping[str, Any]) -> str:
    path, copy = executable['path'], executable.get('copy', '')
    if name == path and _is_unchanged(path, executable):
        return name
    if copy and name in (path, copy):
        if _is_same(copy, executable):
            return str(copy)
        raise CannotStartError(
            f'could not be started: the kept copy of {path} ({copy}) is gone or was changed. {_AGAIN}'
        )
    if name != path:  # Some other program, to which the packaged one is given perhaps.
        return name
    happened = 'has changed' if os.path.exists(path) else 'was removed'
    raise CannotStartError(
        f'could not be started: {path} {happened} since it was packaged, and no copy of it was kept. '
        'Put it back and restart the unit, or launch again.'
    )


def _is_unchanged(path: str, executable: Mapping[str, Any]) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    at_once = (found.st_mtime, found.st_ino) == (executable['modified'], executable['inode'])
    if at_once and found.st_size == executable['bytes']:
        return True
    return _is_same(path, executable)


def _is_same(path: str, executable: Mapping[str, Any]) -> bool:
    try:
        found = os.stat(path)
        if found.st_size != executable['bytes']:
            return False
        seen = _digest(path, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
    except OSError:
        return False
    return bool(seen == executable['digest'])


@lru_cache(maxsize=256)
def _digest(path: str, inode: int, modified: int, changed: int) -> str:
    """Each file is read once for as long as it stays the same."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def with_its_code(executable: Mapping[str, Any]) -> Mapping[str, Any]:
    """The executable with a `tree` that is as it was packaged: a fresh one if a job has changed the recorded one.

    Only who is root can have changed it unasked. Raises CannotStartError if it is gone.
    """
    tree = str(executable.get('tree', ''))
    if executable.get('kind') != 'python' or not tree:
        return executable
    if not os.path.isdir(tree):
        raise CannotStartError(
            f'could not be started: the kept copy of its code ({tree}) was removed. {_AGAIN}'
        )
    if os.geteuid() != 0 or not executable.get('snapshot'):
        return executable
    from xmanager.snapshot import SnapshotStore

    store = SnapshotStore(Path(tree).parent.parent)
    try:
        fresh = str(store.tree(store.get(executable['snapshot'])))
    except XManagerError as error:
        raise CannotStartError(f'could not be started: {error}') from error
    prepended = executable.get('prepended', {})
    places = {name: fresh if place == tree else place for name, place in prepended.items()}
    return {**executable, 'tree': fresh, 'prepended': places}


def _check_environment(executable: Mapping[str, Any]) -> None:
    folder = executable.get('environment', {}).get('folder')
    if folder and not os.path.exists(f'{folder}/bin/python'):
        raise CannotStartError(
            f'could not be started: its Python environment ({folder}) was removed. {_AGAIN}'
        )
