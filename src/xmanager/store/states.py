"""The table of legal moves, and what a move does to a unit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from xmanager.store.rows import NO_GRANT, to_json, to_text
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
    Standing,
)

LEGAL_MOVES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        CREATING: frozenset({QUEUED, COMPLETED, FAILED, STOPPED}),
        QUEUED: frozenset({STARTING, STOPPED, FAILED, COMPLETED}),
        # Back to queued: it was never spawned. Straight to an end: it ended before anyone saw it run.
        STARTING: frozenset({RUNNING, QUEUED, FAILED, COMPLETED, STOPPED, LOST, RESTARTING}),
        RUNNING: frozenset({COMPLETED, FAILED, STOPPED, LOST, RESTARTING}),
        RESTARTING: frozenset({QUEUED, STOPPED, FAILED, COMPLETED}),
        COMPLETED: frozenset({RESTARTING}),
        FAILED: frozenset({RESTARTING}),
        STOPPED: frozenset({RESTARTING}),
        LOST: frozenset({RESTARTING}),
    }
)


def is_legal(unit: Standing, change: Change) -> bool:
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


def moved(unit: Standing, change: Change, at: float) -> Standing:
    """The unit after a legal change. `restarting` begins the next attempt with a clean slate."""
    restarts = unit.restarts if change.restarts is None else change.restarts
    if change.state == RESTARTING and unit.state != RESTARTING:
        return _begun_anew(unit, change, restarts)
    kept = NO_GRANT if change.state == QUEUED else unit.granted
    has_begun = change.state in (STARTING, RUNNING)
    starts = change.state == RUNNING and unit.started_at is None
    enters_queue = change.state == QUEUED != unit.state
    due = unit.not_before if change.not_before is None else change.not_before
    stopping = unit.stopping if change.stopping is None else to_json(change.stopping)
    # Not attrs.evolve: it takes three times as long, and each unit passes here three times.
    return Standing(
        id=unit.id,
        experiment_id=unit.experiment_id,
        kind=unit.kind,
        number=unit.number,
        state=change.state,
        message=unit.message if change.message is None else to_text(change.message),
        reference=unit.reference if change.reference is None else to_text(change.reference),
        granted=kept if change.grant is None else to_json(change.grant),
        stopping=stopping if has_begun else None,
        attempt=unit.attempt,
        started_at=at if starts else unit.started_at,
        ended_at=at if change.state in FINAL_STATES else None,
        queued_at=at if enters_queue else unit.queued_at,
        not_before=due if change.state == RESTARTING else None,
        restarts=restarts,
    )


def _begun_anew(unit: Standing, change: Change, restarts: int) -> Standing:
    return attrs.evolve(
        unit,
        state=RESTARTING,
        message=to_text(change.message or ''),
        reference='',
        granted=NO_GRANT,
        stopping=None,
        attempt=unit.attempt + 1,
        started_at=None,
        ended_at=None,
        not_before=change.not_before,
        restarts=restarts,
    )
