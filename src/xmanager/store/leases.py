"""Who supervises an experiment, where locks of files don't reach: a lease that runs out, and a fence behind it."""

from __future__ import annotations

from typing import Final

import attrs

from xmanager.errors import FencedError
from xmanager.store.connection import Connection
from xmanager.store.rows import to_text

_CLAIM: Final = """
    UPDATE experiments SET holder = :holder, held_until = :until, fence = fence + 1
    WHERE id = :id AND (holder IS NULL OR holder = :holder OR held_until <= :now)
"""
_RENEW: Final = 'UPDATE experiments SET held_until = :until WHERE id = :id AND fence = :fence'
_RELEASE: Final = (
    'UPDATE experiments SET holder = NULL, held_until = NULL WHERE id = :id AND fence = :fence'
)
_ADVANCE: Final = 'UPDATE experiments SET revision = revision + 1 WHERE id = :id AND fence = :fence'


@attrs.frozen
class Lease:
    """The right to move an experiment's units. `fence` counts those who had it: a later one shuts out this one."""

    experiment_id: int
    holder: str
    fence: int


@attrs.frozen
class Holder:
    """Who supervises an experiment, or did when it was last seen; '' if whoever did has let go."""

    name: str
    is_live: bool


def holder(connection: Connection, experiment_id: int) -> Holder:
    """By the database's clock."""
    sql = 'SELECT holder, held_until FROM experiments WHERE id = :id'
    row = connection.execute(sql, {'id': experiment_id}).fetchone()
    if row is None or row[0] is None:
        return Holder('', False)
    return Holder(row[0], row[1] > connection.now())


def claim(connection: Connection, experiment_id: int, holder: str, seconds: float) -> Lease | None:
    # Read before the row may have to be waited for: then the lease of another is thought to last longer, never shorter.
    now = connection.now()
    holder = to_text(holder)
    parameters = {'id': experiment_id, 'holder': holder, 'now': now, 'until': now + seconds}
    if connection.execute(_CLAIM, parameters).rowcount == 0:
        return None
    sql = 'SELECT fence FROM experiments WHERE id = :id'
    (fence,) = connection.execute(sql, {'id': experiment_id}).fetchone()
    return Lease(experiment_id, holder, fence)


def renew(connection: Connection, lease: Lease, seconds: float) -> bool:
    until = connection.now() + seconds
    parameters = {'id': lease.experiment_id, 'fence': lease.fence, 'until': until}
    return connection.execute(_RENEW, parameters).rowcount > 0


def release(connection: Connection, lease: Lease) -> None:
    connection.execute(_RELEASE, {'id': lease.experiment_id, 'fence': lease.fence})


def advance_revision(connection: Connection, lease: Lease) -> None:
    """As `commands.advance_revisions`, by the holder of a lease. Raises FencedError."""
    parameters = {'id': lease.experiment_id, 'fence': lease.fence}
    if connection.execute(_ADVANCE, parameters).rowcount == 0:
        raise FencedError(
            f'experiment {lease.experiment_id} has another supervisor by now; this one ({lease.holder}) '
            'writes nothing more'
        )
