"""One SQLite connection: transactions, patience with locks, and errors in one sentence."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs

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


class Database:
    """A connection that threads may share: each transaction holds a lock of this process.

    Nothing but `sqlite3.Connection` methods is used within a transaction; sqlite3's and the system's errors leave as
    StoreError.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        *,
        patience: Patience = DEFAULT_PATIENCE,
        notify: Notify = log_warning,
    ) -> None:
        self.path = path
        self._connection = connection
        self._patience = patience
        self._notify = notify
        self._lock = threading.RLock()
        self._writes = 0
        self._set_timeout(patience.notify_after)
        with translated(path):
            self._patiently('PRAGMA foreign_keys = ON', 'PRAGMA synchronous = NORMAL')

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes: all or nothing, one at a time over all processes."""
        with self._lock, translated(self.path):
            self._patiently('BEGIN IMMEDIATE')
            with self._rollback_on_error():
                yield self._connection
                self._connection.execute('COMMIT')
            self._writes += 1

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction in which every query sees the same moment."""
        with self._lock, translated(self.path):
            # The query takes the snapshot: the place where a lock may have to be waited for.
            self._patiently('BEGIN', 'SELECT version_num FROM alembic_version')
            with self._rollback_on_error():
                yield self._connection
                self._connection.execute('COMMIT')

    def change_token(self) -> tuple[int, int]:
        """Differs from an earlier one of this connection if anything was committed since, by whomever."""
        with self._lock, translated(self.path):
            (version,) = self._connection.execute('PRAGMA data_version').fetchone()
            return version, self._writes

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
        with self._lock, translated(self.path):
            self._connection.execute('PRAGMA query_only = ON')

    def close(self) -> None:
        with self._lock, translated(self.path):
            self._connection.close()

    def _patiently(self, *statements: str) -> None:
        started = time.monotonic()
        try:
            return self._run(statements)
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
        self._notify(f'waiting for {self.path}: another process has locked it')
        self._set_timeout(self._patience.give_up_after - (time.monotonic() - started))
        try:
            self._run(statements)
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


def connect(path: Path, mode: str = READ_WRITE) -> sqlite3.Connection:
    """Opens a database that is there already; raises sqlite3.OperationalError if it isn't.

    WAL mode is a property of the file, set when it was made.
    """
    uri = f'file:{quote(os.fsencode(path))}?{mode}'
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def connect_to_memory() -> sqlite3.Connection:
    return sqlite3.connect(':memory:', isolation_level=None, check_same_thread=False)
