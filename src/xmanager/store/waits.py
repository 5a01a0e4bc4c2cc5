"""Which units of an experiment wait, and for what: gathered by the database, however many they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from xmanager.store.connection import Connection

_PREFIX: Final = 'waits: '


@attrs.frozen
class Wait:
    """Queued or starting units of one back end that wait for the same: `count` of them, the first by its internal id.

    `is_taken`: the back end has taken them into a queue of its own. `reason` is
    what their supervisor has recorded of it, if anything.
    `since` is when the first of them became queued.
    """

    backend: str
    state: str
    is_taken: bool
    reason: str
    count: int
    first: int
    since: float


def waits(connection: Connection, experiment_id: int) -> list[Wait]:
    """The largest groups first."""
    sql = """
        SELECT backend, state, is_taken, reason, COUNT(*), MIN(id), MIN(since) FROM (
            SELECT id, backend, state, reference <> '' AS is_taken, COALESCE(queued_at, created_at) AS since,
                CASE WHEN SUBSTR(message, 1, :length) = :prefix THEN message ELSE '' END AS reason
            FROM units WHERE experiment_id = :experiment_id AND state IN ('queued', 'starting')
        ) AS waiting
        GROUP BY backend, state, is_taken, reason
    """
    parameters = {'experiment_id': experiment_id, 'prefix': _PREFIX, 'length': len(_PREFIX)}
    rows = connection.execute(sql, parameters).fetchall()
    return sorted(map(_wait, rows), key=lambda one: (-one.count, one.first))


def _wait(row: Sequence[Any]) -> Wait:
    backend, state, is_taken, reason, count, first, since = row
    return Wait(backend, state, bool(is_taken), reason.removeprefix(_PREFIX), count, first, since)
