"""`xmanager wait`: until experiments, or units of them, have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xmanager.cli import session, waiting, wording
from xmanager.cli.parameters import addresses as takes_addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store


@click.command('wait')
@takes_addresses(2)
@click.pass_context
def command(ctx: click.Context, addresses: tuple[Address, ...]) -> None:
    """Wait until experiments, or units of them, have ended.

    Exits with 0 only if all their work units have completed. Auxiliary units are waited for but not judged: they are
    stopped when the work is done.

    \b
    Examples:
      xmanager wait 12 && ./evaluate.sh
      xmanager wait 12.3 13
    """
    addresses = tuple(dict.fromkeys(addresses))
    with session.open_store() as store:
        for where in addresses:
            session.find_units(store, where, with_tasks=False)
        _wake(store, addresses)
        what = f'waiting for {", ".join(map(str, addresses))}'
        tallies = waiting.until_ended(store, addresses, what)
        for where, tally in tallies.items():
            click.echo(f'{where}: {wording.states(tally) or "no units"}')
        if not all(_has_completed(store, where) for where in addresses):
            ctx.exit(1)


def _wake(store: Store, addresses: tuple[Address, ...]) -> None:
    """A supervisor that died, with its machine perhaps, would let us wait for ever."""
    from xmanager.store.values import ACTIVE_STATES

    active = [where for where in addresses if waiting.tally(store, where).keys() & ACTIVE_STATES]
    for experiment_id in waiting.experiments_of(addresses):
        asked = any(where.experiment_id == experiment_id for where in active)
        if asked or store.requests(experiment_id):
            from xmanager.launch import wake

            wake(store.home, experiment_id)


def _has_completed(store: Store, where: Address) -> bool:
    from xmanager.store.values import COMPLETED, WORK

    if where.label:
        return store.unit_by_label(where.experiment_id, where.label).state == COMPLETED
    counts = store.counts(where.experiment_id, WORK) or store.counts(where.experiment_id)
    return counts.keys() == {COMPLETED}
