"""`xmanager move`: lets units start before or after others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from xmanager.cli import session, waiting, wording
from xmanager.cli.parameters import addresses as takes_addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store
    from xmanager.store.values import UnitRecord

IMPORTANCE: Final = {'high': 1, 'normal': 0, 'low': -1}


@click.command('move')
@takes_addresses(2)
@click.option(
    '--importance',
    type=click.Choice(list(IMPORTANCE)),
    required=True,
    help='Units of high importance start before normal ones, those before low ones.',
)
def command(addresses: tuple[Address, ...], importance: str) -> None:
    """Let units that wait start earlier or later than others; what runs is not interrupted.

    Within one importance, it is first come, first served.

    \b
    Examples:
      xmanager move 12 --importance low         all units of experiment 12 that have not ended
      xmanager move 12.3 12.4 --importance high
    """
    with session.open_store() as store:
        targets = [
            _Target(store, experiment_id, addresses)
            for experiment_id in waiting.experiments_of(addresses)
        ]
        for target in targets:
            click.echo(target.move(importance))


class _Target:
    """What is to be moved of one experiment. Made before anything is moved: it fails if something isn't there."""

    def __init__(self, store: Store, experiment_id: int, addresses: Sequence[Address]) -> None:
        self._store = store
        self._id = experiment_id
        found: dict[int, UnitRecord] = {}
        for where in addresses:
            if where.experiment_id == experiment_id:
                units = session.find_units(store, where, with_tasks=False)
                found |= {unit.id: unit for unit in units}
        self._active = [unit for unit in found.values() if unit.is_active]
        self._ended = [unit for unit in found.values() if not unit.is_active]

    def move(self, importance: str) -> str:
        """Moves the units and says what has changed."""
        if not self._active:
            return self._nothing_to_move()
        moved = self._store.set_importance(
            [unit.id for unit in self._active], IMPORTANCE[importance], actor=session.actor('move')
        )
        if moved:
            from xmanager.launch import wake

            wake(self._store.home, self._id)
        return self._sentence(len(moved), importance) + self._elsewhere()

    def _sentence(self, moved: int, importance: str) -> str:
        if len(self._active) == 1 and not self._ended:
            unit = f'unit {self._id}.{self._active[0].label}'
            return f'moved {unit} to {importance}' if moved else f'{unit} is {importance} already'
        words = f'moved {wording.plural(moved, "unit")} of experiment {self._id} to {importance}'
        if same := len(self._active) - moved:
            words += f'; {same:,} {"was" if same == 1 else "were"} so already'
        if self._ended:
            words += f'; {len(self._ended):,} had ended before'
        return words

    def _elsewhere(self) -> str:
        taken = [unit for unit in self._active if unit.state == 'starting' and unit.reference]
        if not taken:
            return ''
        where = wording.engines(unit.backend for unit in taken)
        return f'; {len(taken):,} of them, in the queue of {where}, keep their place there'

    def _nothing_to_move(self) -> str:
        if not self._ended:
            return f'experiment {self._id} has no units'
        count = wording.plural(len(self._ended), 'unit')
        return f'nothing to move in experiment {self._id}: {count} had ended before'
