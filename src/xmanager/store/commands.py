"""The write side: every INSERT, UPDATE and DELETE of the store. Functions take an open write transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from xmanager.backend import Task
from xmanager.store.connection import Connection
from xmanager.store.rows import full_name, spec_of, to_json, to_text
from xmanager.store.values import QUEUED, NewExperiment, NewUnit, UnitRecord
from xmanager.store.wording import importance_in_words

_INSERT_EXPERIMENT: Final = """
    INSERT INTO experiments (title, user_name, host, script, argv, cwd, python, created_at)
    VALUES (:title, :user, :host, :script, :argv, :cwd, :python, :at)
"""
_INSERT_UNIT: Final = """
    INSERT INTO units (experiment_id, kind, number, state, message, identity, args, importance, tags,
                       termination_delay, attempt, backend, reference, granted, created_at, queued_at)
    VALUES (:experiment_id, :kind, :number, :state, '', :identity, :args, :importance, :tags,
            :termination_delay, 1, :backend, '', '{}', :at, :queued_at)
"""
_INSERT_TASK: Final = """
    INSERT INTO tasks (unit_id, position, name, full_name, spec, state, message)
    VALUES (:unit_id, :position, :name, :full_name, :spec, '', '')
"""
_INSERT_EVENT: Final = """
    INSERT INTO events (experiment_id, unit_id, at, actor, from_state, to_state, why)
    VALUES (:experiment_id, :unit_id, :at, :actor, :from_state, :to_state, :why)
"""
_INSERT_REQUEST: Final = """
    INSERT INTO requests (experiment_id, unit_id, verb, message, outcome, actor, at)
    VALUES (:experiment_id, :unit_id, :verb, :message, :outcome, :actor, :at)
