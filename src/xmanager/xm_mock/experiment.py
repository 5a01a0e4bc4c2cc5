"""An experiment that keeps in memory what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from xmanager.xm.eager import running_loop
from xmanager.xm.executables import Executable
from xmanager.xm.experiment import Experiment
from xmanager.xm.experiment_unit import ExperimentUnit
from xmanager.xm.jobs import JobType
from xmanager.xm.packageables import Packageable
from xmanager.xm.roles import AuxiliaryUnitRole, ExperimentUnitRole
from xmanager.xm_mock.context import MockMetadataContext
from xmanager.xm_mock.executables import MockExecutable
from xmanager.xm_mock.units import MockAuxiliaryUnit, MockExperimentUnit, MockWorkUnit


class MockExperiment(Experiment):
    """Takes whatever a real experiment takes, and launches nothing.

    `launched_jobs` are the jobs as they would be launched, named and with all arguments applied; of a group, its
    direct members. `launched_jobs_args` has one entry a launch: the arguments as a unit shows them; for what a
    generator adds, the generator's own arguments or, if it has none, the job's.
    """

    _context: MockMetadataContext

    def __init__(self) -> None:
        super().__init__()
        self.launched_jobs: list[Any] = []  # Of JobType; a test knows which it added.
        self.launched_jobs_args: list[Mapping[str, Any]] = []
        self._context = MockMetadataContext()
        self._work_units: dict[int, MockWorkUnit] = {}
        self._auxiliary_units: list[MockAuxiliaryUnit] = []

    @property
    def experiment_id(self) -> int:
        """Always 1."""
        return 1

    @property
    def context(self) -> MockMetadataContext:
        return self._context

    @property
    def work_units(self) -> Mapping[int, MockWorkUnit]:
        """The work units by id, those just added included."""
        self._let_additions_start()
        return self._work_units

    @property
    def auxiliary_units(self) -> list[MockAuxiliaryUnit]:
        """The auxiliary units, those just added included."""
        self._let_additions_start()
        return self._auxiliary_units

    def _let_additions_start(self) -> None:
        """Returns when the loop's thread has made the units of all calls so far."""
        if self._thread is not None and running_loop() is not self._loop:
            self._thread.call(asyncio.sleep(0)).result()

    @classmethod
    def _package(cls, packageables: Sequence[Packageable]) -> list[Executable]:
        return [MockExecutable() for _ in packageables]

    async def _create_unit(
        self,
        job: JobType | None,
        args: Mapping[str, Any],
        role: ExperimentUnitRole,
        identity: str,
    ) -> tuple[ExperimentUnit, bool]:
        if (existing := self._find(role, identity)) is not None:
            return (existing._found_again() if job is None else existing), False
        unit = self._new_unit(args, role, identity)
        if job is not None:
            unit._record(job, args)
            unit._complete()
        return unit, True

    def _find(self, role: ExperimentUnitRole, identity: str) -> MockExperimentUnit | None:
        of_role: Sequence[MockExperimentUnit] = (
            self._auxiliary_units
            if isinstance(role, AuxiliaryUnitRole)
            else tuple(self._work_units.values())
        )
        found = (unit for unit in of_role if unit.identity == identity)
        return next(found, None) if identity else None

    def _new_unit(
        self, args: Mapping[str, Any], role: ExperimentUnitRole, identity: str
    ) -> MockExperimentUnit:
        if isinstance(role, AuxiliaryUnitRole):
            number = len(self._auxiliary_units) + 1
            auxiliary = MockAuxiliaryUnit(self, number, args, role, identity)
            self._auxiliary_units.append(auxiliary)
            return auxiliary
        number = len(self._work_units) + 1
        unit = self._work_units[number] = MockWorkUnit(self, number, args, role, identity)
        return unit

    async def _generator_ended(self, unit: ExperimentUnit, error: BaseException | None) -> None:
        assert isinstance(unit, MockExperimentUnit)
        if error is None:
            unit._complete()
        elif unit._is_new:
            unit._fail_to_create(error)
