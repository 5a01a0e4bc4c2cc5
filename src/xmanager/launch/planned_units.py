"""Units that are only planned: they complete as soon as their jobs are known, unless they are stopped."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

import attrs

from xmanager.errors import (
    ExecutorError,
    ExperimentUnitError,
    ExperimentUnitFailedError,
    ExperimentUnitNotCompletedError,
)
from xmanager.launch.units import IMPORTANCE, RecordedJob, RecordedStatus
from xmanager.store import COMPLETED, CREATING, FAILED, STOPPED, Home
from xmanager.xm.experiment_unit import AuxiliaryUnit, ExperimentUnit, WorkUnit
from xmanager.xm.jobs import JobType, LaunchedJob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xmanager.backend import Task
    from xmanager.launch.planned import PlannedExperiment
    from xmanager.xm.roles import ExperimentUnitRole


@attrs.define
class _Life:
    """What all references to one unit share."""

    backend: str = ''
    tasks: tuple[Task, ...] = ()
    demand: Mapping[str, Mapping[str, float]] = attrs.field(factory=dict)
    state: str = CREATING
    message: str = ''
    error: BaseException | None = None


class PlannedUnit(ExperimentUnit):
    """What planned work units and planned auxiliary units share."""

    experiment: PlannedExperiment

    def __init__(
        self,
        experiment: PlannedExperiment,
        number: int,
        args: Mapping[str, Any],
        role: ExperimentUnitRole,
        identity: str,
    ) -> None:
        super().__init__(experiment, number, args, role, identity)
        self._life = _Life()
        self._is_new = True

    @property
    def label(self) -> str:
        """`3` for work unit 3, `a1` for auxiliary unit 1."""
        return f'{"a" if isinstance(self, AuxiliaryUnit) else ""}{self._number}'

    @property
    def importance(self) -> int:
        """As back ends count it: the larger, the more important."""
        return IMPORTANCE[self._role.importance]

    @property
    def backend(self) -> str:
        return self._life.backend

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The jobs as the back end would get them."""
        return self._life.tasks

    @property
    def demand(self) -> Mapping[str, Mapping[str, float]]:
        """What each job, by name, would take of what the back end has."""
        return self._life.demand

    @property
    def jobs(self) -> tuple[RecordedJob, ...]:
        """The jobs as if they had run; there is nothing in their folders."""
        folder = Home.locate().unit_folder(self.experiment_id, self.label)
        return tuple(
            RecordedJob(
                name=task.name,
                argv=task.argv,
                output_dir=folder / task.name / 'out',
                log_path=folder / task.name / 'output.log',
                exit_code=None,
                signal=None,
                started_at=None,
                ended_at=None,
            )
            for task in self.tasks
        )

    @property
    def launched_jobs(self) -> list[LaunchedJob]:
        return [LaunchedJob(name=self.get_full_job_name(task.name)) for task in self.tasks]

    def get_status(self) -> RecordedStatus:
        return RecordedStatus(self._life.state, self._life.message)

    def stop(
        self,
        *,
        mark_as_failed: bool = False,
        mark_as_completed: bool = False,
        message: str | None = None,
    ) -> None:
        if mark_as_failed and mark_as_completed:
            raise ValueError('stop(): mark_as_failed and mark_as_completed exclude each other.')
        if self._life.state == CREATING:
            self._life.state = (
                FAILED if mark_as_failed else COMPLETED if mark_as_completed else STOPPED
            )
            self._life.message = message or ''

    # What the experiment says.

    def found_again(self) -> Self:
        """This unit for a generator that is run for it again: what it adds is there already."""
        again = copy.copy(self)
        again._nested = []
        again._is_new = False
        return again

    def take(self, backend: str, tasks: tuple[Task, ...]) -> None:
        """Adds jobs. Raises ExecutorError if those that it has are of another back end."""
        life = self._life
        if life.tasks and backend != life.backend:
            raise ExecutorError(
                f'The jobs of one unit must run on one back end; these ask for {life.backend} and {backend}. '
                'Add them as units of their own.'
            )
        life.backend = backend
        life.tasks += tasks

    def complete(self) -> None:
        """All its jobs are known."""
        life = self._life
        if life.state == CREATING:
            life.state = COMPLETED
        life.demand = self.experiment.demand(life.backend, life.tasks)

    def fail(self, error: BaseException) -> None:
        """Its generator has raised."""
        if self._is_new and self._life.state == CREATING:
            self._life.state, self._life.error = FAILED, error
            self._life.message = str(error)

    async def _launch(self, job: JobType) -> None:
        if self._is_new:
            self.take(*self.experiment.resolve_for(job, self._role, self.tasks))

    async def _wait(self) -> None:
        state, name = self._life.state, f'unit {self.label}'
        message = f': {self._life.message}' if self._life.message else ''
        if self._life.error is not None:
            raise ExperimentUnitError(
                f'{name} could not be created{message}', work_unit=self
            ) from self._life.error
        if state == FAILED:
            raise ExperimentUnitFailedError(f'{name} failed{message}', work_unit=self)
        if state == STOPPED:
            raise ExperimentUnitNotCompletedError(f'{name} was stopped{message}', work_unit=self)


class PlannedWorkUnit(PlannedUnit, WorkUnit):
    """A work unit that is only planned."""


class PlannedAuxiliaryUnit(PlannedUnit, AuxiliaryUnit):
    """An auxiliary unit that is only planned."""
