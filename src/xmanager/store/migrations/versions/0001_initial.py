"""The first schema: experiments, units, tasks, events, requests.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None


def upgrade() -> None:
    op.create_table(
        'settings',
        sa.Column('name', sa.String(64), primary_key=True),
        sa.Column('value', sa.Text, nullable=False),
    )
    _create_experiments()
    _create_units()
    _create_tasks()
    _create_events()
    _create_requests()


def downgrade() -> None:
    for table in ('requests', 'events', 'tasks', 'units', 'experiments', 'settings'):
        op.drop_table(table)


def _goes_with(table: str) -> sa.ForeignKey:
    return sa.ForeignKey(f'{table}.id', ondelete='CASCADE')


def _create_experiments() -> None:
    op.create_table(
        'experiments',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('title', sa.Text, nullable=False),
        sa.Column('user_name', sa.String(255), nullable=False),
        sa.Column('host', sa.String(255), nullable=False),
        sa.Column('script', sa.Text, nullable=False),
        sa.Column('argv', sa.Text, nullable=False),
        sa.Column('cwd', sa.Text, nullable=False),
        sa.Column('python', sa.Text, nullable=False),
        sa.Column('created_at', sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_units() -> None:
    op.create_table(
        'units',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('experiment_id', sa.Integer, _goes_with('experiments'), nullable=False),
        sa.Column('kind', sa.String(16), nullable=False),
        sa.Column('number', sa.Integer, nullable=False),
        sa.Column('state', sa.String(16), nullable=False),
        sa.Column('message', sa.Text, nullable=False),
        # NULL: none. Unlike '', NULL may stand in a unique index many times.
        sa.Column('identity', sa.String(512)),
        sa.Column('args', sa.Text, nullable=False),
        sa.Column('importance', sa.Integer, nullable=False),
        sa.Column('tags', sa.Text, nullable=False),
        sa.Column('termination_delay', sa.Double),
        sa.Column('attempt', sa.Integer, nullable=False),
        sa.Column('backend', sa.String(64), nullable=False),
        sa.Column('reference', sa.Text, nullable=False),
        # JSON: the devices that each task was given.
        sa.Column('granted', sa.Text, nullable=False),
        # JSON: the state to end in and the message, once a running unit was asked to end.
        sa.Column('stopping', sa.Text),
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
    op.create_table(
        'tasks',
        sa.Column(
            'unit_id', sa.Integer, _goes_with('units'), primary_key=True, autoincrement=False
        ),
        sa.Column('position', sa.Integer, primary_key=True, autoincrement=False),
        sa.Column('name', sa.Text, nullable=False),
        sa.Column('full_name', sa.Text, nullable=False),
        # The rest of the task as JSON: argv, cwd, env, secrets' names, requirements, options, executable.
        sa.Column('spec', sa.Text, nullable=False),
        sa.Column('state', sa.String(16), nullable=False),
        sa.Column('exit_code', sa.Integer),
        sa.Column('exit_signal', sa.Integer),
        sa.Column('message', sa.Text, nullable=False),
        sa.Column('started_at', sa.Double),
        sa.Column('ended_at', sa.Double),
        sa.Column('max_rss', sa.BigInteger),
        sa.Column('user_seconds', sa.Double),
        sa.Column('system_seconds', sa.Double),
    )


def _create_events() -> None:
    op.create_table(
        'events',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('experiment_id', sa.Integer, _goes_with('experiments'), nullable=False),
        sa.Column('unit_id', sa.Integer, _goes_with('units'), nullable=False),
        sa.Column('at', sa.Double, nullable=False),
        sa.Column('actor', sa.Text, nullable=False),
        sa.Column('from_state', sa.String(16), nullable=False),
        sa.Column('to_state', sa.String(16), nullable=False),
        sa.Column('why', sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index('events_experiment', 'events', ['experiment_id', 'id'])
    op.create_index('events_unit', 'events', ['unit_id', 'id'])


def _create_requests() -> None:
    op.create_table(
        'requests',
        sa.Column('id', sa.Integer, primary_key=True),
        sa.Column('experiment_id', sa.Integer, _goes_with('experiments'), nullable=False),
        sa.Column('unit_id', sa.Integer, _goes_with('units')),
        sa.Column('verb', sa.String(32), nullable=False),
        sa.Column('message', sa.Text, nullable=False),
        sa.Column('outcome', sa.String(16), nullable=False),
        sa.Column('actor', sa.Text, nullable=False),
        sa.Column('at', sa.Double, nullable=False),
        sa.Column('finished_at', sa.Double),
        sqlite_autoincrement=True,
    )
    op.create_index('requests_open', 'requests', ['experiment_id', 'finished_at'])
    op.create_index('requests_unit', 'requests', ['unit_id'])
