"""The back ends in use by one supervisor, each with the account of what its units hold."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator, Sequence

import attrs

from xmanager.backend import WITHIN_VARIABLE, Backend, Capacity, Task
from xmanager.errors import ExecutorError, UsageError
from xmanager.ledger import Demand, Entry, Ledger, place
from xmanager.store import Store
from xmanager.store.presence import Presence
from xmanager.supervise.account import Account


@attrs.define(eq=False)
class Engine:
    """A back end in use."""

    name: str
    backend: Backend
    account: Account
    queues_itself: bool = False
    _demands: dict[object, Demand] = attrs.field(factory=dict)

    def demand(self, tasks: Sequence[Task]) -> Demand:
        """What the tasks take; asked once for all that state the same."""
        stated = tuple((task.name, *sorted(task.requirements.items())) for task in tasks)
        known = self._demands.get(stated)
        if known is None:
            known = self._demands[stated] = self.backend.demand(tasks)
        return known


class Engines:
    """Loads each back end when it is first needed."""

    def __init__(
        self,
        store: Store,
        experiment_id: int,
        load: Callable[[str], Backend],
        *,
        clock: Callable[[], float],
    ) -> None:
        self.owner = f'{store.home_id}-{experiment_id}'
        self._store = store
        self._experiment_id = experiment_id
        self._load = load
        self._clock = clock
        self._engines: dict[str, Engine] = {}

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._engines.values())

    def get(self, name: str) -> Engine:
        """Raises ExecutorError if there is no such back end or its settings make no sense.

        LedgerError if its capacity can't be shared out.
        """
        if name not in self._engines:
            try:
                backend = self._load(name)
            except (UsageError, ImportError) as error:
                raise ExecutorError(str(error)) from error
            capacity = backend.capacity()
            account = self._account(backend, capacity)
            self._engines[name] = Engine(name, backend, account, capacity is None)
        return self._engines[name]

    def close(self) -> None:
        """Lets go of what is held of this process; the units run on."""
        for engine in self:
            engine.account.close()
            engine.backend.close()

    def _account(self, backend: Backend, capacity: Capacity | None) -> Account:
        ledger = None
        if capacity is not None and capacity.ledger is not None:
            ledger = Ledger(place.prepare(capacity.ledger), self._entry(capacity))
        lent = filter(None, os.environ.get(WITHIN_VARIABLE, '').split(','))
        return Account(
            capacity,
            self.owner,
            ledger,
            backend.strangers,
            clock=self._clock,
            lent=frozenset(lent),
        )

    def _entry(self, capacity: Capacity) -> Entry:
        home = self._store.home
        presence = Presence(home.experiment_folder(self._experiment_id))
        return Entry(
            owner=self.owner,
            user=getpass.getuser(),
            home=str(home.path),
            experiment_id=self._experiment_id,
            pid=os.getpid(),
            wake_pipe=str(presence.wake_pipe),
            capacity=capacity,
        )
