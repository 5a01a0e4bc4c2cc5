"""One SQLite connection: transactions, patience with locks, and errors in one sentence."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import attrs

from xmanager import faults
from xmanager.errors import StoreError
from xmanager.store.trouble import is_busy, translated

Notify = Callable[[str], None]

READ_WRITE: Final = 'mode=rw'
READ_ONLY: Final = 'mode=ro'
IMMUTABLE: Final = 'mode=ro&immutable=1'
"""For a directory that can't be written: SQLite makes no `-shm` file there, and so sees no `-wal` file either."""


@attrs.frozen
class Patience:
    """How long a locked database is waited for, in seconds."""

    notify_after: float = 2.0
    give_up_after: float = 30.0


DEFAULT_PATIENCE: Final = Patience()


def log_warning(sentence: str) -> None:
    """The default way to tell the user that he waits."""
    import logging  # Costs 13 ms, which a launch that waits for nothing need not pay.

    logging.getLogger('xmanager').warning(sentence)


class SqliteConnection(sqlite3.Connection):
    """The connection as the module has it, with no layer between: `xmanager.store.connection.Connection`."""

    def insert(self, sql: str, parameters: Mapping[str, Any], /) -> int:
        id = self.execute(sql, parameters).lastrowid
        assert id is not None
        return id

    def now(self) -> float:
        return time.time()


class SqliteDatabase:
    """A connection that threads may share: `xmanager.store.connection.Database`."""

    def __init__(
        self,
        path: Path,
        connection: SqliteConnection,
        *,
        patience: Patience = DEFAULT_PATIENCE,
        notify: Notify = log_warning,
        synchronous: str = 'NORMAL',
    ) -> None:
        self.path = path
        self._connection = connection
        self._patience = patience
        self._notify = notify
        self.lock = threading.RLock()
        self._writes = 0
        self._set_timeout(patience.notify_after)
        with translated(path):
            self._patiently('PRAGMA foreign_keys = ON', f'PRAGMA synchronous = {synchronous}')

    @property
    def name(self) -> str:
        return str(self.path)

    @contextmanager
    def writing(self) -> Iterator[SqliteConnection]:
        """A transaction that writes: all or nothing, one at a time over all processes."""
        with self.lock, translated(self.path):
            self._patiently('BEGIN IMMEDIATE')
            with self._rollback_on_error():
                yield self._connection
                faults.pass_by('commit.before')
                # Without a log (`journal`), readers hold up a commit, which may then be tried again.
                self._wait_for_locks(self._commit)
            faults.pass_by('commit.after')
            self._writes += 1

    @contextmanager
    def reading(self) -> Iterator[SqliteConnection]:
        """A transaction in which every query sees the same moment."""
        with self.lock, translated(self.path):
            # The query takes the snapshot: the place where a lock may have to be waited for.
            self._patiently('BEGIN', 'SELECT version_num FROM alembic_version')
            with self._rollback_on_error():
                yield self._connection
                self._connection.execute('COMMIT')

    def change_token(self) -> tuple[int, int]:
        """Differs from an earlier one of this connection if anything was committed since, by whomever."""
        return self.foreign_stamp(), self._writes

    def foreign_stamp(self) -> int:
        """Differs from an earlier one of this connection if another one has committed since."""
        with self.lock, translated(self.path):
            (version,) = self._connection.execute('PRAGMA data_version').fetchone()
            return int(version)

    def schema(self) -> str:
        """The version of the schema, as Alembic writes it; '' if it wrote none."""
        with self.reading() as connection:
            row = connection.execute('SELECT version_num FROM alembic_version').fetchone()
        return row[0] if row else ''

    def setting(self, name: str) -> str:
        with self.reading() as connection:
            sql = 'SELECT value FROM settings WHERE name = :name'
            (value,) = connection.execute(sql, {'name': name}).fetchone()
        return str(value)

    def forbid_writing(self) -> None:
        with self.lock, translated(self.path):
            self._connection.execute('PRAGMA query_only = ON')

    def close(self) -> None:
        with self.lock, translated(self.path):
            self._connection.close()

    def _commit(self) -> None:
        self._connection.execute('COMMIT')

    def _patiently(self, *statements: str) -> None:
        self._wait_for_locks(lambda: self._run(statements))

    def _wait_for_locks(self, run: Callable[[], None]) -> None:
        started = time.monotonic()
        try:
            return run()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
        self._notify(f'waiting for {self.path}: another process has locked it')
        self._set_timeout(self._patience.give_up_after - (time.monotonic() - started))
        try:
            run()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            raise StoreError(
                f'{self.path} stayed locked by another process for {self._patience.give_up_after:g} s; '
                f'see which (fuser {self.path}), end it, and try again'
            ) from error
        finally:
            self._set_timeout(self._patience.notify_after)

    def _run(self, statements: tuple[str, ...]) -> None:
        with self._rollback_on_error():
            for statement in statements:
                self._connection.execute(statement).fetchall()

    @contextmanager
    def _rollback_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute('ROLLBACK')
            raise

    def _set_timeout(self, seconds: float) -> None:
        self._connection.execute(f'PRAGMA busy_timeout = {max(0, round(seconds * 1000))}')


def connect(path: Path, mode: str = READ_WRITE) -> SqliteConnection:
    """Opens a database that is there already; raises sqlite3.OperationalError if it isn't.

    WAL mode is a property of the file, set when it was made.
    """
    return _connect(f'file:{quote(os.fsencode(path))}?{mode}')


def connect_to_memory() -> SqliteConnection:
    return _connect('file::memory:')


def _connect(uri: str) -> SqliteConnection:
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, factory=SqliteConnection
    )
