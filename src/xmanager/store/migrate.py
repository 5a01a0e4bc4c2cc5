"""Runs Alembic's migrations. The only file of the store that loads Alembic."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from xmanager.errors import StoreError
from xmanager.store.trouble import translated

MIGRATIONS = Path(__file__).with_name('migrations')


def upgrade_file(database: Path, version: str, *, migrations: Path = MIGRATIONS) -> Path:
    """Brings a database file of an older schema to the newest one; returns the copy that it set aside before.

    The caller holds the home's lock. A migration that fails changes nothing.
    """
    copy = database.with_name(f'{database.name}.schema-{version}')
    with translated(database):
        _copy(database, copy)
    engine = sa.create_engine(
        'sqlite://',
        creator=lambda: sqlite3.connect(database, timeout=30.0, isolation_level=None),
        poolclass=sa.pool.NullPool,
    )
    sa.event.listen(engine, 'begin', _begin_immediate)
    try:
        with engine.begin() as connection:
            upgrade(connection, migrations=migrations)
    except (CommandError, sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(
            f'{database} could not be brought from schema {version} to a newer one and is as it was: {error}. '
            f'A copy is at {copy}; please report this'
        ) from error
    return copy


def upgrade(
    connection: sa.Connection, version: str = 'head', *, migrations: Path = MIGRATIONS
) -> None:
    """Runs what migrations are missing up to this version, on any database; raises what Alembic or SQLAlchemy do."""
    config = _config(migrations)
    config.attributes['connection'] = connection
    command.upgrade(config, version)


def revisions(migrations: Path = MIGRATIONS) -> tuple[str, ...]:
    """All schemas, oldest first."""
    scripts = ScriptDirectory.from_config(_config(migrations))
    return tuple(reversed([script.revision for script in scripts.walk_revisions()]))


def _config(migrations: Path) -> Config:
    config = Config()
    # Alembic interpolates its options: a `%` in a path must be doubled.
    config.set_main_option('script_location', str(migrations).replace('%', '%%'))
    return config


def _copy(database: Path, copy: Path) -> None:
    """What the log file beside the database holds is part of the copy."""
    copy.touch(mode=0o600)
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql('BEGIN IMMEDIATE')
