"""Writes moves: states, the events that explain them, and what became known of tasks, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from xmanager.store import commands, queries
from xmanager.store.connection import Connection
from xmanager.store.rows import to_text
from xmanager.store.states import is_legal, moved
from xmanager.store.values import RESTARTING, RUNNING, Change, Standing

_UPDATE_UNIT: Final = """
    UPDATE units SET state = :state, message = :message, reference = :reference, granted = :granted,
                     stopping = :stopping, attempt = :attempt, started_at = :started_at, ended_at = :ended_at,
                     queued_at = :queued_at, not_before = :not_before, restarts = :restarts
    WHERE id = :id
"""
_CLEAR_TASKS: Final = """
    UPDATE tasks SET state = '', exit_code = NULL, exit_signal = NULL, message = '', started_at = NULL,
                     ended_at = NULL, max_rss = NULL, user_seconds = NULL, system_seconds = NULL
    WHERE unit_id = :unit_id
"""
_START_TASKS: Final = """
    UPDATE tasks SET state = 'running', started_at = :at WHERE unit_id = :unit_id AND started_at IS NULL
"""
_OBSERVE_TASK: Final = """
    UPDATE tasks SET state = :state, exit_code = :exit_code, exit_signal = :exit_signal, ended_at = :ended_at,
                     max_rss = :max_rss, user_seconds = :user_seconds, system_seconds = :system_seconds,
                     message = :message
    WHERE unit_id = :unit_id AND name = :name
"""


def write_moves(
    connection: Connection,
    changes: Sequence[Change],
    now: float,
    actor: str,
    only: int | None = None,
) -> list[Standing]:
    """Makes those changes that are legal, in order; returns the units whose state changed, as they are now.

    `only` is the one experiment whose units may be moved.
    """
    found = queries.standing(connection, {change.unit_id for change in changes})
    units = {unit.id: unit for unit in found if only in (None, unit.experiment_id)}
    touched: dict[int, Standing] = {}
    made: list[tuple[Change, float]] = []
    events = []
    with_event: set[int] = set()
    for change in changes:
        unit = units.get(change.unit_id)
        if unit is None or not is_legal(unit, change):
            continue
        at = now if change.at is None else change.at
        if change.state != unit.state:
            events.append(_event_of_move(unit, change, at, actor))
            with_event.add(unit.id)
        made.append((change, at))
        units[unit.id] = touched[unit.id] = moved(unit, change, at)
    _update_units(connection, touched.values())
    _update_tasks(connection, made)
    commands.insert_events(connection, events)
    return [unit for id, unit in touched.items() if id in with_event]


def _update_units(connection: Connection, units: Iterable[Standing]) -> None:
    """Writes what a move changes."""
    connection.executemany(_UPDATE_UNIT, [_moved_row(unit) for unit in units])


def _update_tasks(connection: Connection, changes: Iterable[tuple[Change, float]]) -> None:
    """Writes what changes say of tasks, in order; each with the time at which it was made."""
    for change, at in changes:
        if change.state == RESTARTING:
            connection.execute(_CLEAR_TASKS, {'unit_id': change.unit_id})
            continue
        if change.state == RUNNING:
            connection.execute(_START_TASKS, {'unit_id': change.unit_id, 'at': at})
        if change.tasks:
            connection.executemany(_OBSERVE_TASK, _observation_rows(change))


def _event_of_move(before: Standing, change: Change, at: float, actor: str) -> Mapping[str, Any]:
    return commands.event_row(
        before.experiment_id, before.id, at, actor, before.state, change.state, change.why
    )


def _moved_row(unit: Standing) -> dict[str, Any]:
    return {
        'id': unit.id,
        'state': unit.state,
        'message': unit.message,
        'reference': unit.reference,
        'granted': unit.granted,
        'stopping': unit.stopping,
        'attempt': unit.attempt,
        'started_at': unit.started_at,
        'ended_at': unit.ended_at,
        'queued_at': unit.queued_at,
        'not_before': unit.not_before,
        'restarts': unit.restarts,
    }


def _observation_rows(change: Change) -> list[dict[str, Any]]:
    return [
        {
            'unit_id': change.unit_id,
            'name': name,
            'state': seen.state,
            'exit_code': seen.exit_code,
            'exit_signal': seen.signal,
            'ended_at': seen.ended_at,
            'max_rss': seen.max_rss,
            'user_seconds': seen.user_seconds,
            'system_seconds': seen.system_seconds,
            'message': to_text(change.task_messages.get(name, '')),
        }
        for name, seen in change.tasks.items()
    ]
