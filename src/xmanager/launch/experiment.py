"""The experiment of `xm_local`: every unit is recorded, the supervisor runs it, the launcher follows."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping
from typing import Any

from xmanager.backend import Task
from xmanager.launch import kept_settings, planning, settings
from xmanager.launch.follow import Follower, Watcher
from xmanager.launch.resolve import recorded
from xmanager.launch.resolving import ResolvingExperiment
from xmanager.launch.session import Session
from xmanager.launch.units import RecordedUnit, RecordedWorkUnit, new_unit_facts
from xmanager.launch.wake import Guard, wake
from xmanager.store import (
    CREATING,
    QUEUED,
    STOPPED,
    WORK,
    ExperimentRecord,
    NewUnit,
    Store,
    UnitRecord,
)
from xmanager.store.presence import Presence
from xmanager.xm.experiment_unit import ExperimentUnit
from xmanager.xm.roles import ExperimentUnitRole


class RecordedExperiment(ResolvingExperiment):
    """An experiment in the store: what `create_experiment` and `get_experiment` return."""

    def __init__(self, store: Store, record: ExperimentRecord) -> None:
        super().__init__()
        self.store = store
        self._record = record
        self._added = sum(store.counts(record.id, WORK).values())
        self._followers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Follower] = (
            weakref.WeakKeyDictionary()
        )
        self._session: Session | None = None
        self.context.annotations.set_title(record.title)

    @property
    def experiment_id(self) -> int:
        return self._record.id

    @property
    def record(self) -> ExperimentRecord:
        """All that is recorded of the experiment, read afresh."""
        return self.store.experiment(self.experiment_id)

    @property
    def title(self) -> str:
        return self._record.title

    @property
    def work_units(self) -> Mapping[int, RecordedWorkUnit]:
        records = self.store.units(self.experiment_id, kind=WORK, with_tasks=False)
        units = [RecordedUnit.of(self, record, is_new=False) for record in records]
        return {unit.work_unit_id: unit for unit in units if isinstance(unit, RecordedWorkUnit)}

    # Adding.

    async def _create_unit(
        self,
        job: tuple[str, tuple[Task, ...]] | None,
        args: Mapping[str, Any],
        role: ExperimentUnitRole,
        identity: str,
    ) -> tuple[ExperimentUnit, bool]:
        assert self._session is not None
        backend, tasks = ('', ()) if job is None else job
        new = NewUnit(
            backend=backend,
            tasks=tasks,
            args=recorded(args),
            identity=identity,
            state=CREATING if job is None else QUEUED,
            **new_unit_facts(role),
        )
        record, is_new = await self._session.writer.add(new)
        if is_new:
            self._session.take(record)
        return RecordedUnit.of(self, record, is_new), is_new

    async def _generator_ended(self, unit: ExperimentUnit, error: BaseException | None) -> None:
        assert isinstance(unit, RecordedUnit)
        await unit.commit(error)

    # The context.

    def _entered(self) -> None:
        planning.refuse(f'add to experiment {self.experiment_id}')
        settings.export(os.environ)
        self._check_notify()
        kept_settings.keep(self.store, self.experiment_id, os.environ)
        presence = Presence(self.store.home.experiment_folder(self.experiment_id))
        presence.let_come_on_demand(settings.get('supervise') == 'on-demand')
        self._session = Session(self)
        self.wake()

    def _check_notify(self) -> None:
        if target := settings.get('notify'):
            from xmanager.launch import notify_target

            notify_target.check(target, self._record.cwd)

    async def _finish(self, error: BaseException | None) -> list[Exception]:
        assert self._session is not None
        return await self._session.finish(error)

    def _interrupt(self) -> None:
        if self._session is not None:
            self._session.interrupt()

    def _left(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    # Looking and asking.

    def wake(self) -> None:
        """Makes sure that a supervisor runs and sees what was written."""
        wake(self.store.home, self.experiment_id)

    def follower(self, watcher: Watcher | None = None) -> Follower:
        """Somebody who looks at the store for us, and replaces a supervisor that was killed."""
        guard = Guard(self.store.home, self.experiment_id)
        return Follower(self.store, self.experiment_id, watcher, revive=guard.look)

    def request_stop(self, unit_ids: list[int], message: str, outcome: str = STOPPED) -> None:
        """Asks the supervisor to stop these units."""
        planning.refuse(f'stop units of experiment {self.experiment_id}')
        self.store.request(
            self.experiment_id,
            unit_ids,
            'stop',
            message=message,
            outcome=outcome,
            actor=self._record.user,
        )
        self.wake()

    async def ended(self, unit_id: int) -> UnitRecord:
        """The unit as recorded once it has ended."""
        loop = asyncio.get_running_loop()
        if loop is self._loop and self._session is not None:
            return await self._session.follower.ended(unit_id)
        if loop not in self._followers:
            self._followers[loop] = self.follower()
        return await self._followers[loop].ended(unit_id)

    def note(self, unit_id: int) -> None:
        """The script has awaited this unit: its failure is no news at the exit."""
        if self._session is not None:
            self._session.noted.add(unit_id)
