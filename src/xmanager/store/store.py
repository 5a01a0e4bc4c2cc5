"""The one door to the database: every change of state, and every question, is a short transaction of `Store`."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

from xmanager.backend import Task
from xmanager.errors import StoreError
from xmanager.store import commands, queries
from xmanager.store.home import Home
from xmanager.store.moves import write_moves
from xmanager.store.opening import open_database, open_for_reading
from xmanager.store.queries import Queries
from xmanager.store.sqlite import DEFAULT_PATIENCE, Database, Notify, Patience, log_warning
from xmanager.store.trouble import translated
from xmanager.store.values import (
    CREATING,
    STOPPED,
    Change,
    Event,
    ExperimentRecord,
    NewExperiment,
    NewUnit,
    Request,
    UnitRecord,
)

Clock = Callable[[], float]


class Store:
    """The records of one home. Safe to use from several threads; each process opens its own.

    Every method may raise StoreError: the database is locked (after a wait), damaged, on a full disk, ….
    """

    def __init__(self, home: Home, database: Database, clock: Clock) -> None:
        self.home = home
        self.home_id = database.setting('home_id')
        self._database = database
        self._clock = clock
        self._queries = Queries(home, self.home_id)

    @classmethod
    def open(
        cls,
        home: Home,
        *,
        clock: Clock = time.time,
        readonly: bool = False,
        patience: Patience = DEFAULT_PATIENCE,
        notify: Notify = log_warning,
    ) -> Store:
        """Opens the home's database; makes both if they are not there.

        `readonly` makes nothing: a home that isn't there reads as an empty one, and a home that can't be written can
        be read. `notify` is told, in one sentence, when a locked database is waited for.
        """
        opener = open_for_reading if readonly else open_database
        return cls(home, opener(home, patience, notify), clock)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Writing

    def create_experiment(self, new: NewExperiment) -> ExperimentRecord:
        """Gives the experiment the next id and makes its folder, for its user alone.

        An id whose folder is there already (of a database that was restored or lost) is passed over.
        """
        while True:
            with self._database.writing() as connection:
                id = commands.insert_experiment(connection, new, self._clock())
                record = self._queries.experiment(connection, id)
            try:
                with translated(self.home.database):
                    self.home.experiments_folder.mkdir(mode=0o700, exist_ok=True)
                    record.folder.mkdir(mode=0o700, exist_ok=False)
                return record
            except StoreError as error:
                with self._database.writing() as connection:
                    commands.delete_experiment(connection, id)
                if not (isinstance(error.__cause__, FileExistsError) and record.folder.exists()):
                    raise

    def add_units(
        self, experiment_id: int, units: Sequence[NewUnit], *, actor: str
    ) -> list[tuple[UnitRecord, bool]]:
        """Writes all units, or none; returns each with whether it is new.

        Numbers go on from the last, for each kind. A unit whose identity the experiment has already (or an earlier
        one of `units`) is not written: the existing one is returned.
        """
        with self._database.writing() as connection:
            self._queries.require_experiment(connection, experiment_id)
            ids, is_new = self._insert_absent(connection, experiment_id, units, actor)
            records = {unit.id: unit for unit in self._queries.units_by_id(connection, ids, True)}
        return [(records[id], new) for id, new in zip(ids, is_new, strict=True)]

    def _insert_absent(
        self,
        connection: sqlite3.Connection,
        experiment_id: int,
        units: Sequence[NewUnit],
        actor: str,
    ) -> tuple[list[int], list[bool]]:
        known = commands.identified_units(connection, experiment_id, units)
        new: dict[str | int, NewUnit] = {}
        marks: list[str | int] = []
        is_new: list[bool] = []
        for place, unit in enumerate(units):
            mark: str | int = unit.identity or place
            is_new.append(mark not in known and mark not in new)
            if is_new[-1]:
                new[mark] = unit
            marks.append(mark)
        ids = commands.insert_units(
            connection, experiment_id, [*new.values()], self._clock(), actor
        )
        by_mark: dict[str | int, int] = dict(zip(new, ids, strict=True))
        by_mark.update(known)
        return [by_mark[mark] for mark in marks], is_new

    def set_tasks(
        self,
        unit_id: int,
        tasks: Sequence[Task],
        backend: str,
        *,
        state: str,
        actor: str,
        message: str = '',
    ) -> UnitRecord:
        """Gives its tasks to a generator's unit and moves it out of `creating`.

        A unit that has left `creating` already (it was stopped) is returned as it is. Raises NotFoundError.
        """
        with self._database.writing() as connection:
            unit = self._queries.unit(connection, unit_id)
            if unit.state == CREATING:
                commands.insert_tasks(connection, unit, tasks, backend)
                change = Change(unit_id, state, message=message, why=message, expect=(CREATING,))
                write_moves(connection, self._queries, [change], self._clock(), actor)
            return self._queries.unit(connection, unit_id)

    def move(self, changes: Sequence[Change], *, actor: str) -> list[UnitRecord]:
        """Moves units, all in one transaction, each with the event that explains it.

        Returns, without their tasks, the units that moved. Changes are made in order; one that the table of legal
        moves, its `expect` or its `attempt` forbids is left out. An active unit may be "moved" to the state that it
        is in, to record facts: no event is written then and the unit isn't returned.
        """
        if not changes:
            return []
        with self._database.writing() as connection:
            return write_moves(connection, self._queries, changes, self._clock(), actor)

    def request(
        self,
        experiment_id: int,
        unit_ids: Sequence[int] | None,
        verb: str,
        *,
        message: str = '',
        outcome: str = STOPPED,
        actor: str,
    ) -> None:
        """Asks the supervisor to `stop` or `restart` these units, or (None) the whole experiment.

        Raises NotFoundError.
        """
        with self._database.writing() as connection:
            self._queries.require_experiment(connection, experiment_id)
            commands.insert_requests(
                connection,
                experiment_id,
                unit_ids,
                verb=verb,
                message=message,
                outcome=outcome,
                actor=actor,
                at=self._clock(),
            )

    def finish_requests(self, ids: Sequence[int]) -> None:
        """Says that these requests were obeyed (or had nothing to obey)."""
        if ids:
            with self._database.writing() as connection:
                commands.finish_requests(connection, ids, self._clock())

    def delete_experiment(self, experiment_id: int) -> None:
        """Removes the experiment's records and its folder, whatever runs in it. Raises NotFoundError.

        The folder is set aside first: if we die here, the experiment can be deleted again.
        """
        folder = self.experiment(experiment_id).folder
        aside = folder.with_name(f'.deleted-{experiment_id}')
        with translated(self.home.database):
            if folder.exists():
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(folder, aside)
        with self._database.writing() as connection:
            commands.delete_experiment(connection, experiment_id)
        if aside.exists():
            _remove(aside, experiment_id)

    # Reading

    def experiment(self, experiment_id: int) -> ExperimentRecord:
        """Raises NotFoundError."""
        with self._database.reading() as connection:
            return self._queries.experiment(connection, experiment_id)

    def experiments(
        self,
        *,
        limit: int | None = None,
        status: str | None = None,
        user: str | None = None,
        title: str | None = None,
    ) -> list[ExperimentRecord]:
        """Newest first. `status` is an `ExperimentRecord.state`, `title` a part of the title in any case."""
        with self._database.reading() as connection:
            return self._queries.experiments(connection, limit, status, user, title)

    def units(
        self,
        experiment_id: int,
        *,
        states: Iterable[str] | None = None,
        kind: str | None = None,
        after_id: int = 0,
        limit: int | None = None,
        with_tasks: bool = True,
        order: str = 'number',
    ) -> list[UnitRecord]:
        """Units in the order in which they were added (`number`), or by importance first (`queue`)."""
        with self._database.reading() as connection:
            return self._queries.units(
                connection,
                experiment_id,
                states=states,
                kind=kind,
                after_id=after_id,
                limit=limit,
                with_tasks=with_tasks,
                order=order,
            )

    def unit(self, unit_id: int) -> UnitRecord:
        """Raises NotFoundError."""
        with self._database.reading() as connection:
            return self._queries.unit(connection, unit_id)

    def unit_by_label(self, experiment_id: int, label: str) -> UnitRecord:
        """Raises NotFoundError, also for a label that no unit could have."""
        with self._database.reading() as connection:
            return self._queries.unit_by_label(connection, experiment_id, label)

    def units_by_id(self, ids: Iterable[int], with_tasks: bool = True) -> list[UnitRecord]:
        """In the order of the ids, each once; ids of no unit are left out."""
        with self._database.reading() as connection:
            return self._queries.units_by_id(connection, ids, with_tasks)

    def counts(self, experiment_id: int, kind: str | None = None) -> dict[str, int]:
        """How many units are in each state; states without units are left out."""
        with self._database.reading() as connection:
            return queries.counts(connection, experiment_id, kind)

    def events(
        self, experiment_id: int | None = None, unit_id: int | None = None, after_id: int = 0
    ) -> list[Event]:
        """In the order in which they were written."""
        with self._database.reading() as connection:
            return queries.events(connection, experiment_id, unit_id, after_id)

    def requests(self, experiment_id: int) -> list[Request]:
        """Those that are not finished, oldest first."""
        with self._database.reading() as connection:
            return queries.open_requests(connection, experiment_id)

    def last_event_id(self, experiment_id: int) -> int:
        """0 if there is none."""
        with self._database.reading() as connection:
            return queries.last_event_id(connection, experiment_id)

    def change_token(self) -> object:
        """Equal tokens of one store: nothing was committed in between, by this process or another. Costs µs."""
        return self._database.change_token()

    def foreign_token(self) -> object:
        """As `change_token`, but blind to what was committed through this very store."""
        return self._database.change_token()[0]


def _remove(folder: Path, experiment_id: int) -> None:
    """Removes what can be removed; raises StoreError if something is left."""
    failures: list[BaseException] = []
    shutil.rmtree(folder, onerror=lambda _call, _path, trouble: failures.append(trouble[1]))
    if failures:
        raise StoreError(
            f'experiment {experiment_id} is deleted, but some of its files are left in {folder} '
            f'({failures[0]}); remove them as the user who owns them'
        )
