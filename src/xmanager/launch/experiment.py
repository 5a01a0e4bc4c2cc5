"""The experiment of `xm_local`: every unit is recorded, the supervisor runs it, the launcher follows."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

from xmanager.backend import Task
from xmanager.launch import planning, settings
from xmanager.launch.follow import Follower, Watcher
from xmanager.launch.resolve import recorded
from xmanager.launch.resolving import ResolvingExperiment
from xmanager.launch.terminal import Terminal
from xmanager.launch.units import RecordedUnit, RecordedWorkUnit, error_of, new_unit_facts
from xmanager.launch.wake import Guard, keep_settings, wake
from xmanager.launch.writer import UnitWriter
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
from xmanager.store.presence import Lock, Presence
from xmanager.xm.experiment_unit import ExperimentUnit
from xmanager.xm.roles import ExperimentUnitRole

_INTERRUPTED = 'Ctrl-C at the launcher'


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
        keep_settings(self.store.home, self.experiment_id)
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


class Session:
    """One stay in the experiment's context: what was added in it, and what the person sees of it."""

    # Of this process: `xmanager launch` asks for its exit code.
    any_entered: ClassVar[bool] = False
    any_failed: ClassVar[bool] = False
    _told: ClassVar[list[Exception]] = []

    @classmethod
    def told_of(cls, error: Exception) -> bool:
        """Whether a summary has told the person of this error."""
        return any(error is told for told in cls._told)

    def __init__(self, experiment: RecordedExperiment) -> None:
        Session.any_entered = True
        self._experiment = experiment
        self._store = experiment.store
        folder = self._store.home.experiment_folder(experiment.experiment_id)
        self._lock: Lock | None = Presence(folder).launch()
        # In the block of a plain `with` the terminal is the script's: it may ask a question or be in a debugger.
        self.terminal = Terminal(experiment.experiment_id, shows_progress=experiment.is_async)
        self.follower = experiment.follower(self.terminal)
        self.writer = UnitWriter(self._store, experiment.experiment_id, experiment.wake)
        self.noted: set[int] = set()
        self._units: list[int] = []
        self._asked: set[int] = set()  # The units that were asked to stop.
        self._interrupted = False
        self._all_ended = False

    def take(self, record: UnitRecord) -> None:
        """Follows a unit that was added here."""
        if not self._units:
            self.terminal.say(f'experiment {record.experiment_id}: {self._experiment.title}')
        self._units.append(record.id)
        self.terminal.added()
        self.follower.watch(record.id)

    async def finish(self, error: BaseException | None) -> list[Exception]:
        """Waits for the units (unless told to detach, or the script failed); returns the errors to raise."""
        self._say_that_all_is_added()
        self.terminal.shows_progress = True
        if not self._units:
            return []
        self._interrupted = self._interrupted or self._is_interrupt(error)
        if error is not None and not self._is_interrupt(error):
            return self._leave_behind('the script failed')
        if settings.get('detach') and not self._interrupted:
            return self._leave_behind('detached')
        if self._interrupted:
            self._stop_units()
        others = await self.follower.all_ended(self._units)  # than completed
        self._all_ended = True
        self.terminal.summary()
        if any(record.kind == WORK for record in others):
            Session.any_failed = True
        errors = self._errors(others)
        Session._told += errors
        return errors[:1]  # The summary has told of all; one is raised.

    def interrupt(self) -> None:
        """Asks the units to stop; those that are still being written are asked in `finish`."""
        self._interrupted = True
        self._stop_units()

    def _stop_units(self) -> None:
        units = [unit_id for unit_id in self._units if unit_id not in self._asked]
        if not units:
            return
        if not self._asked:
            self.terminal.say('Stopping the units; Ctrl-C again leaves at once.')
        self._asked.update(units)
        self._experiment.request_stop(units, _INTERRUPTED)

    def close(self) -> None:
        if self._asked and not self._all_ended:
            id = self._experiment.experiment_id
            self.terminal.say(
                f'experiment {id}: left; its units are being stopped. xmanager show {id}'
            )
        self.terminal.close()
        self._say_that_all_is_added()

    def _say_that_all_is_added(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            self._experiment.wake()

    def _leave_behind(self, reason: str) -> list[Exception]:
        self.follower.stop()
        id = self._experiment.experiment_id
        if active := sum(unit.is_active for unit in self._store.standing(self._units)):
            units = '1 unit goes' if active == 1 else f'{active} units go'
            self.terminal.say(
                f'experiment {id}: {reason}; {units} on. '
                f'xmanager show {id} · xmanager logs {id} -f · xmanager stop {id}'
            )
        return []

    def _is_interrupt(self, error: BaseException | None) -> bool:
        return isinstance(error, KeyboardInterrupt | asyncio.CancelledError)

    def _errors(self, records: list[UnitRecord]) -> list[Exception]:
        return [
            error_of(RecordedUnit.of(self._experiment, record, is_new=False))
            for record in records
            if record.kind == WORK and record.id not in self.noted and not self._interrupted
        ]
