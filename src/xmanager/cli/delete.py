"""`xmanager delete`: removes experiments for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from xmanager.cli import session, terminal, waiting, wording
from xmanager.cli.parameters import addresses as takes_addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store.values import ExperimentRecord


@click.command('delete')
@takes_addresses(1)
@click.option('-y', '--yes', is_flag=True, help='Do not ask.')
def command(addresses: tuple[Address, ...], yes: bool) -> None:
    """Delete experiments: what is recorded of them, their logs and all files in their folders.

    Asks first, and refuses while a unit is queued or running.

    \b
    Examples:
      xmanager delete 12
      xmanager delete 12 13 14 --yes
    """
    with session.open_store() as store:
        records = [store.experiment(number) for number in waiting.experiments_of(addresses)]
        for record in records:
            _refuse_if_active(record)
        for record in records:
            if yes or _confirm(record):
                store.delete_experiment(record.id)
                click.echo(f'deleted experiment {record.id}')
            else:
                click.echo(f'kept experiment {record.id}')


def _refuse_if_active(record: ExperimentRecord) -> None:
    from xmanager.errors import XManagerError
    from xmanager.store.values import ACTIVE_STATES

    active = {state: n for state, n in record.counts.items() if state in ACTIVE_STATES}
    if active:
        raise XManagerError(
            f'experiment {record.id} cannot be deleted while units are active '
            f'({wording.states(active)}): xmanager stop {record.id} first'
        )


def _confirm(record: ExperimentRecord) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError(
            'there is no terminal to ask on: say --yes to delete without being asked',
            click.get_current_context(),
        )
    units = wording.plural(sum(record.counts.values()), 'unit')
    title = terminal.one_line(record.title)
    question = f'Delete experiment {record.id} ({title}), {units} and {record.folder}?'
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        raise
