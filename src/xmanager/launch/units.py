"""Units as the script sees them, over what the store has recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from xmanager.errors import (
    ExecutorError,
    ExperimentUnitError,
    ExperimentUnitFailedError,
    ExperimentUnitNotCompletedError,
)
from xmanager.store import (
    COMPLETED,
    CREATING,
    FAILED,
    LOST,
    QUEUED,
    STOPPED,
    TaskRecord,
    UnitRecord,
)
from xmanager.xm.experiment_unit import AuxiliaryUnit, ExperimentUnit, WorkUnit, current_unit
from xmanager.xm.jobs import JobType, LaunchedJob
from xmanager.xm.roles import (
    AuxiliaryUnitRole,
    ExperimentUnitRole,
    Importance,
    WorkUnitRole,
)
from xmanager.xm.status import ExperimentUnitStatus

if TYPE_CHECKING:
    from xmanager.backend import Task
    from xmanager.launch.experiment import RecordedExperiment

IMPORTANCE = {Importance.HIGH: 1, Importance.NORMAL: 0, Importance.LOW: -1}


@attrs.frozen
class RecordedStatus(ExperimentUnitStatus):
    """A unit's status at the moment when it was asked for. `state` is the recorded state."""

    state: str
    message: str

    @property
    def is_active(self) -> bool:
        return self.state not in (COMPLETED, FAILED, STOPPED, LOST)

    @property
    def is_completed(self) -> bool:
        return self.state == COMPLETED

    @property
    def is_failed(self) -> bool:
        return self.state == FAILED


@attrs.frozen
class RecordedJob:
    """One job of a unit: what ran and how it ended. Times are seconds since the epoch; None: not (yet) known."""

    name: str
    argv: tuple[str, ...]
    output_dir: Path
    log_path: Path
    exit_code: int | None
    signal: int | None
    started_at: float | None
    ended_at: float | None

    @classmethod
    def of(cls, record: TaskRecord) -> RecordedJob:
        return cls(
            name=record.task.name,
            argv=record.task.argv,
            output_dir=record.folder / 'out',
            log_path=record.folder / 'output.log',
            exit_code=record.exit_code,
            signal=record.signal,
            started_at=record.started_at,
            ended_at=record.ended_at,
        )


