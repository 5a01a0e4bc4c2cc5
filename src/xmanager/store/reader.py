"""The questions that a store answers: each is a short transaction in which everything is of one moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

from xmanager.store import leases, queries
from xmanager.store.connection import Database
from xmanager.store.home import Home
from xmanager.store.queries import Queries
from xmanager.store.rows import executable_of
from xmanager.store.values import Event, ExperimentRecord, Request, Standing, UnitRecord
from xmanager.store.waits import Wait, waits

Clock = Callable[[], float]

_PAGE: Final = 2000


class Reader:
    """The reading side of a `Store`. Every method may raise StoreError."""

    def __init__(self, home: Home, database: Database, clock: Clock) -> None:
        self.home = home
        self.home_id = database.setting('home_id')
        self._database = database
        self._clock = clock
        self._queries = Queries(home, self.home_id, database.name)
        self._revisions: dict[int, tuple[object, int | None]] = {}
        self._foreign: dict[int, tuple[object, int | None]] = {}
        self._own_commits: dict[int, int] = {}

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

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

    def standing(self, ids: Iterable[int]) -> list[Standing]:
        """Where these units stand, in any order; ids of no unit are left out. Reads less than `units_by_id`."""
        with self._database.reading() as connection:
            return queries.standing(connection, ids)

    def queue(
        self, experiment_id: int, *, limit: int, only: str = '', without: Collection[str] = ()
    ) -> list[tuple[int, int]]:
        """Ids and importance of the first queued units, in their order; none while the experiment is paused.

        All queued auxiliary units are among them, for they accompany the work that is before them. `only` names the
        one back end whose units count, `without` those whose units don't.
        """
        with self._database.reading() as connection:
            return queries.queue(connection, experiment_id, limit, only, without)

    def backends(self, experiment_id: int, after_id: int) -> tuple[frozenset[str], int]:
        """The back ends of the units that come after one, by id; and after which one to ask next time.

        What a generator's unit will run on isn't known before the generator has ended: such a unit is asked for again.
        """
        with self._database.reading() as connection:
            return queries.backends(connection, experiment_id, after_id)

    def waits(self, experiment_id: int) -> list[Wait]:
        """What its queued and starting units wait for, the largest groups of like ones first."""
        with self._database.reading() as connection:
            return waits(connection, experiment_id)

    def holder(self, experiment_id: int) -> leases.Holder:
        """Who supervises the experiment, as far as leases tell."""
        with self._database.reading() as connection:
            return leases.holder(connection, experiment_id)

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

    def executables(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """What was packaged for each task that is recorded, with the number of its experiment. Reads page by page."""
        last = 0
        while True:
            with self._database.reading() as connection:
                page = queries.specs(connection, last, _PAGE)
            if not page:
                return
            last = page[-1][0]
            for _, experiment_id, spec in page:
                if spec is not None:
                    yield experiment_id, executable_of(spec)

    def change_token(self, experiment_id: int) -> object:
        """Equal tokens: nothing of this experiment was committed in between, by whomever. Costs µs on SQLite."""
        return self._revision(experiment_id)

    def foreign_token(self, experiment_id: int) -> object:
        """As `change_token`, but blind to what was committed through this very store."""
        stamp = self._database.foreign_stamp()
        known = self._foreign.get(experiment_id)
        if known is not None and known[0] == stamp:
            return known[1]
        revision = self._revision(experiment_id)
        # Read last, and counted before the commit: a token may come out too low for a moment, which costs a look in
        # vain, but never too high, which would hide what others write next.
        own = self._own_commits.get(experiment_id, 0)
        token = None if revision is None else revision - own
        self._foreign[experiment_id] = stamp, token
        return token

    def _revision(self, experiment_id: int) -> int | None:
        token = self._database.change_token()
        known, revision = self._revisions.get(experiment_id, (None, None))
        if known is None or known != token:
            with self._database.reading() as connection:
                revision = queries.revision(connection, experiment_id)
            self._revisions[experiment_id] = token, revision
        return revision
