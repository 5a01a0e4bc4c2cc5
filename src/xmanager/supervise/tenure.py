"""Who supervises an experiment: a lease in the database, which also holds between hosts that share no file locks."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

from xmanager.errors import FencedError, UsageError
from xmanager.store import ACTIVE_STATES, Home, Store
from xmanager.store.leases import Lease

SECONDS = 30.0
"""How long a lease lasts that nobody renews, by the database's clock."""

_RENEWAL = 10.0
_LOOK = 1.0
_MACHINE_ID = Path('/etc/machine-id')


class Tenure:
    """The right to move an experiment's units, kept for as long as `keep` is called now and then."""

    def __init__(self, store: Store, lease: Lease, clock: Callable[[], float]) -> None:
        self.lease = lease
        self._store = store
        self._clock = clock
        self._renewed_at = clock()

    @classmethod
    def begin(
        cls,
        store: Store,
        experiment_id: int,
        wait: Callable[[float], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        me: str = '',
    ) -> Tenure | None:
        """Waits until nobody else supervises; None if nothing is left to do by then.

        Raises UsageError if there are local units that belong to another machine.
        """
        me = me or holder_of(store.home)
        while True:
            before = store.holder(experiment_id)
            if before.name in ('', me) or not before.is_live:
                _check_machine(store, experiment_id, before.name, me)
                lease = store.claim(experiment_id, me, SECONDS)
                if lease is not None:
                    return cls(store, lease, clock)
            if not _has_work(store, experiment_id):
                return None
            wait(_LOOK)

    def keep(self) -> None:
        """Renews the lease if it is time. Raises FencedError if somebody else has it."""
        if self._clock() < self._renewed_at + _RENEWAL:
            return
        if not self._store.renew(self.lease, SECONDS):
            raise FencedError(
                f'experiment {self.lease.experiment_id} has another supervisor by now.'
            )
        self._renewed_at = self._clock()

    def end(self) -> None:
        """Others may supervise."""
        self._store.release(self.lease)


def holder_of(home: Home) -> str:
    """What a supervisor of this home on this machine is called: machine, host name, folder."""
    try:
        machine = _MACHINE_ID.read_text().strip()[:12]
    except OSError:
        machine = ''
    return f'{machine or platform.node()} {platform.node()} {home.path.resolve()}'


def _check_machine(store: Store, experiment_id: int, before: str, me: str) -> None:
    """Local units belong to the machine on which they were launched: elsewhere all of them would seem to be lost."""
    machine, _, rest = before.partition(' ')
    if machine in ('', me.partition(' ')[0]):
        return
    units = store.units(experiment_id, states=ACTIVE_STATES, with_tasks=False)
    if any(unit.backend == 'local' for unit in units):
        name = rest.partition(' ')[0] or machine
        raise UsageError(
            f'experiment {experiment_id} has local units on {name}, whose supervisor is gone. '
            f'Run `xmanager supervise {experiment_id}` there; or, if that machine is no more, '
            f'`xmanager supervise --here {experiment_id}`.'
        )


def _has_work(store: Store, experiment_id: int) -> bool:
    counts = store.counts(experiment_id)
    return bool(store.requests(experiment_id) or counts.keys() & ACTIVE_STATES)
