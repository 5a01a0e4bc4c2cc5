"""`xmanager stop`: asks for units to be stopped, and waits until they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xmanager.cli import session, terminal, waiting, wording
from xmanager.cli.address import Address
from xmanager.cli.parameters import addresses as takes_addresses

if TYPE_CHECKING:
    from xmanager.store import Store
    from xmanager.store.values import UnitRecord


@click.command('stop')
@takes_addresses(2)
@click.option('-m', '--message', default='', metavar='TEXT', help='Why; kept with each unit.')
@click.option('--no-wait', is_flag=True, help='Ask, and do not wait until they have ended.')
def command(addresses: tuple[Address, ...], message: str, no_wait: bool) -> None:
    """Stop units that have not ended, and wait until no process of them is left.

    \b
    Examples:
      xmanager stop 12                        all units of experiment 12
      xmanager stop 12.3 12.4 -m 'diverges'   two of them
    """
    with session.open_store() as store:
        targets = [
            Target(store, experiment_id, [a for a in addresses if a.experiment_id == experiment_id])
            for experiment_id in waiting.experiments_of(addresses)
        ]
        for target in targets:
            target.request(message)
        if not no_wait:
            _wait([where for target in targets for where in target.asked], store)
        for target in targets:
            click.echo(target.asked_sentence() if no_wait else target.stopped_sentence())


def _wait(asked: Sequence[Address], store: Store) -> None:
    try:
        if asked:
            waiting.until_ended(store, asked, 'stopping')
    except KeyboardInterrupt:
        terminal.note('no longer waiting; the request to stop stands')
        raise


class Target:
    """What is to be stopped of one experiment: all of it, or some of its units."""

    def __init__(self, store: Store, experiment_id: int, addresses: Sequence[Address]) -> None:
        self._store = store
        self._id = experiment_id
        self._is_whole = any(not where.label for where in addresses)
        found: dict[int, UnitRecord] = {}
        for where in addresses:
            for unit in session.find_units(store, where, with_tasks=False):
                found[unit.id] = unit
        self._active = [unit for unit in found.values() if unit.is_active]
        self._ended = [unit for unit in found.values() if not unit.is_active]

    @property
    def asked(self) -> list[Address]:
        """What to wait for; nothing if all had ended before."""
        if not self._active:
            return []
        if self._is_whole:
            return [Address(self._id)]
        return [Address(self._id, unit.label) for unit in self._active]

    def request(self, message: str) -> None:
        """Writes the request and makes sure that somebody reads it."""
        if not self._active:
            return
        from xmanager.launch import wake

        unit_ids = None if self._is_whole else [unit.id for unit in self._active]
        self._store.request(
            self._id, unit_ids, 'stop', message=message, actor=session.actor('stop')
        )
        wake(self._store.home, self._id)

    def asked_sentence(self) -> str:
        return self._sentence('asked to stop', len(self._active), {})

    def stopped_sentence(self) -> str:
        after = Counter(
            unit.state
            for unit in self._store.units_by_id([u.id for u in self._active], with_tasks=False)
        )
        return self._sentence('stopped', after.pop('stopped', 0), after)

    def _sentence(self, verb: str, count: int, otherwise: dict[str, int]) -> str:
        if not self._active:
            return self._nothing_to_stop()
        if count == 1 and len(self._active) == 1 and not self._is_whole and not self._ended:
            return f'{verb} unit {self._id}.{self._active[0].label}'
        words = f'{verb} {wording.plural(count, "unit")} of experiment {self._id}'
        if otherwise:
            words += f'; {wording.states(otherwise)} before they could be stopped'
        if self._ended:
            words += f'; {len(self._ended):,} had ended before'
        return words

    def _nothing_to_stop(self) -> str:
        if not self._ended:
            return f'experiment {self._id} has no units'
        states = wording.states(Counter(unit.state for unit in self._ended))
        if self._is_whole:
            return f'experiment {self._id} had ended before: {states}'
        names = ', '.join(f'{self._id}.{unit.label}' for unit in self._ended)
        return f'{names} had ended before: {states}'
