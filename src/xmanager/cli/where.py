"""`xmanager where`: the folder of an experiment, a unit or a job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmanager.cli import session
from xmanager.cli.parameters import addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store


@click.command('where')
@addresses(3, many=False)
def command(where: Address) -> None:
    """Print the folder of an experiment, a unit or a job.

    \b
    Examples:
      cd "$(xmanager where 12)"
      ls "$(xmanager where 12.3.train)/out"
    """
    with session.open_store(readonly=True) as store:
        # The very bytes: a path need not be text.
        click.echo(os.fsencode(_folder(store, where)))


def _folder(store: Store, where: Address) -> Path:
    experiment = store.experiment(where.experiment_id)
    if not where.label:
        return experiment.folder
    unit = session.find_unit(store, experiment, where.label)
    return session.find_tasks(unit, where.job)[0].folder if where.job else unit.folder
