"""From what was observed of a unit's tasks to the unit's state, told in words."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from xmanager.backend import Observation, TaskObservation
from xmanager.store import (
    COMPLETED,
    FAILED,
    LOST,
    RUNNING,
    STARTING,
    UnitRecord,
    wording,
)

_TAIL_BYTES = 4096
_LINE_CHARACTERS = 300


@attrs.frozen
class Outcome:
    """A unit's final state, with the message for it and for each of its tasks."""

    state: str
    message: str
    task_messages: dict[str, str]


def has_ended(observation: Observation) -> bool:
    return all(task.state not in ('waiting', 'running') for task in observation.values())


def standing(observation: Observation) -> tuple[str, str, float | None]:
    """The state of a unit that an engine has taken, what there is to say of it, and since when it runs, if known."""
    tasks = observation.values()
    if all(task.state == 'waiting' for task in tasks):
        reason = next((task.reason for task in tasks if task.reason), '')
        return STARTING, f'waits: {reason}' if reason else '', None
    places = dict.fromkeys(task.where for task in tasks if task.where)
    starts = [task.started_at for task in tasks if task.started_at is not None]
    return RUNNING, f'on {", ".join(places)}' if places else '', min(starts, default=None)


def has_failed(task: TaskObservation) -> bool:
    return task.state == 'exited' and bool(task.exit_code or task.signal or task.reason)


def has_gone_wrong(task: TaskObservation) -> bool:
    """Whether a task has ended in a way that ends its siblings too."""
    return has_failed(task) or task.state == 'vanished'


def first_gone_wrong(observation: Observation) -> str:
    """The name of the task that went wrong first; '' if none did."""
    wrong = [(t.ended_at or 0.0, name) for name, t in observation.items() if has_gone_wrong(t)]
    return min(wrong)[1] if wrong else ''


def judge(unit: UnitRecord, observation: Observation, culprit: str = '') -> Outcome:
    """The outcome of a unit all of whose tasks have ended.

    A unit is as well off as its worst task. `culprit` is the task that went wrong first, if that is known already;
    the others may have been stopped because of it.
    """
    messages = {name: describe(task) for name, task in observation.items()}
    culprit = culprit or first_gone_wrong(observation)
    if not culprit:
        return Outcome(COMPLETED, '', messages)
    state = FAILED if has_failed(observation[culprit]) else LOST
    return Outcome(state, _blame(unit, culprit, messages[culprit]), messages)


def describe(task: TaskObservation) -> str:
    """How one task ended, in a few words; '' for success."""
    if task.reason:
        return task.reason
    if task.state == 'vanished':
        return 'ended, but nobody saw how (its processes are gone and left no exit code)'
    if task.signal:
        return f'was killed by {wording.signal_name(task.signal)}'
    if task.exit_code:
        return f'exited with code {task.exit_code}'
    return ''


def _blame(unit: UnitRecord, name: str, message: str) -> str:
    record = next((task for task in unit.tasks if task.task.name == name), None)
    line = last_line(record.folder / 'output.log') if record else ''
    sentence = f'job {name} {message}'
    return f'{sentence}: {line}' if line else sentence


def last_line(path: Path) -> str:
    """The last line of a log that is not blank, shortened; '' if there is none."""
    try:
        with path.open('rb') as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode('utf-8', 'replace').splitlines()
    except (
        OSError
    ):  # The log may be deleted while its unit runs; then there is no last line to tell.
        return ''
    text = next((line.strip() for line in reversed(lines) if line.strip()), '')
    return text if len(text) <= _LINE_CHARACTERS else text[:_LINE_CHARACTERS] + '…'
