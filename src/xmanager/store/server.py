"""A database of a server, PostgreSQL, MariaDB or MySQL, through SQLAlchemy. Loaded only where one is used."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from xmanager import faults
from xmanager.errors import StoreError
from xmanager.store.address import POSTGRESQL, ServerAddress
from xmanager.store.server_trouble import missing_driver, translated

_CONNECT_SECONDS: Final = 10
_SILENCE_SECONDS: Final = 60  # After which a connection that says nothing is given up.
_IDLE_SECONDS: Final = 60  # After which a client that sleeps in a transaction loses its locks.

# All queries of a read transaction see one moment. A transaction that writes is READ COMMITTED: once it has locked the
# row of its experiment, it must see what the one before it wrote.
_ONE_MOMENT: Final = 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ'
_NOW: Final = {
    'postgresql': 'SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)',
    'mysql': 'SELECT UNIX_TIMESTAMP(SYSDATE(6))',
}


class ServerConnection:
    """An open transaction: `xmanager.store.connection.Connection`."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name

    def execute(self, sql: str, parameters: Mapping[str, Any] = {}, /) -> sa.CursorResult[Any]:
        return self._connection.execute(_statement(sql), parameters)

    def executemany(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> None:
        if parameters:
            self._connection.execute(_statement(sql), parameters)

    def insert(self, sql: str, parameters: Mapping[str, Any], /) -> int:
        if self._dialect == POSTGRESQL:
            return int(self.execute(f'{sql} RETURNING id', parameters).scalar_one())
        return int(self.execute(sql, parameters).lastrowid)

    def now(self) -> float:
        return float(self.execute(_NOW[self._dialect]).scalar_one())


_engines: weakref.WeakSet[sa.Engine] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """A forked child makes connections of its own: two processes must not speak through one."""
    for engine in list(_engines):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_leave_to_parent)


class ServerDatabase:
    """One connection, made anew when the server was away: `xmanager.store.connection.Database`."""

    def __init__(
        self, address: ServerAddress, engine: sa.Engine, *, readonly: bool = False
    ) -> None:
        self.address = address
        self.lock = threading.RLock()
        self._engine = engine
        self._readonly = readonly

    @property
    def name(self) -> str:
        return str(self.address)

    @contextmanager
    def writing(self) -> Iterator[ServerConnection]:
        if self._readonly:
            raise StoreError(f'{self.name} was opened to be read, and cannot be written')
        with self.lock, translated(self.address):
            with self._engine.begin() as connection:
                yield ServerConnection(connection)
                faults.pass_by('commit.before')
            faults.pass_by('commit.after')

    @contextmanager
    def reading(self) -> Iterator[ServerConnection]:
        with self.lock, translated(self.address), self._engine.begin() as connection:
            connection.execute(_statement(_ONE_MOMENT))
            yield ServerConnection(connection)

    def change_token(self) -> object:
        """A server tells of nothing before it is asked: no two are equal."""
        return object()

    def foreign_stamp(self) -> object:
        """As `change_token`."""
        return object()

    def setting(self, name: str) -> str:
        with self.reading() as connection:
            sql = 'SELECT value FROM settings WHERE name = :name'
            return str(connection.execute(sql, {'name': name}).scalar_one())

    def schema(self) -> str:
        """The version of the schema, as Alembic writes it."""
        with self.reading() as connection:
            found = connection.execute('SELECT version_num FROM alembic_version')
            return str(found.scalar_one())

    def server_version(self) -> str:
        """Such as `PostgreSQL 15.8` or `MariaDB 10.11.6`."""
        with self.reading() as connection:
            found = str(connection.execute('SELECT version()').scalar_one())
        if self.address.kind == POSTGRESQL:
            return ' '.join(found.split()[:2])
        number, _, rest = found.partition('-')
        return f'{"MariaDB" if "mariadb" in rest.lower() else "MySQL"} {number}'

    def close(self) -> None:
        with self.lock:
            self._engine.dispose()


def make_engine(address: ServerAddress, *, lock_seconds: float, once: bool = False) -> sa.Engine:
    """Connects at the first use; `once` closes the connection after that. StoreError if the driver isn't installed."""
    url = sa.URL.create(
        f'{address.kind}+{address.driver}',
        username=address.username or None,
        password=address.password or None,
        host=address.host,
        port=address.port,
        database=address.name,
        query=dict(address.options),
    )
    # Parameters may hold what a user passed to his program: no message shows them.
    shared: dict[str, Any] = {
        'hide_parameters': True,
        'isolation_level': 'READ COMMITTED',
        'connect_args': {
            name: value
            for name, value in _connect_arguments(address).items()
            if name not in dict(address.options)
        },
    }
    if once:
        shared['poolclass'] = sa.pool.NullPool
    else:
        # Asked before each use whether it is still alive: a server that was started anew is no error.
        shared |= {'pool_size': 1, 'max_overflow': 0, 'pool_pre_ping': True}
    try:
        engine = sa.create_engine(url, **shared)
    except ImportError as error:
        raise missing_driver(address) from error
    _engines.add(engine)
    sa.event.listen(engine, 'connect', functools.partial(_prepare, address, lock_seconds))
    return engine


def _connect_arguments(address: ServerAddress) -> dict[str, Any]:
    if address.kind == POSTGRESQL:
        silence = {'tcp_user_timeout': _SILENCE_SECONDS * 1000}
        return {'connect_timeout': _CONNECT_SECONDS, 'application_name': 'xmanager', **silence}
    return {
        'charset': 'utf8mb4',
        'connect_timeout': _CONNECT_SECONDS,
        'read_timeout': _SILENCE_SECONDS,
        'write_timeout': _SILENCE_SECONDS,
    }


def _prepare(address: ServerAddress, lock_seconds: float, connection: Any, _record: object) -> None:
    """Makes a new connection forgive no truncated text, and wait no longer for locks than we shall."""
    if address.kind == POSTGRESQL:
        statements = [
            f"SET lock_timeout = '{round(lock_seconds * 1000)}ms'",
            f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'",
        ]
    else:
        statements = [
            f'SET SESSION innodb_lock_wait_timeout = {max(1, round(lock_seconds))}',
            "SET SESSION sql_mode = 'STRICT_TRANS_TABLES'",
        ]
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    cursor.close()
    connection.commit()


@functools.cache
def _statement(sql: str) -> sa.TextClause:
    """There are few statements: `queries` takes care that IN-lists have few lengths."""
    return sa.text(sql)
