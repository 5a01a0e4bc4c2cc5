"""Whether the home and its database are fit to keep experiments."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from xmanager.errors import UsageError
from xmanager.launch.findings import BAD, OK, WARN, Finding
from xmanager.store import Home
from xmanager.store.file_system import file_system_of, is_of_the_network
from xmanager.store.health import examine

_LEAST_FREE_BYTES: Final = 1 << 30
_ELSEWHERE: Final = 'set XM_HOME to a folder of yours on a local disk'


def home(home: Home) -> Finding:
    """The home directory: there or to be made, writable, with locks, on what file system, with room to spare."""
    nearest = _nearest_existing(home.path)
    kind = file_system_of(nearest)
    free = shutil.disk_usage(nearest).free
    detail = f'{home.path}, {kind}, {free / 2**30:.1f} GiB free'
    facts = {
        'path': str(home.path),
        'exists': home.path.exists(),
        'file_system': kind,
        'free_bytes': free,
    }
    if trouble := _trouble_with_files(nearest):
        return Finding('home', BAD, f'{home.path}: {trouble}', _ELSEWHERE, facts)
    if is_of_the_network(kind):
        detail += f': the database is slower on {kind}, and relies on its locks'
        advice = f'{_ELSEWHERE}, or use a server (docs/how-to/databases.md)'
        return Finding('home', WARN, detail, advice, facts)
    if free < _LEAST_FREE_BYTES:
        advice = f'free some, or delete old experiments: xmanager list, xmanager delete (du -sh {home.path})'
        return Finding('home', WARN, f'{detail}: little', advice, facts)
    if not home.path.exists():
        detail += ' (made by the first launch)'
    return Finding('home', OK, detail, facts=facts)


def database(home: Home) -> Finding:
    """The database: which it is, its schema and size, and whether it is sound."""
    try:
        health = examine(home)
    except UsageError as error:
        return Finding('database', BAD, str(error), facts={'exists': False})
    facts = {
        'path': health.place,
        'exists': health.exists,
        'schema': health.schema,
        'bytes': health.size,
        'experiments': health.experiments,
        'server': health.server or None,
        'journal': health.journal or None,
    }
    if health.trouble:
        return Finding('database', BAD, health.trouble, health.advice, facts)
    found = ', '.join(filter(None, [health.place if health.server else '', health.server]))
    if not health.exists:
        detail = f'{found}: no tables' if found else 'none'
        return Finding('database', OK, f'{detail} yet (made by the first launch)', facts=facts)
    size = '' if health.size is None else f'{health.size / 2**20:.1f} MiB'
    counted = f'{health.experiments:,} experiments'
    parts = [found, f'schema {health.schema}', size, counted, health.journal, 'sound']
    return Finding('database', OK, ', '.join(filter(None, parts)), facts=facts)


def _nearest_existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _trouble_with_files(folder: Path) -> str:
    """What keeps us from making, filling and locking a file there; empty if nothing does."""
    if not folder.is_dir():
        return f'{folder} is a file where a folder is needed'
    if not os.access(folder, os.W_OK | os.X_OK):
        return f'{folder} cannot be written'
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b'xmanager')
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return f'a file in {folder} cannot be made and locked ({error.strerror})'
    return ''
