"""The first schema: experiments, units, tasks, events, requests.

Revision ID: 0001
Revises:
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = '0001'
down_revision = None


# MySQL's TEXT ends at 64 KiB.
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), 'mysql')


def upgrade() -> None:
    _create_table(
        'settings',
        sa.Column('name', sa.String(64), primary_key=True),
        sa.Column('value', TEXT, nullable=False),
    )
    _create_experiments()
    _create_units()
    _create_tasks()
    _create_events()
    _create_requests()


def downgrade() -> None:
    for table in ('requests', 'events', 'tasks', 'units', 'experiments', 'settings'):
        op.drop_table(table)


def _create_table(name: str, *columns: sa.Column[object], **options: Any) -> None:
    dialect = op.get_bind().dialect
    if dialect.name == 'mysql':
        # Texts are equal if all their characters are, case and blanks at the end included.
        is_mariadb = getattr(dialect, 'is_mariadb', False)
        collation = 'utf8mb4_nopad_bin' if is_mariadb else 'utf8mb4_0900_bin'
        options |= {
            'mysql_engine': 'InnoDB',
            'mysql_charset': 'utf8mb4',
            'mysql_collate': collation,
        }
    op.create_table(name, *columns, **options)


def _goes_with(table: str) -> sa.ForeignKey:
    return sa.ForeignKey(f'{table}.id', ondelete='CASCADE')


def _create_experiments() -> None:
    _create_table(
        'experiments',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('title', TEXT, nullable=False),
        sa.Column('user_name', sa.String(255), nullable=False),
        sa.Column('host', sa.String(255), nullable=False),
        sa.Column('script', TEXT, nullable=False),
        sa.Column('argv', TEXT, nullable=False),
        sa.Column('cwd', TEXT, nullable=False),
        sa.Column('python', TEXT, nullable=False),
        sa.Column('created_at', sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_units() -> None:
    _create_table(
        'units',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('experiment_id', sa.Integer, _goes_with('experiments'), nullable=False),
        sa.Column('kind', sa.String(16), nullable=False),
        sa.Column('number', sa.Integer, nullable=False),
        sa.Column('state', sa.String(16), nullable=False),
        sa.Column('message', TEXT, nullable=False),
        # NULL: none. Unlike '', NULL may stand in a unique index many times.
        sa.Column('identity', sa.String(512)),
        sa.Column('args', TEXT, nullable=False),
        sa.Column('importance', sa.Integer, nullable=False),
        sa.Column('tags', TEXT, nullable=False),
        sa.Column('termination_delay', sa.Double),
        sa.Column('attempt', sa.Integer, nullable=False),
        sa.Column('backend', sa.String(64), nullable=False),
        sa.Column('reference', TEXT, nullable=False),
        # JSON: the devices that each task was given.
        sa.Column('granted', TEXT, nullable=False),
        # JSON: the state to end in and the message, once a running unit was asked to end.
        sa.Column('stopping', TEXT),
        sa.Column('created_at', sa.Double, nullable=False),
        sa.Column('started_at', sa.Double),
        sa.Column('ended_at', sa.Double),
        sqlite_autoincrement=True,
    )
    op.create_index('units_number', 'units', ['experiment_id', 'kind', 'number'], unique=True)
    op.create_index('units_identity', 'units', ['experiment_id', 'identity'], unique=True)
    op.create_index('units_order', 'units', ['experiment_id', 'id'])
    # Serves the queue in its order; its last columns make it cover the counts of `xmanager list`.
    op.create_index(
        'units_queue',
        'units',
        ['experiment_id', 'state', sa.text('importance DESC'), 'id', 'kind', 'ended_at'],
    )


def _create_tasks() -> None:
    _create_table(
        'tasks',
        sa.Column(
            'unit_id', sa.Integer, _goes_with('units'), primary_key=True, autoincrement=False
        ),
        sa.Column('position', sa.Integer, primary_key=True, autoincrement=False),
        sa.Column('name', TEXT, nullable=False),
        sa.Column('full_name', TEXT, nullable=False),
        # The rest of the task as JSON: argv, cwd, env, secrets' names, requirements, options, executable.
        sa.Column('spec', TEXT, nullable=False),
        sa.Column('state', sa.String(16), nullable=False),
        sa.Column('exit_code', sa.Integer),
        sa.Column('exit_signal', sa.Integer),
        sa.Column('message', TEXT, nullable=False),
        sa.Column('started_at', sa.Double),
        sa.Column('ended_at', sa.Double),
        sa.Column('max_rss', sa.BigInteger),
        sa.Column('user_seconds', sa.Double),
        sa.Column('system_seconds', sa.Double),
    )


def _create_events() -> None:
    _create_table(
        'events',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('experiment_id', sa.Integer, _goes_with('experiments'), nullable=False),
        sa.Column('unit_id', sa.Integer, _goes_with('units'), nullable=False),
        sa.Column('at', sa.Double, nullable=False),
        sa.Column('actor', TEXT, nullable=False),
        sa.Column('from_state', sa.String(16), nullable=False),
        sa.Column('to_state', sa.String(16), nullable=False),
        sa.Column('why', TEXT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index('events_experiment', 'events', ['experiment_id', 'id'])
    op.create_index('events_unit', 'events', ['unit_id', 'id'])


def _create_requests() -> None:
    _create_table(
        'requests',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('experiment_id', sa.Integer, _goes_with('experiments'), nullable=False),
        sa.Column('unit_id', sa.Integer, _goes_with('units')),
        sa.Column('verb', sa.String(32), nullable=False),
        sa.Column('message', TEXT, nullable=False),
        sa.Column('outcome', sa.String(16), nullable=False),
        sa.Column('actor', TEXT, nullable=False),
        sa.Column('at', sa.Double, nullable=False),
        sa.Column('finished_at', sa.Double),
        sqlite_autoincrement=True,
    )
    op.create_index('requests_open', 'requests', ['experiment_id', 'finished_at'])
    op.create_index('requests_unit', 'requests', ['unit_id'])
