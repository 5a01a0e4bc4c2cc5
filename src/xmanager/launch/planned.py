"""An experiment that is only planned: its jobs are resolved and checked as for a launch, and nothing is recorded."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from xmanager.backend import Task
from xmanager.launch import settings
from xmanager.launch.planned_units import PlannedAuxiliaryUnit, PlannedUnit, PlannedWorkUnit
from xmanager.launch.planning import Planning
from xmanager.launch.resolve import recorded
from xmanager.launch.resolving import ResolvingExperiment
from xmanager.launch.session import Session
from xmanager.store import Home
from xmanager.xm.experiment_unit import ExperimentUnit
from xmanager.xm.jobs import JobType
from xmanager.xm.roles import AuxiliaryUnitRole, ExperimentUnitRole

PLANNED_ID = 0
"""The number of every planned experiment: experiments that are recorded count from 1."""


class PlannedExperiment(ResolvingExperiment):
    """What `create_experiment` returns in a dry run, and for `xmanager package`.

    Takes whatever a real one takes, and raises for what that would refuse. Its number is 0. Units have completed as
    soon as their jobs are known, unless they were stopped; so whoever awaits one goes on at once.
    """

    def __init__(self, planning: Planning, title: str) -> None:
        super().__init__()
        self.planning = planning
        self._title = title
        self._units: list[PlannedUnit] = []
        self._ledger: tempfile.TemporaryDirectory[str] | None = None
        self.context.annotations.set_title(title)
        planning.experiments.append(self)

    @property
    def experiment_id(self) -> int:
        """Always 0."""
        return PLANNED_ID

    @property
    def title(self) -> str:
        return self._title

    @property
    def units(self) -> Sequence[PlannedUnit]:
        """All units, in the order in which they were added."""
        return self._units

    @property
    def work_units(self) -> Mapping[int, PlannedWorkUnit]:
        return {
            unit.work_unit_id: unit for unit in self._units if isinstance(unit, PlannedWorkUnit)
        }

    # Adding.

    def resolve_for(
        self, job: JobType, role: ExperimentUnitRole, beside: Sequence[Task] = ()
    ) -> tuple[str, tuple[Task, ...]]:
        if not self.planning.dry_run:  # Executables are packaged, and jobs are of no interest.
            return '', ()
        return super().resolve_for(job, role, beside)

    def _check(self, backend: str, tasks: Sequence[Task]) -> None:
        kept = Home.locate().path
        super()._check(backend, [_as_if_packaged(task, kept) for task in tasks])

    def demand(self, backend: str, tasks: Sequence[Task]) -> Mapping[str, Mapping[str, float]]:
        """What each job of a unit, by name, would take of what the back end has."""
        return self._backend(backend).demand(tasks) if tasks else {}

    def _environ(self) -> Mapping[str, str]:
        """A back end makes the ledger of its host; here it gets one to make that goes away with the context."""
        assert self._ledger is not None
        return {**super()._environ(), 'XM_LOCAL_LEDGER': self._ledger.name}

    async def _create_unit(
        self,
        job: tuple[str, tuple[Task, ...]] | None,
        args: Mapping[str, Any],
        role: ExperimentUnitRole,
        identity: str,
    ) -> tuple[ExperimentUnit, bool]:
        kind = PlannedAuxiliaryUnit if isinstance(role, AuxiliaryUnitRole) else PlannedWorkUnit
        alike = [unit for unit in self._units if isinstance(unit, kind)]
        existing = next((unit for unit in alike if identity and unit.identity == identity), None)
        if existing is not None:
            return existing.found_again(), False
        unit = kind(self, len(alike) + 1, recorded(args), role, identity)
        self._units.append(unit)
        if job is not None:
            unit.take(*job)
            unit.complete()
        return unit, True

    async def _generator_ended(self, unit: ExperimentUnit, error: BaseException | None) -> None:
        assert isinstance(unit, PlannedUnit)
        if error is None:
            unit.complete()
        elif not isinstance(error, asyncio.CancelledError):
            unit.fail(error)

    # The context.

    def _entered(self) -> None:
        settings.export(os.environ)
        self._ledger = tempfile.TemporaryDirectory(prefix='xmanager-plan-')
        Session.any_entered = True

    async def _finish(self, error: BaseException | None) -> list[Exception]:
        if error is None and self.planning.shows:
            from xmanager.launch import plan_text

            plan_text.show(self.planning.taken(self))
        return []

    def _left(self) -> None:
        self._backends.clear()
        if self._ledger is not None:
            self._ledger.cleanup()
            self._ledger = None


def _as_if_packaged(task: Task, kept: Path) -> Task:
    """The task with an image or a folder in place of one that packaging would make."""
    if 'plan' not in task.executable:
        return task
    if task.executable.get('kind') == 'image':
        return attrs.evolve(task, executable={**task.executable, 'image': task.image or task.name})
    if Path(task.cwd).is_relative_to(kept):
        return attrs.evolve(task, cwd=os.sep)
    return task
