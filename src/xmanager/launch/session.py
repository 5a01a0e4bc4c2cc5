"""One stay in an experiment's context: what is added in it, what the person sees of it, and how long it waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar, Final

from xmanager.launch import settings
from xmanager.launch.terminal import Terminal
from xmanager.launch.units import RecordedUnit, error_of
from xmanager.launch.writer import UnitWriter
from xmanager.ledger.sentences import engine_name
from xmanager.store import WORK, Standing, UnitRecord
from xmanager.store.presence import Lock, Presence

if TYPE_CHECKING:
    from xmanager.launch.experiment import RecordedExperiment

_INTERRUPTED: Final = 'Ctrl-C at the launcher'
_JOB: Final = re.compile(
    r'[0-9]+(?![0-9A-Za-z])'
)  # The number of a job at the head of a reference, `4711_3@…`.
_SHOWN_JOBS: Final = 3


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
        self._units: dict[
            int, str
        ] = {}  # With the back end of each; '' until its generator has said it.
        self._asked: set[int] = set()  # The units that were asked to stop.
        self._interrupted = False
        self._all_ended = False

    def take(self, record: UnitRecord) -> None:
        """Follows a unit that was added here."""
        if not self._units:
            self.terminal.say(f'experiment {record.experiment_id}: {self._experiment.title}')
        self._units[record.id] = record.backend
        self.terminal.added()
        queues_itself = bool(record.backend) and self._experiment.queues_itself(record.backend)
        self.follower.watch(record.id, queues_itself=queues_itself)

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
        awaited = await self._awaited()
        others = await self.follower.all_ended(awaited)  # than completed
        self._all_ended = True
        self.terminal.summary()
        self._leave_to_engines(self._units.keys() - awaited)
        if any(record.kind == WORK for record in others):
            Session.any_failed = True
        errors = self._errors(others)
        Session._told += errors
        return errors[:1]  # The summary has told of all; one is raised.

    async def _awaited(self) -> Collection[int]:
        """The units to wait for; those of engines that queue by themselves are waited for till they are there."""
        elsewhere = self._elsewhere()
        if not elsewhere or settings.get('wait'):
            return self._units
        await self.follower.all_taken(elsewhere)
        await self.follower.all_ended(self._units.keys() - elsewhere)
        if self._interrupted:
            return self._units
        left = {unit.id for unit in self._store.standing(elsewhere) if unit.is_active}
        return [unit_id for unit_id in self._units if unit_id not in left]

    def _elsewhere(self) -> set[int]:
        unknown = [unit_id for unit_id, backend in self._units.items() if not backend]
        for record in self._store.units_by_id(unknown, with_tasks=False):
            self._units[record.id] = record.backend
        names = {name for name in self._units.values() if name}
        queueing = {name for name in names if self._experiment.queues_itself(name)}
        return {unit_id for unit_id, name in self._units.items() if name in queueing}

    def _leave_to_engines(self, unit_ids: Collection[int]) -> None:
        """Tells of the units that go on, and which jobs of their engines they are."""
        self.follower.stop()
        by_engine: dict[str, list[Standing]] = {}
        for unit in self._store.standing(unit_ids):
            by_engine.setdefault(self._units[unit.id], []).append(unit)
        id = self._experiment.experiment_id
        for name, units in sorted(by_engine.items()):
            count = '1 unit' if len(units) == 1 else f'{len(units):,} units'
            self.terminal.say(
                f'experiment {id}: {count} submitted to {engine_name(name)}{_jobs(units)}. '
                f'xmanager show {id} · xmanager logs {id} -f · xmanager wait {id} · xmanager stop {id}'
            )

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


def _jobs(units: Collection[Standing]) -> str:
    """The engine's numbers of them, if they have some: ` (job 4711)`, ` (jobs 4711, 4712, 4713 and 12 more)`."""
    heads = (match[0] for unit in units if (match := _JOB.match(unit.reference)))
    numbers = sorted(set(heads), key=int)
    shown, more = numbers[:_SHOWN_JOBS], len(numbers) - _SHOWN_JOBS
    if not shown:
        return ''
    if len(shown) == 1:
        return f' (job {shown[0]})'
    if more > 0:
        return f' (jobs {", ".join(shown)} and {more:,} more)'
    return f' (jobs {", ".join(shown[:-1])} and {shown[-1]})'