"""


def insert_experiment(connection: Connection, new: NewExperiment, at: float) -> int:
    parameters = {
        'title': to_text(new.title),
        'user': to_text(new.user),
        'host': to_text(new.host),
        'script': to_text(new.script),
        'argv': to_json(new.argv),
        'cwd': to_text(new.cwd),
        'python': to_text(new.python),
        'at': at,
    }
    return connection.insert(_INSERT_EXPERIMENT, parameters)


def advance_revisions(connection: Connection, experiment_ids: Sequence[int]) -> None:
    """Says that this transaction concerns these experiments (lowest id first); comes first in it.

    On a server it locks their rows: transactions about one experiment are made one after the other there.
    """
    sql = 'UPDATE experiments SET revision = revision + 1 WHERE id = :id'
    connection.executemany(sql, [{'id': id} for id in experiment_ids])


def set_paused(
    connection: Connection, experiment_id: int, paused: bool, at: float, actor: str
) -> None:
    """Pauses or resumes; a finished request keeps who asked for it. What is as wanted already is left as it is."""
    sql = (
        'UPDATE experiments SET paused_at = :at WHERE id = :id AND paused_at IS NULL'
        if paused
        else 'UPDATE experiments SET paused_at = NULL WHERE id = :id AND paused_at IS NOT NULL'
    )
    parameters = {'id': experiment_id, 'at': at} if paused else {'id': experiment_id}
    if connection.execute(sql, parameters).rowcount == 0:
        return
    request = {
        'experiment_id': experiment_id,
        'unit_id': None,
        'verb': 'pause' if paused else 'resume',
        'message': '',
        'outcome': '',
        'actor': to_text(actor),
        'at': at,
    }
    id = connection.insert(_INSERT_REQUEST, request)
    finish_requests(connection, [id], at)


def set_importance(
    connection: Connection,
    units: Iterable[UnitRecord],
    importance: int,
    at: float,
    actor: str,
) -> list[UnitRecord]:
    """Writes it with the events that say so; units that have ended or have it already are left alone."""
    changed = [unit for unit in units if unit.is_active and unit.importance != importance]
    connection.executemany(
        'UPDATE units SET importance = :importance WHERE id = :id',
        [{'id': unit.id, 'importance': importance} for unit in changed],
    )
    rows = []
    for unit in changed:
        why = f'importance {importance_in_words(importance)}, was {importance_in_words(unit.importance)}'
        rows.append(event_row(unit.experiment_id, unit.id, at, actor, unit.state, unit.state, why))
    insert_events(connection, rows)
    return [attrs.evolve(unit, importance=importance) for unit in changed]


def delete_experiment(connection: Connection, experiment_id: int) -> None:
    """Units, tasks, events and requests go with it, by their foreign keys."""
    connection.execute('DELETE FROM experiments WHERE id = :id', {'id': experiment_id})


def identified_units(
    connection: Connection, experiment_id: int, units: Iterable[NewUnit]
) -> dict[str, int]:
    """Ids, by identity, of those units that the experiment has already."""
    sql = 'SELECT id FROM units WHERE experiment_id = :experiment_id AND identity = :identity'
    found = {}
    for identity in {unit.identity for unit in units if unit.identity}:
        parameters = {'experiment_id': experiment_id, 'identity': to_text(identity)}
        row = connection.execute(sql, parameters).fetchone()
        if row:
            found[identity] = row[0]
    return found


def insert_units(
    connection: Connection,
    experiment_id: int,
    units: Sequence[NewUnit],
    at: float,
    actor: str,
) -> list[int]:
    """Writes units with their tasks and first events; returns their ids, in order."""
    numbers = _next_numbers(connection, experiment_id, units)
    rows = [_unit_row(experiment_id, unit, numbers[place], at) for place, unit in enumerate(units)]
    connection.executemany(_INSERT_UNIT, rows)
    by_number = _ids_by_number(connection, experiment_id, units, numbers)
    ids = [by_number[unit.kind, number] for unit, number in zip(units, numbers, strict=True)]
    task_rows: list[dict[str, Any]] = []
    for id, unit, number in zip(ids, units, numbers, strict=True):
        task_rows += _task_rows(id, experiment_id, unit.kind, number, unit.tasks)
    connection.executemany(_INSERT_TASK, task_rows)
    insert_events(
        connection,
        [
            event_row(experiment_id, id, at, actor, '', unit.state, '')
            for id, unit in zip(ids, units, strict=True)
        ],
    )
    return ids


def insert_tasks(
    connection: Connection, unit: UnitRecord, tasks: Sequence[Task], backend: str
) -> None:
    """Gives tasks to a unit that was written without."""
    connection.execute(
        'UPDATE units SET backend = :backend WHERE id = :id', {'backend': backend, 'id': unit.id}
    )
    rows = _task_rows(unit.id, unit.experiment_id, unit.kind, unit.number, tasks)
    connection.executemany(_INSERT_TASK, rows)


def insert_events(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    connection.executemany(_INSERT_EVENT, rows)


def insert_requests(
    connection: Connection,
    experiment_id: int,
    unit_ids: Sequence[int] | None,
    *,
    verb: str,
    message: str,
    outcome: str,
    actor: str,
    at: float,
) -> None:
    shared = {
        'experiment_id': experiment_id,
        'verb': verb,
        'message': to_text(message),
        'outcome': outcome,
        'actor': to_text(actor),
        'at': at,
    }
    wanted: Sequence[int | None] = [None] if unit_ids is None else unit_ids
    connection.executemany(_INSERT_REQUEST, [{**shared, 'unit_id': id} for id in wanted])


def finish_requests(connection: Connection, ids: Iterable[int], at: float) -> None:
    sql = 'UPDATE requests SET finished_at = :at WHERE id = :id AND finished_at IS NULL'
    connection.executemany(sql, [{'id': id, 'at': at} for id in ids])


def _next_numbers(
    connection: Connection, experiment_id: int, units: Iterable[NewUnit]
) -> list[int]:
    sql = 'SELECT MAX(number) FROM units WHERE experiment_id = :experiment_id AND kind = :kind'
    last: dict[str, int] = {}
    numbers = []
    for unit in units:
        if unit.kind not in last:
            parameters = {'experiment_id': experiment_id, 'kind': unit.kind}
            last[unit.kind] = connection.execute(sql, parameters).fetchone()[0] or 0
        last[unit.kind] += 1
        numbers.append(last[unit.kind])
    return numbers


def _ids_by_number(
    connection: Connection,
    experiment_id: int,
    units: Iterable[NewUnit],
    numbers: Iterable[int],
) -> dict[tuple[str, int], int]:
    sql = """
        SELECT id, kind, number FROM units
        WHERE experiment_id = :experiment_id AND kind = :kind AND number >= :first
    """
    first: dict[str, int] = {}
    for unit, number in zip(units, numbers, strict=True):
        first.setdefault(unit.kind, number)
    found = {}
    for kind, number in first.items():
        parameters = {'experiment_id': experiment_id, 'kind': kind, 'first': number}
        found.update({(row[1], row[2]): row[0] for row in connection.execute(sql, parameters)})
    return found


def _unit_row(experiment_id: int, unit: NewUnit, number: int, at: float) -> dict[str, Any]:
    return {
        'experiment_id': experiment_id,
        'kind': unit.kind,
        'number': number,
        'state': unit.state,
        'identity': to_text(unit.identity) or None,
        'args': to_json(unit.args),
        'importance': unit.importance,
        'tags': to_json(unit.tags),
        'termination_delay': unit.termination_delay,
        'backend': unit.backend,
        'at': at,
        'queued_at': at if unit.state == QUEUED else None,
    }


def _task_rows(
    unit_id: int, experiment_id: int, kind: str, number: int, tasks: Sequence[Task]
) -> list[dict[str, Any]]:
    return [
        {
            'unit_id': unit_id,
            'position': position,
            'name': to_text(task.name),
            'full_name': to_text(full_name(experiment_id, kind, number, task.name)),
            'spec': spec_of(task),
        }
        for position, task in enumerate(tasks)
    ]


def event_row(
    experiment_id: int,
    unit_id: int,
    at: float,
    actor: str,
    from_state: str,
    to_state: str,
    why: str,
) -> dict[str, Any]:
    return {
        'experiment_id': experiment_id,
        'unit_id': unit_id,
        'at': at,
        'actor': to_text(actor),
        'from_state': from_state,
        'to_state': to_state,
        'why': to_text(why),
    }
