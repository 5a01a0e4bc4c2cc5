"""Whether the home and its database are fit to keep experiments."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from xmanager.launch.findings import BAD, OK, WARN, Finding
from xmanager.store import Home
from xmanager.store.health import examine

_LEAST_FREE_BYTES: Final = 1 << 30
# Locks and memory maps of these work between hosts badly or not at all (https://sqlite.org/wal.html).
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {'nfs', 'nfs4', 'cifs', 'smb3', 'lustre', 'gpfs', 'beegfs', 'fuse.sshfs', '9p'}
)
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
    if kind in _NETWORK_FILE_SYSTEMS:
        return Finding(
            'home', WARN, f'{detail}: several hosts must not write at once', _ELSEWHERE, facts
        )
    if free < _LEAST_FREE_BYTES:
        advice = f'free some, or delete old experiments: xmanager list, xmanager delete (du -sh {home.path})'
        return Finding('home', WARN, f'{detail}: little', advice, facts)
    if not home.path.exists():
        detail += ' (made by the first launch)'
    return Finding('home', OK, detail, facts=facts)


def database(home: Home) -> Finding:
    """The database: its schema and size, and whether SQLite finds it sound."""
    health = examine(home)
    facts = {
        'path': str(home.database),
        'exists': health.exists,
        'schema': health.schema,
        'bytes': health.size,
        'experiments': health.experiments,
    }
    if health.trouble:
        return Finding(
            'database', BAD, health.trouble, 'restore it from a copy, or move it away', facts
        )
    if not health.exists:
        return Finding('database', OK, 'none yet (made by the first launch)', facts=facts)
    detail = f'schema {health.schema}, {health.size / 2**20:.1f} MiB, {health.experiments:,} experiments, sound'
    return Finding('database', OK, detail, facts=facts)


def file_system_of(path: Path, mounts: Path = Path('/proc/self/mountinfo')) -> str:
    """The type of the file system that holds `path`, such as `ext4`; `unknown` where the kernel doesn't tell."""
    found, longest = 'unknown', -1
    try:
        lines = mounts.read_text(errors='surrogateescape').splitlines()
    except OSError:
        return found
    real = path.resolve()
    for line in lines:
        # man 5 proc: fields, a dash, then the type; the fifth field is the mount point.
        before, _, after = line.partition(' - ')
        point = Path(before.split()[4].replace('\\040', ' '))
        if real.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = after.split()[0], len(point.parts)
    return found


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
