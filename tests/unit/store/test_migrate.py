"""The schema: generated from the migrations, and reached from older databases."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from xmanager.errors import StoreError
from xmanager.store import Change, Home, NewExperiment, Store, opening
from xmanager.store.migrate import MIGRATIONS, revisions, upgrade_file
from xmanager.store.schema_sql import SCHEMA_SQL, render

_DATA = Path(__file__).with_name('data')
_NEXT = """
import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'


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
    (migrations / 'versions' / '0003_notes.py').write_text(_NEXT.format(more=more))
    return migrations


def query(database, sql):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def test_schema_sql_is_what_the_migrations_make():
    assert SCHEMA_SQL.read_text() == render(), "run 'make schema'"


def test_every_migration_is_known_when_a_database_is_opened():
    assert revisions() == opening.SCHEMAS


def test_an_older_database_keeps_its_rows_and_a_copy_of_what_it_was(home, tmp_path):
    copy = upgrade_file(home.database, '0002', migrations=later(tmp_path))
    assert query(home.database, 'SELECT id, title, notes FROM experiments') == [(1, 't', '')]
    assert query(home.database, 'SELECT version_num FROM alembic_version') == [('0003',)]
    assert query(copy, 'SELECT version_num FROM alembic_version') == [('0002',)]
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_migration_that_fails_changes_nothing(home, tmp_path):
    migrations = later(tmp_path, "op.execute('INSERT INTO nowhere VALUES (1)')")
    with pytest.raises(StoreError, match=r'is as it was: .*nowhere'):
        upgrade_file(home.database, '0002', migrations=migrations)
    assert query(home.database, 'SELECT version_num FROM alembic_version') == [('0002',)]
    with Store.open(home) as store:
        assert store.experiment(1).title == 't'


def test_opening_an_older_database_migrates_it(home, tmp_path, monkeypatch):
    import xmanager.store.migrate

    migrations = later(tmp_path)
    monkeypatch.setattr(opening, 'SCHEMAS', (*opening.SCHEMAS, '0003'))
    monkeypatch.setattr(
        xmanager.store.migrate,
        'upgrade_file',
        lambda database, version: upgrade_file(database, version, migrations=migrations),
    )
    with Store.open(home) as store:
        assert store.experiment(1).title == 't'
    with Store.open(home, readonly=True) as store:
        assert store.experiment(1).title == 't'
    assert query(home.database, 'SELECT version_num FROM alembic_version') == [('0003',)]


@pytest.fixture
def first_home(tmp_path):
    """A home of the first schema, as it was found on a disk."""
    home = Home(tmp_path / 'first')
    home.path.mkdir()
    with closing(sqlite3.connect(home.database)) as connection:
        connection.executescript((_DATA / 'schema-0001.sql').read_text())
    return home


def test_a_home_of_the_first_schema_is_read_right(first_home):
    with Store.open(first_home) as store:
        assert store.home_id == '0123456789ab'
        assert [(e.title, e.user, e.paused_at) for e in store.experiments()] == [
            ('mnist', 'bob', None),
            ('cifar10 β', 'ada', None),
        ]
        units = {unit.label: unit for unit in store.units(1)}
        requests = store.requests(1)
    assert {label: unit.state for label, unit in units.items()} == {
        '1': 'completed',
        '2': 'failed',
        '3': 'queued',
        '4': 'running',
        '5': 'stopped',
        'a1': 'running',
        '6': 'creating',
    }
    assert units['2'].tasks[0].exit_code == 3
    assert units['4'].stopping == ('stopped', 'dull')
    assert [(request.verb, request.unit_id) for request in requests] == [('stop', units['4'].id)]
    # Unit 3 was queued anew by its restart; unit 6 never was.
    assert units['1'].queued_at == units['1'].created_at
    assert units['3'].queued_at == 1_700_000_022.5
    assert units['6'].queued_at is None
    assert {(unit.restarts, unit.not_before) for unit in units.values()} == {(0, None)}


def test_a_home_of_the_first_schema_goes_on(first_home):
    with Store.open(first_home) as store:
        assert store.create_experiment(NewExperiment('t', 'u', 'h')).id == 3
        (unit,) = [unit for unit in store.units(1) if unit.label == '3']
        token = store.foreign_token(1)
        assert store.move([Change(unit.id, 'starting')], actor='test')
        assert store.foreign_token(1) == token
    copy = first_home.database.with_name('xmanager.db.schema-0001')
    assert query(copy, 'SELECT COUNT(*) FROM units') == [(8,)]
