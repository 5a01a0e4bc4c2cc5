"""`xmanager restart`: asks for units that have ended to be run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xmanager.cli import session, waiting, wording
from xmanager.cli.parameters import addresses as takes_addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store
    from xmanager.store.values import UnitRecord


@click.command('restart')
@takes_addresses(2)
@click.option('--all', 'everything', is_flag=True, help='Completed units too.')
@click.option('-m', '--message', default='', metavar='TEXT', help='Why; kept with each unit.')
def command(addresses: tuple[Address, ...], everything: bool, message: str) -> None:
    """Run failed, stopped and lost units again, with the same code and arguments.

    \b
    Examples:
      xmanager restart 12        what did not complete in experiment 12
      xmanager restart 12.3      one unit of it
      xmanager restart 12 --all  all that has ended
    """
    with session.open_store() as store:
        for experiment_id in waiting.experiments_of(addresses):
            wanted = [where for where in addresses if where.experiment_id == experiment_id]
            click.echo(_restart(store, wanted, everything, message))


def _restart(store: Store, addresses: Sequence[Address], everything: bool, message: str) -> str:
    from xmanager.store.values import COMPLETED

    found: dict[int, UnitRecord] = {}
    for where in addresses:
        for unit in session.find_units(store, where, with_tasks=False):
            found[unit.id] = unit
    again = [
        unit
        for unit in found.values()
        # One without a back end has no jobs: its generator failed.
        if not unit.is_active and unit.backend and (everything or unit.state != COMPLETED)
    ]
    left = Counter(found[id].state for id in found.keys() - {unit.id for unit in again})
    if again:
        _request(store, addresses[0].experiment_id, [unit.id for unit in again], message)
    return _sentence(addresses, again, left)


def _request(store: Store, experiment_id: int, unit_ids: list[int], message: str) -> None:
    from xmanager.launch import wake

    store.request(
        experiment_id, unit_ids, 'restart', message=message, actor=session.actor('restart')
    )
    wake(store.home, experiment_id)


def _sentence(addresses: Sequence[Address], again: Sequence[UnitRecord], left: Counter[str]) -> str:
    experiment_id = addresses[0].experiment_id
    hint = ' (--all restarts the completed ones too)' if left['completed'] else ''
    if not again:
        named = ', '.join(map(str, addresses))
        return f'nothing to restart in {named}: {wording.states(left) or "no units"}{hint}'
    if len(again) == 1:
        unit = f'{experiment_id}.{again[0].label}'
        return f'restarting unit {unit}, which was {again[0].state}; to follow it: xmanager logs {unit} -f'
    states = wording.states(Counter(unit.state for unit in again))
    return (
        f'restarting {wording.plural(len(again), "unit")} of experiment {experiment_id} ({states}); '
        f'to wait for them: xmanager wait {experiment_id}'
    )
