"""`xmanager queue`: who waits, since when, for what, and who has it."""

from __future__ import annotations

import getpass
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xmanager.cli import printing, session, tables, terminal
from xmanager.cli.parameters import AddressType

if TYPE_CHECKING:
    from pathlib import Path

    from xmanager.cli.address import Address
    from xmanager.ledger import Entry
    from xmanager.ledger.explain import Waiting
    from xmanager.ledger.sentences import Speaker

_COLUMNS = (
    tables.Column('HOLDER', least=16),
    tables.Column('UNITS', right=True),
    tables.Column('HOLDS', least=24),
    tables.Column('SINCE'),
    tables.Column('ENDS BY', optional=True),
)


@click.command('queue')
@click.argument('addresses', type=AddressType(1), metavar='[ID]…', nargs=-1)
@click.option('--json', 'as_json', is_flag=True, help='As JSON: docs/reference/json.md.')
def command(addresses: tuple[Address, ...], as_json: bool) -> None:
    """Tell who waits, since when, for what, and who has it: those first whose turn it is next.

    Of this home by its database; of other homes and users by the ledger that this host's supervisors keep. Then who
    holds what on this host.

    \b
    Examples:
      xmanager queue
      xmanager queue 12                 only what waits of experiment 12
      xmanager queue --json | jq -r '.waiting[].sentence'
    """
    from xmanager.launch import queue
    from xmanager.ledger.sentences import Speaker

    now = time.time()
    folder, entries = _read_ledger()
    only = list(dict.fromkeys(where.experiment_id for where in addresses))
    with session.open_store(readonly=True) as store:
        waiting = queue.waiting(store, folder, entries, now, only)
        speaker = Speaker(getpass.getuser(), str(store.home.path), now)
    if as_json:
        from xmanager.cli import queue_views

        shown = [queue_views.waiting(one, speaker.sentence(one)) for one in waiting]
        held = queue_views.holding(entries)
        printing.print_json(queue_views.document(waiting=shown, holding=held))
    else:
        _print_waiting(waiting, speaker)
        _print_holding(entries, speaker)


def _read_ledger() -> tuple[Path, list[Entry]]:
    from xmanager.launch import queue

    folder = queue.ledger_folder()
    try:
        return folder, queue.read_ledger(folder)
    except OSError as error:
        terminal.note(f'the ledger of this host, {folder}, can not be read: {error.strerror}')
        return folder, []


def _print_waiting(waiting: Sequence[Waiting], speaker: Speaker) -> None:
    for one in waiting:
        click.echo(terminal.one_line(speaker.sentence(one)))
    if not waiting:
        click.echo('nothing waits')


def _print_holding(entries: Sequence[Entry], speaker: Speaker) -> None:
    rows = [_row(entry, speaker) for entry in entries if entry.holds]
    if strangers := _strangers(entries):
        rows.append(['others', '', strangers, '', ''])
    if rows:
        click.echo()
        tables.show(_COLUMNS, rows)


def _strangers(entries: Sequence[Entry]) -> str:
    """The devices that are left alone by those who wait for one."""
    from xmanager.ledger.sentences import devices_in_words

    found: dict[str, set[str]] = {}
    for entry in entries:
        for resource, devices in entry.strangers.items():
            found.setdefault(resource, set()).update(devices)
    return ', '.join(
        devices_in_words(name, sorted(devices)) for name, devices in found.items() if devices
    )


def _row(entry: Entry, speaker: Speaker) -> list[str]:
    from xmanager.ledger.explain import who
    from xmanager.ledger.sentences import holds_in_words

    holder = speaker.who(who(entry)) + ('' if entry.alive else ' (no supervisor)')
    ends = [hold.ends_by for hold in entry.holds]
    latest = None if None in ends else max(end for end in ends if end is not None)
    return [
        holder,
        f'{len(entry.holds):,}',
        holds_in_words(entry.holds),
        speaker.when(min(hold.since for hold in entry.holds)),
        '' if latest is None else speaker.when(latest),
    ]
