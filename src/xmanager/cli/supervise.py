"""`xmanager supervise`: starts a supervisor where one is needed, after a reboot for instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xmanager.cli import session, waiting, wording
from xmanager.cli.parameters import addresses as takes_addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store


@click.command('supervise')
@takes_addresses(1)
@click.option(
    '--here',
    is_flag=True,
    help='Take over from a machine that is no more; its running units are lost.',
)
def command(addresses: tuple[Address, ...], here: bool) -> None:
    """Start a supervisor where one is needed: one that died, with its machine perhaps, is replaced.

    Units that still run are found and followed, queued ones started. Where a supervisor is at work, nothing changes.

    \b
    Examples:
      xmanager supervise 12
      xmanager supervise 12 --here   its machine is no more
    """
    with session.open_store() as store:
        for experiment_id in waiting.experiments_of(addresses):
            click.echo(_supervise(store, experiment_id, here))


def _supervise(store: Store, experiment_id: int, here: bool) -> str:
    from xmanager.store.values import ACTIVE_STATES

    record = store.experiment(experiment_id)
    active = {state: n for state, n in record.counts.items() if state in ACTIVE_STATES}
    if not active and not store.requests(experiment_id):
        states = wording.states(record.counts) or 'no units'
        return f'experiment {experiment_id} needs no supervisor: {states}'
    if here and not _take_over(store, experiment_id):
        return (
            f'experiment {experiment_id} is supervised already: {store.holder(experiment_id).name}'
        )
    from xmanager.launch import wake

    wake(store.home, experiment_id)
    return f'experiment {experiment_id} is supervised: {wording.states(active) or "a request"}'


def _take_over(store: Store, experiment_id: int) -> bool:
    """Says that the experiment belongs here; False if somebody supervises it, here or elsewhere."""
    from xmanager.store.presence import Presence
    from xmanager.supervise.tenure import holder_of

    lock = Presence(store.home.experiment_folder(experiment_id)).supervise()
    if lock is None:
        return False
    try:
        return store.claim(experiment_id, holder_of(store.home), 0.0) is not None
    finally:
        lock.release()
