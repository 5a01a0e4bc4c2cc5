"""Turns what SQLite and the operating system raise into one sentence: what is wrong, where, what to do."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from xmanager.errors import StoreError

NO_LOCKS_ERRNO: Final = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_FULL_ERRNO: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_ACCESS_ERRNO: Final = frozenset({errno.EACCES, errno.EPERM})
_NO_DIRECTORY_ERRNO: Final = frozenset({errno.ENOTDIR, errno.EEXIST})
_NO_LOCKS_SQLITE: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR_LOCK,
        sqlite3.SQLITE_IOERR_UNLOCK,
        sqlite3.SQLITE_IOERR_RDLOCK,
        sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMLOCK,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
    }
)


@contextmanager
def translated(database: Path) -> Iterator[None]:
    """Raises StoreError in place of `sqlite3.Error` and OSError."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(_sqlite_sentence(database, error)) from error
    except OSError as error:
        raise StoreError(_system_sentence(database.parent, error)) from error


def is_busy(error: sqlite3.Error) -> bool:
    return _primary(error) == sqlite3.SQLITE_BUSY


def is_read_only(error: sqlite3.Error) -> bool:
    """Whether a file that must be written, or made beside the database, can't be."""
    return _primary(error) in (
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    )


def not_ours(database: Path) -> StoreError:
    return StoreError(
        f'{database} is damaged or not a database of xmanager. Restore it from a copy, '
        f'or move it away (mv {database} {database}.damaged) to begin a new one; '
        f'the folders of experiments stay as they are'
    )


def _primary(error: sqlite3.Error) -> int:
    return _code(error) & 0xFF


def _code(error: sqlite3.Error) -> int:
    # Errors that the module itself raises (a wrong parameter, a closed connection) carry no code.
    return getattr(error, 'sqlite_errorcode', None) or 0


def _sqlite_sentence(database: Path, error: sqlite3.Error) -> str:
    primary = _primary(error)
    if _code(error) in _NO_LOCKS_SQLITE or primary in _NO_LOCKS_SQLITE:
        return _no_locks(database.parent)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return str(not_ours(database))
    if primary == sqlite3.SQLITE_FULL:
        return _full(database.parent)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f'{database} is locked by another process (fuser {database} names it); try again when it is done'
    if is_read_only(error):
        return _read_only(database.parent)
    if primary == sqlite3.SQLITE_IOERR:
        return f'{database}: {error}. The disk is failing or full (df {database.parent}), or set XM_HOME to another'
    return f'{database}: {error}'


def _system_sentence(home: Path, error: OSError) -> str:
    if error.errno in NO_LOCKS_ERRNO:
        return _no_locks(home)
    if error.errno in _FULL_ERRNO:
        return _full(home)
    if error.errno == errno.EROFS:
        return _read_only(home)
    if error.errno in _NO_ACCESS_ERRNO:
        return (
            f'you have no access to {error.filename or home}; '
            f'chmod u+rwx {home} or set XM_HOME to a directory of yours'
        )
    if error.errno in _NO_DIRECTORY_ERRNO:
        return f'{error.filename or home} is a file where a directory is needed; move it away or set XM_HOME'
    return f'{error.filename or home}: {error.strerror or error}; set XM_HOME to a directory that works'


def _no_locks(home: Path) -> str:
    return f'the file system of {home} has no working locks; set XM_HOME to a directory on a local disk'


def _full(home: Path) -> str:
    return f'no space is left for {home}; free some (df -h {home}) or set XM_HOME to another disk'


def _read_only(home: Path) -> str:
    return f'{home} cannot be written; chmod u+rwx it or set XM_HOME to a directory of yours'
