"""What leaves the store: frozen values, never rows, cursors or sessions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from xmanager.backend import Grant, Task, TaskObservation, Unit

CREATING: Final = 'creating'
QUEUED: Final = 'queued'
STARTING: Final = 'starting'
RUNNING: Final = 'running'
RESTARTING: Final = 'restarting'
COMPLETED: Final = 'completed'
FAILED: Final = 'failed'
STOPPED: Final = 'stopped'
LOST: Final = 'lost'

FINAL_STATES: Final = frozenset({COMPLETED, FAILED, STOPPED, LOST})
ACTIVE_STATES: Final = frozenset({CREATING, QUEUED, STARTING, RUNNING, RESTARTING})
STATES: Final = (CREATING, QUEUED, STARTING, RUNNING, RESTARTING, COMPLETED, FAILED, STOPPED, LOST)

WORK: Final = 'work'
AUXILIARY: Final = 'auxiliary'


def label_of(kind: str, number: int) -> str:
    """`'3'` for work unit 3, `'a1'` for auxiliary unit 1."""
    return f'a{number}' if kind == AUXILIARY else str(number)


@attrs.frozen
class NewExperiment:
    """What is known of an experiment when it is created; the store gives it an id and a time."""

    title: str
    user: str
    host: str
    script: str = ''
    argv: tuple[str, ...] = ()
    cwd: str = ''
    python: str = ''


@attrs.frozen
class ExperimentRecord:
    """One experiment; `counts` are its units by state; times are seconds since the epoch (None: not yet)."""

    id: int
    title: str
    user: str
    host: str
    script: str
    argv: tuple[str, ...]
    cwd: str
    python: str
    created_at: float
    folder: Path
    counts: Mapping[str, int] = attrs.field(factory=dict)
    ended_at: float | None = None
    paused_at: float | None = None

    @property
    def state(self) -> str:
        """`running` while a unit is active, else as well off as its worst unit; `empty` without units."""
        if not self.counts:
            return 'empty'
        if self.counts.keys() & ACTIVE_STATES:
            waiting = {CREATING, QUEUED, STARTING}
            return QUEUED if self.counts.keys() <= waiting else RUNNING
        return next(s for s in (LOST, FAILED, STOPPED, COMPLETED) if s in self.counts)


@attrs.frozen
class NewUnit:
    """A unit to be written: the store gives it a number (or returns the unit that has its `identity` already).

    Tasks' `full_name` is left empty here; it is derived from the number. A unit of a generator starts in
    `creating`, without tasks.
    """

    kind: str
    backend: str = ''
    tasks: tuple[Task, ...] = ()
    args: Mapping[str, Any] = attrs.field(factory=dict)
    identity: str = ''
    importance: int = 0
    tags: tuple[str, ...] = ()
    termination_delay: float | None = None
    state: str = QUEUED


@attrs.frozen
class TaskRecord:
    """A task and how it fared in the unit's last attempt. `message` says in words how it ended."""

    task: Task
    place: str
    state: str = ''
    exit_code: int | None = None
    signal: int | None = None
    message: str = ''
    started_at: float | None = None
    ended_at: float | None = None
    max_rss: int | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None

    @property
    def folder(self) -> Path:
        """Its folder; kept as text, for few of the units that are read are looked into."""
        return Path(self.place)


@attrs.frozen
class UnitRecord:
    """One unit of an experiment, as recorded. `id` is the store's own, `number` counts from 1 within its kind.

    `stopping` is set once a running unit was asked to end: the state to end in, and the message. `queued_at` is when it
    last became queued; `not_before` is when a restarting unit is due; `restarts` counts those that nobody asked for,
    since the last one that somebody did.
    """

    id: int
    experiment_id: int
    kind: str
    number: int
    state: str
    message: str
    identity: str
    args: Mapping[str, Any]
    importance: int
    tags: tuple[str, ...]
    termination_delay: float | None
    attempt: int
    backend: str
    reference: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    place: str
    home_id: str
    grant: Grant = attrs.field(factory=dict)
    stopping: tuple[str, str] | None = None
    tasks: tuple[TaskRecord, ...] = ()
    queued_at: float | None = None
    not_before: float | None = None
    restarts: int = 0

    @property
    def label(self) -> str:
        """`'3'` for work unit 3, `'a1'` for auxiliary unit 1."""
        return label_of(self.kind, self.number)

    @property
    def folder(self) -> Path:
        """Its folder, which holds those of its tasks."""
        return Path(self.place)

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES

    @property
    def key(self) -> str:
        """The idempotency key of this attempt."""
        return f'{self.home_id}.{self.experiment_id}.{self.label}.{self.attempt}'

    def as_unit(self) -> Unit:
        """The unit as its back end sees it."""
        return Unit(
            experiment_id=self.experiment_id,
            label=self.label,
            attempt=self.attempt,
            key=self.key,
            folder=self.folder,
            tasks=tuple(record.task for record in self.tasks),
            importance=self.importance,
        )


@attrs.frozen
class Standing:
    """Where a unit stands: the part of its record that moves read and change. `granted` and `stopping` are JSON."""

    id: int
    experiment_id: int
    kind: str
    number: int
    state: str
    message: str
    reference: str
    granted: str
    stopping: str | None
    attempt: int
    started_at: float | None
    ended_at: float | None
    queued_at: float | None
    not_before: float | None
    restarts: int

    @property
    def label(self) -> str:
        """As `UnitRecord.label`."""
        return label_of(self.kind, self.number)

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES


@attrs.frozen
class Change:
    """A move of one unit to `state`, to be written through the one door with the event that explains it.

    `expect` lists the states from which the move may be made (empty: any that the table of legal moves allows); a
    unit found in another state is left as it is. `tasks` are what became known of its tasks; `task_messages` say in
    words how each ended. `attempt`, if given, is the one that the change speaks of: a unit that is at another by now
    is left as it is. The move to `restarting` begins the next attempt by itself: what is said of tasks is not kept.
    `not_before` is when a restarting unit shall be queued again; `restarts` replaces the unit's count of restarts that
    nobody asked for.
    """

    unit_id: int
    state: str
    why: str = ''
    message: str | None = None
    reference: str | None = None
    attempt: int | None = None
    at: float | None = None
    grant: Grant | None = None
    stopping: tuple[str, str] | None = None
    expect: tuple[str, ...] = ()
    tasks: Mapping[str, TaskObservation] = attrs.field(factory=dict)
    task_messages: Mapping[str, str] = attrs.field(factory=dict)
    not_before: float | None = None
    restarts: int | None = None


@attrs.frozen
class Event:
    """One line of a unit's history: who moved it, when, from which state to which, and why.

    With both states alike it wasn't moved: something else of it was changed, such as its importance.
    """

    id: int
    unit_id: int
    at: float
    actor: str
    from_state: str
    to_state: str
    why: str


@attrs.frozen
class Request:
    """Something a reader asks of the supervisor: `stop` or `restart`, of one unit or (unit_id None) of all.

    `outcome` is the state that a stopped unit shall end in (`stopped`, `failed`, `completed`).
    """

    id: int
    experiment_id: int
    unit_id: int | None
    verb: str
    message: str
    outcome: str
    actor: str
    at: float
