"""Rows to values and back: JSON columns, text that any database takes, and the order of the columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from xmanager.backend import Grant, Task
from xmanager.store.home import Home
from xmanager.store.values import (
    WORK,
    Event,
    ExperimentRecord,
    Request,
    TaskRecord,
    UnitRecord,
    label_of,
)

Row = tuple[Any, ...]
"""A row as a database driver gives it: the columns below, in their order."""

EXPERIMENT_COLUMNS: Final = (
    'id, title, user_name, host, script, argv, cwd, python, created_at, paused_at'
)
UNIT_COLUMNS: Final = (
    'id, experiment_id, kind, number, state, message, identity, args, importance, tags, '
    'termination_delay, attempt, backend, reference, granted, stopping, created_at, started_at, ended_at, '
    'queued_at, not_before, restarts'
)
STANDING_COLUMNS: Final = (
    'id, experiment_id, kind, number, state, message, reference, granted, stopping, attempt, '
    'started_at, ended_at, queued_at, not_before, restarts'
)
TASK_COLUMNS: Final = (
    'unit_id, name, full_name, spec, state, exit_code, exit_signal, message, '
    'started_at, ended_at, max_rss, user_seconds, system_seconds'
)
EVENT_COLUMNS: Final = 'id, unit_id, at, actor, from_state, to_state, why'
REQUEST_COLUMNS: Final = 'id, experiment_id, unit_id, verb, message, outcome, actor, at'


NO_GRANT: Final = '{}'
"""As `to_json` writes it."""


def to_json(value: Any) -> str:
    """Any value as JSON. What JSON doesn't have becomes the text that a flag would show; keys become text."""
    try:
        return _ENCODER.encode(value)
    except TypeError:  # A key that is neither text nor number.
        return _ENCODER.encode(_with_text_keys(value))


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(item) for item in value]
    return value


def _replacement(value: Any) -> Any:
    import enum
    import numbers

    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, numbers.Integral):  # NumPy's scalars, mostly.
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return str(value)


_ENCODER: Final = json.JSONEncoder(separators=(',', ':'), default=_replacement)


_decode: Final = json.JSONDecoder().raw_decode


def from_json(column: str) -> Any:
    """The value of a JSON column, which the store wrote: `json.loads` without its care for strangers' text."""
    return _decode(column)[0]


def to_text(value: str) -> str:
    """Text for a column: what isn't Unicode (a file name of stray bytes) or is NUL is shown escaped."""
    return value.encode('utf-8', 'backslashreplace').decode('utf-8').replace('\0', r'\x00')


def spec_of(task: Task) -> str:
    """All of a task but its names, as JSON (whose escapes keep stray bytes in file names as they are)."""
    return _ENCODER.encode(
        {
            'argv': task.argv,
            'cwd': task.cwd,
            'env': task.env,
            'secrets': task.secrets,
            'requirements': task.requirements,
            'options': task.options,
            'executable': task.executable,
        }
    )


def executable_of(spec: str) -> Mapping[str, Any]:
    """What was packaged, out of what `spec_of` wrote."""
    executable: Mapping[str, Any] = from_json(spec)['executable']
    return executable


def full_name(experiment_id: int, kind: str, number: int, task_name: str) -> str:
    return f'{experiment_id}_{number if kind == WORK else "auxiliary"}_{task_name}'


def experiment_from(
    row: Row, folder: Path, counts: Mapping[str, int], ended_at: float | None
) -> ExperimentRecord:
    """`folder` is the one of all experiments."""
    id, title, user, host, script, argv, cwd, python, created_at, paused_at = row
    return ExperimentRecord(
        id=id,
        title=title,
        user=user,
        host=host,
        script=script,
        argv=tuple(from_json(argv)),
        cwd=cwd,
        python=python,
        created_at=created_at,
        folder=folder / str(id),
        counts=counts,
        ended_at=ended_at,
        paused_at=paused_at,
    )


def units_from(
    rows: Sequence[Row], home: Home, home_id: str, task_rows: Mapping[int, Sequence[Row]]
) -> list[UnitRecord]:
    """The units of these rows, in order; `task_rows` are the rows of their tasks by unit id."""
    folders: dict[int, str] = {}
    units = []
    for row in rows:
        experiment_id = row[1]
        if experiment_id not in folders:
            folders[experiment_id] = str(home.experiment_folder(experiment_id))
        folder = f'{folders[experiment_id]}/{label_of(row[2], row[3])}'
        units.append(_unit_from(row, folder, home_id, task_rows.get(row[0], ())))
    return units


def _unit_from(row: Row, folder: str, home_id: str, task_rows: Sequence[Row]) -> UnitRecord:
    (id, experiment_id, kind, number, state, message, identity, args, importance, tags) = row[:10]
    (termination_delay, attempt, backend, reference, granted, stopping) = row[10:16]
    (created_at, started_at, ended_at, queued_at, not_before, restarts) = row[16:]
    return UnitRecord(
        id=id,
        experiment_id=experiment_id,
        kind=kind,
        number=number,
        state=state,
        message=message,
        identity=identity or '',
        args=from_json(args),
        importance=importance,
        tags=tuple(from_json(tags)),
        termination_delay=termination_delay,
        attempt=attempt,
        backend=backend,
        reference=reference,
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        place=folder,
        home_id=home_id,
        grant=_grant_from(granted),
        stopping=None if stopping is None else tuple(from_json(stopping)),
        tasks=tuple(_task_from(task_row, folder) for task_row in task_rows),
        queued_at=queued_at,
        not_before=not_before,
        restarts=restarts,
    )


def _grant_from(column: str) -> Grant:
    if column == NO_GRANT:
        return {}
    return {
        task: {resource: tuple(devices) for resource, devices in resources.items()}
        for task, resources in from_json(column).items()
    }


def _task_from(row: Row, unit_folder: str) -> TaskRecord:
    (_, name, full_name, spec, state, exit_code, exit_signal, message) = row[:8]
    (started_at, ended_at, max_rss, user_seconds, system_seconds) = row[8:]
    stated = from_json(spec)
    stated['argv'] = tuple(stated['argv'])
    return TaskRecord(
        task=Task(name=name, full_name=full_name, **stated),
        place=f'{unit_folder}/{name}',
        state=state,
        exit_code=exit_code,
        signal=exit_signal,
        message=message,
        started_at=started_at,
        ended_at=ended_at,
        max_rss=max_rss,
        user_seconds=user_seconds,
        system_seconds=system_seconds,
    )


def event_from(row: Row) -> Event:
    return Event(*row)


def request_from(row: Row) -> Request:
    return Request(*row)
