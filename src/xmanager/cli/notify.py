"""`xmanager notify`: hands an experiment or a unit, as `show --json` prints it, to a command or a webhook."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import click
from click.core import ParameterSource

from xmanager.cli import failures, session, terminal, wording
from xmanager.cli.parameters import addresses as takes_addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.cli.views import View
    from xmanager.launch.notify_target import Command, Webhook
    from xmanager.store import Store
    from xmanager.store.values import ExperimentRecord

UNIT_FAILED: Final = 'unit-failed'
EXPERIMENT_ENDED: Final = 'experiment-ended'


class Notice(NamedTuple):
    """One piece of news, as it is delivered."""

    where: Address
    event: str
    body: bytes
    target: Command | Webhook


MOST_UNITS = 1000
"""Units that a notice of an experiment tells of."""


@click.command('notify')
@takes_addresses(2)
@click.option(
    '--event',
    type=click.Choice((UNIT_FAILED, EXPERIMENT_ENDED)),
    help='What to say. [default: unit-failed of a unit, experiment-ended of an experiment]',
)
@click.option(
    '--to',
    'target',
    metavar='TARGET',
    envvar='XM_NOTIFY',
    help='A command or the URL of a webhook. [default: $XM_NOTIFY]',
)
@click.pass_context
def command(
    ctx: click.Context, addresses: tuple[Address, ...], event: str | None, target: str | None
) -> None:
    """Tell a command or a webhook about experiments or units, as --xm_notify does when they fail or end.

    Use it to try a command or a webhook. Each address is delivered by itself, as JSON: on the standard input of a
    command, which runs in the folder from which the experiment was launched, or posted to a webhook.

    \b
    Examples:
      xmanager notify 12 --to ./tell.sh
      xmanager notify 12.3 12.4 --event unit-failed     to $XM_NOTIFY
    """
    if not target:
        raise click.UsageError('there is nobody to notify: say --to TARGET, or set XM_NOTIFY', ctx)
    for where in addresses:
        _refuse_mismatch(where, event, ctx)
    is_flag = ctx.get_parameter_source('target') is ParameterSource.COMMANDLINE
    with session.open_store(readonly=True) as store:
        notices = [
            _notice(store, where, target, '--to' if is_flag else 'XM_NOTIFY')
            for where in dict.fromkeys(addresses)
        ]
    with _orderly_termination():
        delivered = [_deliver(notice) for notice in notices]
    if not all(delivered):
        ctx.exit(failures.FAILED)


def _refuse_mismatch(where: Address, event: str | None, ctx: click.Context) -> None:
    if event == UNIT_FAILED and not where.label:
        raise click.UsageError(f'{event} is said of a unit: write {where}.3 for unit 3', ctx)
    if event == EXPERIMENT_ENDED and where.label:
        raise click.UsageError(f'{event} is said of an experiment: write {where[0]}', ctx)


def _notice(store: Store, where: Address, target: str, given_as: str) -> Notice:
    import json

    from xmanager.launch import notify_target

    experiment = store.experiment(where.experiment_id)
    # A relative path in it is relative to where the launch script was run: on trial here, and later for good.
    parsed = notify_target.parse(target, experiment.cwd, given_as)
    is_unit = bool(where.label)
    view = (
        _of_unit(store, experiment, where.label) if is_unit else _of_experiment(store, experiment)
    )
    body = json.dumps(view, separators=(',', ':')).encode() + b'\n'
    return Notice(where, view['event'], body, parsed)


def _of_unit(store: Store, experiment: ExperimentRecord, label: str) -> View:
    from xmanager.cli import views
    from xmanager.store.wording import arguments

    unit = session.find_unit(store, experiment, label)
    text = f'unit {experiment.id}.{label} of {experiment.title!r} {unit.state}'
    text += f' ({arguments(unit.args)})' if unit.args else ''
    text += f': {unit.message}' if unit.message else ''
    shown = views.unit(unit, time.time())
    shown['history'] = views.history(store.events(unit_id=unit.id))
    return views.document(event=UNIT_FAILED, text=terminal.one_line(text), unit=shown)


def _of_experiment(store: Store, record: ExperimentRecord) -> View:
    from xmanager.cli import views

    now = time.time()
    counts = wording.states(record.counts) or 'no units'
    text = f'experiment {record.id}, {record.title!r}, {record.state}: {counts}'
    shown = views.experiment(record, now)
    total = sum(record.counts.values())
    # Of very many, those that did not complete: nobody takes 80 MB for a notice.
    states = None if total <= MOST_UNITS else record.counts.keys() - {'completed'}
    units = store.units(record.id, states=states, limit=MOST_UNITS)
    shown['units'] = [views.unit(unit, now) for unit in units]
    if left_out := total - len(units):
        shown['units_left_out'] = left_out
    return views.document(event=EXPERIMENT_ENDED, text=terminal.one_line(text), experiment=shown)


def _deliver(notice: Notice) -> bool:
    """Delivers one notice and says whether it arrived."""
    from xmanager.cli import delivering

    marks = {
        'XM_EVENT': notice.event,
        'XM_EXPERIMENT_ID': str(notice.where.experiment_id),
        # Of an experiment: empty, rather than that of the job in which this may be called.
        'XM_WORK_UNIT_ID': notice.where.label,
    }
    headers = {
        'Content-Type': 'application/json',
        'User-Agent': 'xmanager',
        'X-XManager-Event': notice.event,
    }
    trouble = delivering.deliver(notice.target, notice.body, marks, headers)
    if trouble:
        failures.say(f'{notice.event} of {notice.where}: {terminal.one_line(trouble)}')
    else:
        click.echo(f'told {notice.target.name} {notice.event} of {notice.where}')
    return not trouble


@contextmanager
def _orderly_termination() -> Iterator[None]:
    """Lets SIGTERM end us by an exception, so that a command that runs for us is ended too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
