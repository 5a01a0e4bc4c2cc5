"""The write side: every INSERT, UPDATE and DELETE of the store. Functions take an open write transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from xmanager.backend import Task
from xmanager.store.rows import full_name, spec_of, to_json, to_text
from xmanager.store.values import NewExperiment, NewUnit, UnitRecord

_INSERT_EXPERIMENT: Final = """
    INSERT INTO experiments (title, user_name, host, script, argv, cwd, python, created_at)
    VALUES (:title, :user, :host, :script, :argv, :cwd, :python, :at)
"""
_INSERT_UNIT: Final = """
    INSERT INTO units (experiment_id, kind, number, state, message, identity, args, importance, tags,
                       termination_delay, attempt, backend, reference, granted, created_at)
    VALUES (:experiment_id, :kind, :number, :state, '', :identity, :args, :importance, :tags,
            :termination_delay, 1, :backend, '', '{}', :at)
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


def insert_experiment(connection: sqlite3.Connection, new: NewExperiment, at: float) -> int:
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
    id = connection.execute(_INSERT_EXPERIMENT, parameters).lastrowid
    assert id is not None
    return id


def delete_experiment(connection: sqlite3.Connection, experiment_id: int) -> None:
    """Units, tasks, events and requests go with it, by their foreign keys."""
    connection.execute('DELETE FROM experiments WHERE id = :id', {'id': experiment_id})


def identified_units(
    connection: sqlite3.Connection, experiment_id: int, units: Iterable[NewUnit]
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
    connection: sqlite3.Connection,
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
    connection: sqlite3.Connection, unit: UnitRecord, tasks: Sequence[Task], backend: str
) -> None:
    """Gives tasks to a unit that was written without."""
    connection.execute(
        'UPDATE units SET backend = :backend WHERE id = :id', {'backend': backend, 'id': unit.id}
    )
    rows = _task_rows(unit.id, unit.experiment_id, unit.kind, unit.number, tasks)
    connection.executemany(_INSERT_TASK, rows)


def insert_events(connection: sqlite3.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    connection.executemany(_INSERT_EVENT, rows)


def insert_requests(
    connection: sqlite3.Connection,
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


def finish_requests(connection: sqlite3.Connection, ids: Iterable[int], at: float) -> None:
    sql = 'UPDATE requests SET finished_at = :at WHERE id = :id AND finished_at IS NULL'
    connection.executemany(sql, [{'id': id, 'at': at} for id in ids])


def _next_numbers(
    connection: sqlite3.Connection, experiment_id: int, units: Iterable[NewUnit]
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
    connection: sqlite3.Connection,
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
