"""The table of legal moves, and what a move does to a unit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from xmanager.backend import Grant
from xmanager.store.values import (
    COMPLETED,
    CREATING,
    FAILED,
    FINAL_STATES,
    LOST,
    QUEUED,
    RESTARTING,
    RUNNING,
    STARTING,
    STOPPED,
    Change,
    UnitRecord,
)

LEGAL_MOVES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        CREATING: frozenset({QUEUED, COMPLETED, FAILED, STOPPED}),
        QUEUED: frozenset({STARTING, STOPPED, FAILED, COMPLETED}),
        # Back to queued: it was never spawned. Straight to an end: it ended before anyone saw it run.
        STARTING: frozenset({RUNNING, QUEUED, FAILED, COMPLETED, STOPPED, LOST}),
        RUNNING: frozenset({COMPLETED, FAILED, STOPPED, LOST, RESTARTING}),
        RESTARTING: frozenset({QUEUED, STOPPED}),
        COMPLETED: frozenset({RESTARTING}),
        FAILED: frozenset({RESTARTING}),
        STOPPED: frozenset({RESTARTING}),
        LOST: frozenset({RESTARTING}),
    }
)


def is_legal(unit: UnitRecord, change: Change) -> bool:
    """Whether the change may be made to the unit as it is now.

    An active unit may "move" to the state that it is in: facts are then recorded (a reference, how a task ended)
    without an event. Raises ValueError if there is no such state.
    """
    if change.state not in LEGAL_MOVES:
        raise ValueError(
            f'{change.state!r} is no state of a unit; states are {", ".join(LEGAL_MOVES)}'
        )
    if change.expect and unit.state not in change.expect:
        return False
    if change.attempt is not None and change.attempt != unit.attempt:
        return False
    if change.state == unit.state:
        return unit.is_active
    return change.state in LEGAL_MOVES[unit.state]


def moved(unit: UnitRecord, change: Change, at: float) -> UnitRecord:
    """The unit after a legal change. `restarting` begins the next attempt with a clean slate."""
    if change.state == RESTARTING and unit.state != RESTARTING:
        return attrs.evolve(
            unit,
            state=RESTARTING,
            message=change.message or '',
            reference='',
            grant={},
            attempt=unit.attempt + 1,
            started_at=None,
            ended_at=None,
        )
    kept: Grant = {} if change.state == QUEUED else unit.grant
    has_begun = change.state in (STARTING, RUNNING)
    starts = change.state == RUNNING and unit.started_at is None
    return attrs.evolve(
        unit,
        state=change.state,
        message=unit.message if change.message is None else change.message,
        reference=unit.reference if change.reference is None else change.reference,
        grant=kept if change.grant is None else change.grant,
        stopping=(change.stopping or unit.stopping) if has_begun else None,
        started_at=at if starts else unit.started_at,
        ended_at=at if change.state in FINAL_STATES else None,
    )
