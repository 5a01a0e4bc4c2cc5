"""The one door to the database: every change is a short transaction of `Store`, and so is every question."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from xmanager.backend import Task
from xmanager.errors import StoreError
from xmanager.store import commands, leases, queries
from xmanager.store.address import Address, locate
from xmanager.store.choosing import open_address
from xmanager.store.connection import Connection
from xmanager.store.home import Home
from xmanager.store.leases import Lease
from xmanager.store.moves import write_moves
from xmanager.store.reader import Clock, Reader
from xmanager.store.sqlite import DEFAULT_PATIENCE, Notify, Patience, log_warning
from xmanager.store.trouble import translated
from xmanager.store.values import (
    CREATING,
    STOPPED,
    Change,
    ExperimentRecord,
    NewExperiment,
    NewUnit,
    Standing,
    UnitRecord,
)


class Store(Reader):
    """The records of one home. Safe to use from several threads; each process opens its own.

    Every method may raise StoreError: the database is locked (after a wait), damaged, on a full disk, ….
    """

    @classmethod
    def open(
        cls,
        home: Home,
        *,
        address: Address | None = None,
        clock: Clock = time.time,
        readonly: bool = False,
        patience: Patience = DEFAULT_PATIENCE,
        notify: Notify = log_warning,
    ) -> Store:
        """Opens the database of the home, or the one that the environment (or `address`) names; makes what isn't there.

        `readonly` makes nothing: a home that isn't there reads as an empty one, and a home that can't be written can
        be read. `notify` is told, in one sentence, when a locked database is waited for.
        """
        place = locate(home) if address is None else address
        home, database = open_address(home, place, patience, notify, readonly=readonly)
        return cls(home, database, clock)

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
        with self._changing(experiment_id) as connection:
            ids, is_new = self._insert_absent(connection, experiment_id, units, actor)
            records = {unit.id: unit for unit in self._queries.units_by_id(connection, ids, True)}
        return [(records[id], new) for id, new in zip(ids, is_new, strict=True)]

    def _insert_absent(
        self,
        connection: Connection,
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
        with self._changing_units([unit_id]) as connection:
            unit = self._queries.unit(connection, unit_id)
            if unit.state == CREATING:
                commands.insert_tasks(connection, unit, tasks, backend)
                change = Change(unit_id, state, message=message, why=message, expect=(CREATING,))
                write_moves(connection, [change], self._clock(), actor)
            return self._queries.unit(connection, unit_id)

    def move(
        self, changes: Sequence[Change], *, actor: str, lease: Lease | None = None
    ) -> list[Standing]:
        """Moves units, all in one transaction, each with the event that explains it.

        Returns where the units that moved stand now. Changes are made in order; one that the table of legal
        moves, its `expect` or its `attempt` forbids is left out. An active unit may be "moved" to the state that it
        is in, to record facts: no event is written then and the unit isn't returned.

        With a lease, only units of its experiment are moved; FencedError, and nothing is written, if somebody claimed
        the experiment after it.
        """
        if not changes:
            return []
        unit_ids = [change.unit_id for change in changes]
        with self._changing_units(unit_ids, lease) as connection:
            only = None if lease is None else lease.experiment_id
            return write_moves(connection, changes, self._clock(), actor, only)

    def set_importance(
        self, unit_ids: Sequence[int], importance: int, *, actor: str
    ) -> list[UnitRecord]:
        """Changes how urgent units are; returns, without their tasks, those that it changed.

        Units that have ended, and ids of no unit, are left alone.
        """
        with self._changing_units(unit_ids) as connection:
            units = self._queries.units_by_id(connection, unit_ids, with_tasks=False)
            return commands.set_importance(connection, units, importance, self._clock(), actor)

    def set_paused(self, experiment_id: int, paused: bool, *, actor: str) -> ExperimentRecord:
        """While it is paused, no unit of the experiment shall start. Harmless on repeat. Raises NotFoundError."""
        with self._changing(experiment_id) as connection:
            commands.set_paused(connection, experiment_id, paused, self._clock(), actor)
            return self._queries.experiment(connection, experiment_id)

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
        with self._changing(experiment_id) as connection:
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

    def finish_requests(self, ids: Sequence[int], *, lease: Lease | None = None) -> None:
        """Says that these requests were obeyed (or had nothing to obey). With a lease, as `move`."""
        if ids:
            with self._changing_requests(ids, lease) as connection:
                commands.finish_requests(connection, ids, self._clock())

    def claim(self, experiment_id: int, holder: str, seconds: float) -> Lease | None:
        """Makes `holder` the supervisor for so long, by the database's clock; None while somebody else is.

        Claimed anew by its own holder it lasts longer, but earlier leases are void: each claim raises the fence.
        """
        with self._database.writing() as connection:
            return leases.claim(connection, experiment_id, holder, seconds)

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Holds on for so long from now, even if the time was up; False if somebody has claimed it since."""
        with self._database.writing() as connection:
            return leases.renew(connection, lease, seconds)

    def release(self, lease: Lease) -> None:
        """Lets go; does nothing if somebody has claimed it since."""
        with self._database.writing() as connection:
            leases.release(connection, lease)

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
            for place in (*_linked(aside, f'{self.home_id}-{experiment_id}'), aside):
                _remove(place, experiment_id)

    # Transactions

    def _changing(self, experiment_id: int) -> AbstractContextManager[Connection]:
        """A write transaction about one experiment; entering it raises NotFoundError."""

        def concerned(connection: Connection) -> list[int]:
            self._queries.require_experiment(connection, experiment_id)
            return [experiment_id]

        return self._changing_all(concerned)

    def _changing_units(
        self, unit_ids: Iterable[int], lease: Lease | None = None
    ) -> AbstractContextManager[Connection]:
        return self._changing_all(
            lambda connection: queries.experiments_of_units(connection, unit_ids), lease
        )

    def _changing_requests(
        self, request_ids: Iterable[int], lease: Lease | None
    ) -> AbstractContextManager[Connection]:
        return self._changing_all(
            lambda connection: queries.experiments_of_requests(connection, request_ids), lease
        )

    @contextmanager
    def _changing_all(
        self, concerned: Callable[[Connection], Sequence[int]], lease: Lease | None = None
    ) -> Iterator[Connection]:
        """A write transaction about several experiments, or under a lease about the one that it is for."""
        ids: Sequence[int] = ()
        with self._database.lock:
            try:
                with self._database.writing() as connection:
                    if lease is None:
                        concerned_ids = concerned(connection)
                        commands.advance_revisions(connection, concerned_ids)
                    else:
                        concerned_ids = [lease.experiment_id]
                        leases.advance_revision(connection, lease)
                    ids = concerned_ids
                    self._count_own(ids, 1)
                    yield connection
            except BaseException:
                self._count_own(ids, -1)
                raise

    def _count_own(self, experiment_ids: Iterable[int], step: int) -> None:
        for id in experiment_ids:
            self._own_commits[id] = self._own_commits.get(id, 0) + step


def _linked(folder: Path, name: str) -> set[Path]:
    """Folders of that name, which other machines see: of their units an experiment's own folder has links only."""
    targets = [Path(os.readlink(path)) for path in folder.iterdir() if path.is_symlink()]
    return {place.parent for place in targets if place.parent.name == name and place.is_dir()}


def _remove(folder: Path, experiment_id: int) -> None:
    """Removes what can be removed; raises StoreError if something is left."""
    failures: list[BaseException] = []
    shutil.rmtree(folder, onerror=lambda _call, _path, trouble: failures.append(trouble[1]))
    if failures:
        raise StoreError(
            f'experiment {experiment_id} is deleted, but some of its files are left in {folder} '
            f'({failures[0]}); remove them as the user who owns them'
        )
