"""The schema: generated from the migrations, and reached from older databases."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from xmanager.errors import StoreError
from xmanager.store import Home, NewExperiment, Store, opening
from xmanager.store.migrate import MIGRATIONS, revisions, upgrade_file
from xmanager.store.schema_sql import SCHEMA_SQL, render

_NEXT = """
import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'


def upgrade():
    op.add_column('experiments', sa.Column('notes', sa.Text, nullable=False, server_default=''))
    {more}
"""


@pytest.fixture
def home(tmp_path):
    """A home of one experiment, with the newest schema."""
    home = Home(tmp_path / 'home')
    with Store.open(home) as store:
        store.create_experiment(NewExperiment('t', 'u', 'h'))
    return home


def later(tmp_path, more=''):
    """The migrations of some later day."""
    migrations = tmp_path / 'later%20migrations'
    shutil.copytree(MIGRATIONS, migrations, ignore=shutil.ignore_patterns('__pycache__'))
    (migrations / 'versions' / '0002_notes.py').write_text(_NEXT.format(more=more))
    return migrations


def query(database, sql):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def test_schema_sql_is_what_the_migrations_make():
    assert SCHEMA_SQL.read_text() == render(), "run 'make schema'"


def test_every_migration_is_known_when_a_database_is_opened():
    assert revisions() == opening.SCHEMAS


def test_an_older_database_keeps_its_rows_and_a_copy_of_what_it_was(home, tmp_path):
    copy = upgrade_file(home.database, '0001', migrations=later(tmp_path))
    assert query(home.database, 'SELECT id, title, notes FROM experiments') == [(1, 't', '')]
    assert query(home.database, 'SELECT version_num FROM alembic_version') == [('0002',)]
    assert query(copy, 'SELECT version_num FROM alembic_version') == [('0001',)]
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_migration_that_fails_changes_nothing(home, tmp_path):
    migrations = later(tmp_path, "op.execute('INSERT INTO nowhere VALUES (1)')")
    with pytest.raises(StoreError, match=r'is as it was: .*nowhere'):
        upgrade_file(home.database, '0001', migrations=migrations)
    assert query(home.database, 'SELECT version_num FROM alembic_version') == [('0001',)]
    with Store.open(home) as store:
        assert store.experiment(1).title == 't'


def test_opening_an_older_database_migrates_it(home, tmp_path, monkeypatch):
    import xmanager.store.migrate

    migrations = later(tmp_path)
    monkeypatch.setattr(opening, 'SCHEMAS', ('0001', '0002'))
    monkeypatch.setattr(
        xmanager.store.migrate,
        'upgrade_file',
        lambda database, version: upgrade_file(database, version, migrations=migrations),
    )
    with Store.open(home) as store:
        assert store.experiment(1).title == 't'
    with Store.open(home, readonly=True) as store:
        assert store.experiment(1).title == 't'
    assert query(home.database, 'SELECT version_num FROM alembic_version') == [('0002',)]
