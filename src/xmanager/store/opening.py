"""Opens a home's database: makes it if it is new, migrates it if it is old, refuses what it doesn't know."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from xmanager.errors import StoreError
from xmanager.store.home import Home
from xmanager.store.journal import fit, journal_for
from xmanager.store.sqlite import (
    IMMUTABLE,
    READ_ONLY,
    READ_WRITE,
    Notify,
    Patience,
    SqliteConnection,
    SqliteDatabase,
    connect,
    connect_to_memory,
)
from xmanager.store.trouble import is_read_only, not_ours, translated

SCHEMAS: Final = ('0001', '0002')
"""Every schema there was, oldest first: the revisions of `migrations/versions`."""

_SCHEMA_SQL: Final = Path(__file__).with_name('schema.sql')
_LOCK_POLL_SECONDS: Final = 0.02


def open_database(home: Home, patience: Patience, notify: Notify) -> SqliteDatabase:
    """The database to read and write, at the newest schema."""
    with translated(home.database):
        for folder in (home.path, home.database.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _exists(home):
            with _locked(home, patience, notify):
                if not _exists(home):
                    _make(home)
        journal = journal_for(home.database)
        fit(home.database, journal)
        try:
            return _adopt(home, connect(home.database), patience, notify, journal.synchronous)
        except _OlderSchemaError as older:
            _migrate(home, older.version, patience, notify)
            return _adopt(home, connect(home.database), patience, notify, journal.synchronous)


def open_for_reading(home: Home, patience: Patience, notify: Notify) -> SqliteDatabase:
    """The database to read, which may be somebody else's. Makes nothing: a home without database reads as empty."""
    with translated(home.database):
        if not _exists(home):
            return open_nothing(home, patience, notify)
        if _is_writable(home):
            database = open_database(home, patience, notify)
            database.forbid_writing()
            return database
        try:
            return _adopt(home, _connect_read_only(home), patience, notify)
        except _OlderSchemaError as older:
            raise StoreError(
                f'{home.database} was written by an older xmanager (schema {older.version}) and you cannot write it; '
                f'let its owner run any xmanager command once'
            ) from older


def open_nothing(home: Home, patience: Patience, notify: Notify) -> SqliteDatabase:
    """An empty database in memory: what there is to read before anything was written."""
    return _adopt(home, _empty(), patience, notify)


class _OlderSchemaError(Exception):
    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version


def _adopt(
    home: Home,
    connection: SqliteConnection,
    patience: Patience,
    notify: Notify,
    synchronous: str = 'NORMAL',
) -> SqliteDatabase:
    """Makes a Database of a connection if its schema is ours; else closes it and says why not."""
    try:
        database = SqliteDatabase(
            home.database, connection, patience=patience, notify=notify, synchronous=synchronous
        )
        version = _schema(database)
    except BaseException:
        connection.close()
        raise
    if version == SCHEMAS[-1]:
        return database
    connection.close()
    if version in SCHEMAS:
        raise _OlderSchemaError(version)
    raise StoreError(
        f'{home.database} was written by a newer xmanager (schema {version}); '
        f'upgrade xmanager or set XM_HOME to another directory'
    )


def _schema(database: SqliteDatabase) -> str:
    try:
        return database.schema()
    except StoreError as error:
        if 'no such table' in str(error):
            raise not_ours(database.path) from error
        raise


def _exists(home: Home) -> bool:
    """An empty file counts as none: it is what a full disk leaves."""
    try:
        return home.database.stat().st_size > 0
    except FileNotFoundError:
        return False


def _is_writable(home: Home) -> bool:
    return os.access(home.database.parent, os.W_OK) and os.access(home.database, os.W_OK)


def _connect_read_only(home: Home) -> SqliteConnection:
    connection = connect(home.database, READ_ONLY)
    try:
        connection.execute('SELECT COUNT(*) FROM sqlite_master').fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        log, _ = _logs(home.database)
        if not is_read_only(error) or (log.exists() and log.stat().st_size):
            raise
        return connect(home.database, IMMUTABLE)
    return connection


def _empty() -> SqliteConnection:
    connection = connect_to_memory()
    _write_schema(connection)
    return connection


def _make(home: Home) -> None:
    """Makes the database aside and puts it in place in one step, so that nobody ever finds half of it."""
    aside = home.database.with_name(f'{home.database.name}.new')
    # A log that outlived its database (which was moved away, say) would be replayed into the new one.
    for stale in (aside, *_logs(aside), *_logs(home.database)):
        stale.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.close(descriptor)
    with closing(connect(aside, READ_WRITE)) as connection:
        connection.execute(f'PRAGMA journal_mode = {journal_for(home.database).mode}')
        _write_schema(connection)
        _skip_taken_ids(connection, home)
    os.replace(aside, home.database)


def _logs(database: Path) -> tuple[Path, Path]:
    return database.with_name(f'{database.name}-wal'), database.with_name(f'{database.name}-shm')


def _write_schema(connection: SqliteConnection) -> None:
    connection.executescript(f'BEGIN;{_SCHEMA_SQL.read_text(encoding="utf-8")}COMMIT;')
    parameters = {'value': os.urandom(6).hex()}
    connection.execute("INSERT INTO settings (name, value) VALUES ('home_id', :value)", parameters)


def _skip_taken_ids(connection: SqliteConnection, home: Home) -> None:
    """Folders may outlive a database that was damaged or removed: their ids stay theirs."""
    if not home.experiments_folder.is_dir():
        return
    taken = [
        int(name)
        for name in os.listdir(home.experiments_folder)
        if name.isascii() and name.isdigit()
    ]
    if taken:
        sql = "INSERT INTO sqlite_sequence (name, seq) VALUES ('experiments', :last)"
        connection.execute(sql, {'last': max(taken)})


def _migrate(home: Home, version: str, patience: Patience, notify: Notify) -> None:
    """Brings the database to the newest schema, unless another process has done so meanwhile."""
    with _locked(home, patience, notify):
        with closing(connect(home.database)) as connection:
            (found,) = connection.execute('SELECT version_num FROM alembic_version').fetchone()
        if found == version:
            from xmanager.store.migrate import upgrade_file  # Loads Alembic and SQLAlchemy: 0.2 s.

            upgrade_file(home.database, version)


@contextmanager
def _locked(home: Home, patience: Patience, notify: Notify) -> Iterator[None]:
    """Holds the home's lock, which the kernel releases if we die."""
    descriptor = os.open(home.lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _wait_for_lock(descriptor, home, patience, notify)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, home: Home, patience: Patience, notify: Notify) -> None:
    started = time.monotonic()
    told = False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - started
        if waited > patience.give_up_after:
            raise StoreError(
                f'another process has been making or migrating {home.database} for '
                f'{patience.give_up_after:g} s; see which (fuser {home.lock}), end it, and try again'
            )
        if waited > patience.notify_after and not told:
            notify(f'waiting for {home.lock}: another process makes or migrates the database')
            told = True
        time.sleep(_LOCK_POLL_SECONDS)
