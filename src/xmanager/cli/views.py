"""Records as JSON values under the schema `xmanager/1`, secrets masked. Pure; docs/reference/json.md tells each field.

A field is never renamed, removed or given another type within `xmanager/1`; new ones may come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from xmanager.cli import wording
from xmanager.store import masking

if TYPE_CHECKING:
    from xmanager.launch.findings import Finding
    from xmanager.store.values import Event, ExperimentRecord, TaskRecord, UnitRecord

SCHEMA: Final = 'xmanager/1'

View = dict[str, Any]


def document(**content: Any) -> View:
    """What a command prints: the name of the schema, then `content`."""
    return {'schema': SCHEMA, **content}


def experiment(record: ExperimentRecord, now: float) -> View:
    """An experiment without its units; `counts` says how many there are in which state."""
    return {
        'id': record.id,
        'title': record.title,
        'state': record.state,
        'counts': dict(record.counts),
        'user': record.user,
        'host': record.host,
        'script': record.script,
        'argv': list(masking.mask_argv(record.argv)),
        'cwd': record.cwd,
        'python': record.python,
        'created_at': time(record.created_at),
        'ended_at': time(record.ended_at),
        'paused_at': time(record.paused_at),
        'duration_seconds': wording.experiment_seconds(record, now),
        'folder': str(record.folder),
    }


def unit(record: UnitRecord, now: float) -> View:
    """A unit with its jobs."""
    return {
        'experiment_id': record.experiment_id,
        'unit': record.label,
        'kind': record.kind,
        'number': record.number,
        'state': record.state,
        'message': record.message,
        'identity': record.identity,
        'args': plain(masking.mask_values(record.args)),
        'importance': record.importance,
        'tags': list(record.tags),
        'attempt': record.attempt,
        'backend': record.backend,
        'reference': record.reference,
        'created_at': time(record.created_at),
        'started_at': time(record.started_at),
        'ended_at': time(record.ended_at),
        'duration_seconds': wording.elapsed(record.started_at, record.ended_at, now),
        'folder': str(record.folder),
        'jobs': [job(task, now) for task in record.tasks],
    }


def job(record: TaskRecord, now: float) -> View:
    """A job of a unit, and how it fared in the unit's last attempt."""
    task = record.task
    return {
        'name': task.name,
        'full_name': task.full_name,
        'argv': list(masking.mask_argv(task.argv)),
        'env': masking.mask_env(task.env, task.secrets),
        'cwd': task.cwd,
        'requirements': dict(task.requirements),
        'options': plain(masking.mask_values(task.options)),
        'executable': plain(masking.mask_values(task.executable)),
        'state': record.state,
        'exit_code': record.exit_code,
        'signal': record.signal,
        'message': record.message,
        'started_at': time(record.started_at),
        'ended_at': time(record.ended_at),
        'duration_seconds': wording.elapsed(record.started_at, record.ended_at, now),
        'max_rss_bytes': record.max_rss,
        'user_seconds': record.user_seconds,
        'system_seconds': record.system_seconds,
        'folder': str(record.folder),
        'log': str(record.folder / 'output.log'),
    }


def history(records: Iterable[Event]) -> list[View]:
    """The history of a unit, the oldest first."""
    return [
        {
            'at': time(event.at),
            'actor': event.actor,
            'from': event.from_state,
            'to': event.to_state,
            'why': event.why,
        }
        for event in records
    ]


def check(finding: Finding) -> View:
    """One line of `xmanager doctor`; the fields of `facts` depend on the topic."""
    return {
        'topic': finding.topic,
        'status': finding.status,
        'detail': finding.detail,
        'advice': finding.advice,
        'facts': plain(finding.facts),
    }


def time(at: float | None) -> str | None:
    """ISO 8601 in UTC, or None."""
    return None if at is None else wording.iso(at)


def plain(value: Any) -> Any:
    """`value` as JSON allows it: numbers that are not finite, and what JSON does not know, as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
