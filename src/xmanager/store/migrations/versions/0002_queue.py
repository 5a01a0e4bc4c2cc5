"""What a queue needs to know: who supervises, what is paused, when units were queued and when they are due again.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'

_EXPERIMENTS = ('paused_at', 'revision', 'fence', 'holder', 'held_until')
_UNITS = ('queued_at', 'not_before', 'restarts')


def upgrade() -> None:
    op.add_column('experiments', sa.Column('paused_at', sa.Double))
    # Counts the commits that concern the experiment: who has seen this number has seen everything.
    op.add_column(
        'experiments',
        sa.Column('revision', sa.Integer, nullable=False, server_default=sa.text('0')),
    )
    # Counts the supervisors: one whose number was passed may write nothing more.
    op.add_column(
        'experiments', sa.Column('fence', sa.Integer, nullable=False, server_default=sa.text('0'))
    )
    op.add_column('experiments', sa.Column('holder', sa.Text))
    op.add_column('experiments', sa.Column('held_until', sa.Double))
    op.add_column('units', sa.Column('queued_at', sa.Double))
    op.add_column('units', sa.Column('not_before', sa.Double))
    # Restarts that nobody asked for, since the last one that somebody did.
    op.add_column(
        'units', sa.Column('restarts', sa.Integer, nullable=False, server_default=sa.text('0'))
    )
    op.execute(
        'UPDATE units SET queued_at = '
        "(SELECT MAX(at) FROM events WHERE events.unit_id = units.id AND to_state = 'queued')"
    )


def downgrade() -> None:
    for table, columns in (('experiments', _EXPERIMENTS), ('units', _UNITS)):
        for column in columns:
            op.drop_column(table, column)
