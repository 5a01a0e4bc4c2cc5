"""`xmanager resume`: lets units of paused experiments start again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xmanager.cli import session, waiting, wording
from xmanager.cli.parameters import addresses as takes_addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store
    from xmanager.store.values import ExperimentRecord


@click.command('resume')
@takes_addresses(1)
def command(addresses: tuple[Address, ...]) -> None:
    """Let the units of paused experiments start again, in the order in which they were added.

    \b
    Examples:
      xmanager resume 12
    """
    with session.open_store() as store:
        records = [store.experiment(number) for number in waiting.experiments_of(addresses)]
        for record in records:
            click.echo(_resume(store, record))


def _resume(store: Store, before: ExperimentRecord) -> str:
    from xmanager.store.values import ACTIVE_STATES

    if before.paused_at is None:
        return f'experiment {before.id} is not paused'
    record = store.set_paused(before.id, False, actor=session.actor('resume'))
    active = {state: n for state, n in record.counts.items() if state in ACTIVE_STATES}
    if active:
        from xmanager.launch import wake

        wake(store.home, record.id)
    return f'resumed experiment {record.id}: {wording.states(active) or "no unit is active"}'
