"""Units that launch nothing: they complete as soon as their jobs are known, unless they are stopped."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import attrs

from xmanager.errors import (
    ExperimentUnitError,
    ExperimentUnitFailedError,
    ExperimentUnitNotCompletedError,
)
from xmanager.xm.apply_args import shown_args
from xmanager.xm.experiment_unit import AuxiliaryUnit, ExperimentUnit, WorkUnit
from xmanager.xm.job_operators import flatten_jobs, populate_job_names
from xmanager.xm.jobs import Job, JobGroup, JobType, LaunchedJob
from xmanager.xm.roles import ExperimentUnitRole
from xmanager.xm.status import ExperimentUnitStatus
from xmanager.xm_mock.context import MockMetadataContext

if TYPE_CHECKING:
    from xmanager.xm_mock.experiment import MockExperiment


@attrs.frozen
class MockStatus(ExperimentUnitStatus):
    """How a unit ended; all three flags are False for one that was stopped."""

    is_active: bool = False
    is_completed: bool = False
    is_failed: bool = False
    message: str = ''


@attrs.define
class _Life:
    """What all references to one unit share."""

    jobs: list[Job] = attrs.field(factory=list)
    status: MockStatus = MockStatus(is_active=True)
    creation_error: BaseException | None = None


class MockExperimentUnit(ExperimentUnit):
    """What mock work units and mock auxiliary units share."""

    experiment: MockExperiment

    def __init__(
        self,
        experiment: MockExperiment,
        number: int,
        args: Mapping[str, Any] | None,
        role: ExperimentUnitRole,
        identity: str = '',
    ) -> None:
        super().__init__(experiment, number, args, role, identity)
        self._context = MockMetadataContext()
        self._life = _Life()
        self._is_new = True

    def _found_again(self) -> Self:
        """This unit for a generator that is run for it again: what it adds is launched already."""
        again = copy.copy(self)
        again._nested = []
        again._is_new = False
        return again

    @property
    def launched_jobs(self) -> list[LaunchedJob]:
        return [LaunchedJob(name=self.get_full_job_name(job.name)) for job in self._life.jobs]

    async def _launch(self, job: JobType) -> None:
        if self._is_new:
            self._record(job, self._args or shown_args(job, None))

    def _record(self, job: JobType, args: Mapping[str, Any]) -> None:
        populate_job_names(job)
        self.experiment.launched_jobs += job.jobs.values() if isinstance(job, JobGroup) else [job]
        self.experiment.launched_jobs_args.append(args)
        if isinstance(job, Job | JobGroup):
            self._life.jobs += flatten_jobs(job)

    def _complete(self) -> None:
        if self._life.status.is_active:
            self._life.status = MockStatus(is_completed=True)

    def _fail_to_create(self, error: BaseException) -> None:
        self._life.creation_error = error
        self._life.status = MockStatus(is_failed=True, message=str(error))

    def stop(
        self,
        *,
        mark_as_failed: bool = False,
        mark_as_completed: bool = False,
        message: str | None = None,
    ) -> None:
        """Ends the unit; unlike a real one, also after it has completed, so that tests can make units fail."""
        if mark_as_failed and mark_as_completed:
            raise ValueError('stop(): mark_as_failed and mark_as_completed exclude each other.')
        self._life.status = MockStatus(
            is_failed=mark_as_failed, is_completed=mark_as_completed, message=message or ''
        )

    def get_status(self) -> MockStatus:
        return self._life.status

    async def _wait(self) -> None:
        status, name = self._life.status, f'unit {self.experiment_unit_name}'
        unit = self if isinstance(self, WorkUnit) else None
        if self._life.creation_error is not None:
            raise ExperimentUnitError(
                f'{name} could not be created: {status.message}', work_unit=unit
            ) from self._life.creation_error
        if status.is_failed:
            raise ExperimentUnitFailedError(f'{name} failed: {status.message}', work_unit=unit)
        if not (status.is_active or status.is_completed):
            raise ExperimentUnitNotCompletedError(
                f'{name} was stopped: {status.message}', work_unit=unit
            )


class MockWorkUnit(MockExperimentUnit, WorkUnit):
    """A work unit that launches nothing."""


class MockAuxiliaryUnit(MockExperimentUnit, AuxiliaryUnit):
    """An auxiliary unit that launches nothing."""