class RecordedUnit(ExperimentUnit):
    """What work units and auxiliary units of a recorded experiment share."""

    experiment: RecordedExperiment
    _unit_id: int
    _is_new: bool
    _gathered: list[tuple[str, tuple[Task, ...]]]

    @classmethod
    def of(cls, experiment: RecordedExperiment, record: UnitRecord, is_new: bool) -> RecordedUnit:
        kind = RecordedWorkUnit if record.kind == 'work' else RecordedAuxiliaryUnit
        unit = kind(experiment, record.number, record.args, _role(record), record.identity)
        unit._unit_id = record.id
        unit._is_new = is_new
        unit._gathered = []
        return unit

    @property
    def record(self) -> UnitRecord:
        """All that is recorded of the unit, read afresh."""
        return self.experiment.store.unit(self._unit_id)

    @property
    def jobs(self) -> tuple[RecordedJob, ...]:
        """The jobs of this unit, read afresh."""
        return tuple(RecordedJob.of(task) for task in self.record.tasks)

    @property
    def launched_jobs(self) -> list[LaunchedJob]:
        return [
            LaunchedJob(name=task.task.full_name, logs=str(task.folder / 'output.log'))
            for task in self.record.tasks
        ]

    def get_status(self) -> RecordedStatus:
        record = self.record
        return RecordedStatus(record.state, record.message)

    def stop(
        self,
        *,
        mark_as_failed: bool = False,
        mark_as_completed: bool = False,
        message: str | None = None,
    ) -> None:
        if mark_as_failed and mark_as_completed:
            raise ValueError('stop(): mark_as_failed and mark_as_completed exclude each other.')
        outcome = FAILED if mark_as_failed else COMPLETED if mark_as_completed else STOPPED
        self.experiment.request_stop([self._unit_id], message or '', outcome)

    async def _launch(self, job: JobType) -> None:
        if not self._is_new:  # Added if absent, and it was there: its jobs run or ran already.
            return
        if self.record.state != CREATING:
            raise ExperimentUnitError(
                f'unit {self.record.label} has left its generator: add all its jobs before the generator returns '
                'or waits for the unit.'
            )
        beside = [task for _, tasks in self._gathered for task in tasks]
        backend, tasks = self.experiment.resolve_for(job, self._role, beside)
        if self._gathered and (other := self._gathered[0][0]) != backend:
            raise ExecutorError(
                f'The jobs of one unit must run on one back end; these ask for {other} and {backend}. '
                'Add them as units of their own.'
            )
        self._gathered.append((backend, tasks))

    async def commit(self, error: BaseException | None = None) -> None:
        """Hands over what the generator has added; the unit can be started from now on. Repeating it does nothing."""
        if not self._is_new or self.record.state != CREATING:
            return
        tasks = [task for _, group in self._gathered for task in group]
        backends = {backend for backend, _ in self._gathered}
        state, message = (QUEUED if tasks else COMPLETED), ''
        if isinstance(error, asyncio.CancelledError):
            state, message, tasks = STOPPED, 'its job generator was cancelled', []
        elif error is not None:
            state, message, tasks = FAILED, f'its job generator raised {_told(error)}', []
        self.experiment.store.set_tasks(
            self._unit_id,
            tasks,
            backends.pop() if backends else '',
            state=state,
            actor='launcher',
            message=message,
        )
        self.experiment.wake()

    async def _wait(self) -> None:
        if current_unit() is self:  # Its own generator waits for it: nothing more can be added.
            await self.commit()
        record = await self.experiment.ended(self._unit_id)
        self.experiment.note(self._unit_id)
        if record.state == COMPLETED:
            return
        raise error_of(self)


class RecordedWorkUnit(RecordedUnit, WorkUnit):
    """A work unit of a recorded experiment."""


class RecordedAuxiliaryUnit(RecordedUnit, AuxiliaryUnit):
    """An auxiliary unit of a recorded experiment."""


def error_of(unit: RecordedUnit) -> ExperimentUnitError:
    """The error that tells of a unit's end other than completion."""
    record = unit.record
    name = f'unit {record.label} of experiment {record.experiment_id}'
    message = f': {record.message}' if record.message else ''
    if record.state == FAILED and not record.tasks:
        return ExperimentUnitError(f'{name} could not be created{message}', work_unit=unit)
    if record.state == FAILED:
        return ExperimentUnitFailedError(f'{name} failed{message}', work_unit=unit)
    was = 'was stopped' if record.state == STOPPED else f'is {record.state}'
    return ExperimentUnitNotCompletedError(f'{name} {was}{message}', work_unit=unit)


def _told(error: BaseException) -> str:
    return f'{type(error).__name__}: {error}' if str(error) else type(error).__name__


def _role(record: UnitRecord) -> ExperimentUnitRole:
    importance = next(i for i, number in IMPORTANCE.items() if number == record.importance)
    if record.kind == 'work':
        return WorkUnitRole(importance=importance, tags=record.tags)
    return AuxiliaryUnitRole(
        importance=importance, termination_delay_secs=record.termination_delay or 0.0
    )


def new_unit_facts(role: ExperimentUnitRole) -> dict[str, Any]:
    """The fields of a NewUnit that follow from its role."""
    facts: dict[str, Any] = {'kind': 'work', 'importance': IMPORTANCE[role.importance]}
    if isinstance(role, AuxiliaryUnitRole):
        return facts | {
            'kind': 'auxiliary',
            'termination_delay': float(role.termination_delay_secs),
        }
    return facts | {'tags': tuple(getattr(role, 'tags', ()))}
