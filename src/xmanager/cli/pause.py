"""`xmanager pause`: keeps units of experiments from starting."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from xmanager.cli import session, waiting, wording
from xmanager.cli.parameters import addresses as takes_addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store
    from xmanager.store.values import ExperimentRecord


@click.command('pause')
@takes_addresses(1)
def command(addresses: tuple[Address, ...]) -> None:
    """Start no more units of experiments, until they are resumed; units that run go on.

    Units that are added or restarted meanwhile wait as well. To end what runs: xmanager stop.

    \b
    Examples:
      xmanager pause 12
      xmanager pause 12 13    xmanager resume 12 13 lets them go on
    """
    with session.open_store() as store:
        records = [store.experiment(number) for number in waiting.experiments_of(addresses)]
        for record in records:
            click.echo(_pause(store, record))


def _pause(store: Store, before: ExperimentRecord) -> str:
    from xmanager.store.values import ACTIVE_STATES

    record = store.set_paused(before.id, True, actor=session.actor('pause'))
    active = {state: n for state, n in record.counts.items() if state in ACTIVE_STATES}
    if active:
        # At once, not at the supervisor's next look: a unit might start in between.
        from xmanager.launch import wake

        wake(store.home, record.id)
    if before.paused_at is None:
        said = f'paused experiment {record.id}'
    else:
        said = f'experiment {record.id} was paused {wording.age(before.paused_at, time.time())}'
    if active:
        waits = [wait for wait in store.waits(record.id) if wait.is_taken]
        shown = wording.states(wording.shown_counts(active, waits))
        said += f': what runs goes on, what is queued waits ({shown})'
        if waits:
            said += (
                f'; what waits in {wording.engines(wait.backend for wait in waits)} may start there'
            )
    else:
        said += ': no unit is active; one that is added or restarted waits'
    return f'{said}; to let it start: xmanager resume {record.id}'
