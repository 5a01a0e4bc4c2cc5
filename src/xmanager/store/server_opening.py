"""Opens a server's database: makes its tables, or migrates them if they are old, once for all clients."""

from __future__ import annotations

import os
from typing import Final

import sqlalchemy as sa

from xmanager.errors import StoreError
from xmanager.store.address import POSTGRESQL, ServerAddress
from xmanager.store.opening import SCHEMAS
from xmanager.store.server import ServerDatabase, make_engine
from xmanager.store.server_trouble import detail_of, is_no_fault_of_ours, lacks_a_table, translated
from xmanager.store.sqlite import Patience

_TABLES: Final = frozenset({'settings', 'experiments', 'units', 'tasks', 'events', 'requests'})
_LOCK: Final = 'xmanager'
_LOCK_NUMBER: Final = int.from_bytes(_LOCK.encode())


def open_server(
    address: ServerAddress, patience: Patience, *, readonly: bool = False
) -> ServerDatabase | None:
    """The database at the newest schema; None for a reader, who makes nothing, if it has no tables yet."""
    engine = make_engine(address, lock_seconds=patience.give_up_after)
    try:
        with translated(address):
            with _connected(address, engine) as connection:
                version = schema(connection)
            if version is None and readonly:
                engine.dispose()
                return None
            if version != SCHEMAS[-1]:
                _bring_up(address, patience)
    except BaseException:
        engine.dispose()
        raise
    return ServerDatabase(address, engine, readonly=readonly)


def _connected(address: ServerAddress, engine: sa.Engine) -> sa.Connection:
    """The first connection: where a driver meets options that it doesn't know, or lacks a package of its own."""
    try:
        return engine.connect()
    except (TypeError, ValueError, RuntimeError) as error:
        raise StoreError(
            f'{address}: the driver {address.driver} says: {error}. Correct {address.source}'
        ) from error


def schema(connection: sa.Connection) -> str | None:
    """The version of the schema, as Alembic writes it; None without tables."""
    try:
        with connection.begin_nested():
            found = connection.execute(sa.text('SELECT version_num FROM alembic_version'))
            return found.scalar_one_or_none()
    except sa.exc.DBAPIError as error:
        if lacks_a_table(error):
            return None
        raise


def _bring_up(address: ServerAddress, patience: Patience) -> None:
    """Makes or migrates the tables, unless another client has done so meanwhile."""
    engine = make_engine(address, lock_seconds=patience.give_up_after, once=True)
    with engine.connect() as connection:
        _lock(address, connection, patience)  # Ends with the connection.
        version = schema(connection)
        connection.rollback()
        if version == SCHEMAS[-1]:
            return
        if version is not None and version not in SCHEMAS:
            raise StoreError(
                f'{address} was written by a newer xmanager (schema {version}); '
                f'upgrade xmanager or choose another database by {address.source}'
            )
        if version is None:
            _refuse_tables_of_others(address, connection)
        _upgrade(address, connection, version)


def _lock(address: ServerAddress, connection: sa.Connection, patience: Patience) -> None:
    if address.kind == POSTGRESQL:
        connection.execute(sa.text('SELECT pg_advisory_lock(:number)'), {'number': _LOCK_NUMBER})
    else:
        # These locks are of the whole server; a name has 64 characters at most.
        parameters = {'name': f'{_LOCK}.{address.name}'[:64], 'seconds': patience.give_up_after}
        sql = sa.text('SELECT GET_LOCK(:name, :seconds)')
        if connection.execute(sql, parameters).scalar_one() != 1:
            raise StoreError(
                f'another process has been making or migrating the tables of {address} for '
                f'{patience.give_up_after:g} s; see which, end it, and try again'
            )
    connection.commit()


def _refuse_tables_of_others(address: ServerAddress, connection: sa.Connection) -> None:
    taken = sorted(_TABLES & set(sa.inspect(connection).get_table_names()))
    connection.rollback()
    if taken:
        raise StoreError(
            f'{address} has a table {taken[0]!r} already, of another program or of a set-up that did not come to its '
            f'end. Create an empty database for xmanager, and name it by {address.source}'
        )


def _upgrade(address: ServerAddress, connection: sa.Connection, version: str | None) -> None:
    from xmanager.store.migrate import upgrade

    try:
        with connection.begin():
            upgrade(connection)
            if version is None:
                sql = "INSERT INTO settings (name, value) VALUES ('home_id', :value)"
                connection.execute(sa.text(sql), {'value': os.urandom(6).hex()})
    except sa.exc.SQLAlchemyError as error:
        if is_no_fault_of_ours(error):
            raise
        left = 'is as it was' if address.kind == POSTGRESQL else 'may be in between'
        raise StoreError(
            f'{address} could not be brought from schema {version or "none"} to {SCHEMAS[-1]} and {left}: '
            f'{detail_of(error)}. Restore it from a dump if need be; please report this'
        ) from error
