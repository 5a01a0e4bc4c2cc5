"""`xmanager list`: experiments, the newest first."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from xmanager.cli import printing, session, tables, terminal, wording
from xmanager.cli.parameters import Whole

if TYPE_CHECKING:
    from xmanager.store import Store
    from xmanager.store.values import ExperimentRecord

_STATES = ('queued', 'running', 'completed', 'failed', 'stopped', 'lost', 'empty')

_COLUMNS = (
    tables.Column('ID', right=True),
    tables.Column('TITLE', least=12),
    tables.Column('STATUS', colour=lambda cell: terminal.state_colour(cell.partition(' ')[0])),
    tables.Column('UNITS', least=26),
    tables.Column('CREATED'),
    tables.Column('DURATION', right=True),
    tables.Column('USER', optional=True),
)


@click.command('list')
@click.option(
    '--limit',
    type=Whole(0),
    default=50,
    metavar='N',
    help='At most N; 0 shows all. [default: 50]',
)
@click.option('--status', type=click.Choice(_STATES), help='Only those in this state.')
@click.option('--user', metavar='U', help='Only those that this user launched.')
@click.option(
    '--title', metavar='TEXT', help='Only those with this text in the title, in any case.'
)
@click.option('--json', 'as_json', is_flag=True, help='As JSON: docs/reference/json.md.')
def command(
    limit: int, status: str | None, user: str | None, title: str | None, as_json: bool
) -> None:
    """List experiments, the newest first.

    An experiment is as well off as its worst unit; while a unit is active, it runs.

    \b
    Examples:
      xmanager list --status failed
      xmanager list --user ada --title cifar --limit 0
      xmanager list --json | jq '.experiments[].title'
    """
    with session.open_store(readonly=True) as store:
        found = store.experiments(status=status, user=user, title=title)
        records = session.all_looked_after(store, found[: limit or None])
        more = len(found) - len(records)
        if as_json:
            _print_json(records, more)
        else:
            _print_table(store, records, more, is_filtered=bool(status or user or title))


def _print_json(records: Sequence[ExperimentRecord], more: int) -> None:
    from xmanager.cli import views

    now = time.time()
    shown = [views.experiment(record, now) for record in records]
    printing.print_json(views.document(experiments=shown, more=more))


def _print_table(
    store: Store, records: Sequence[ExperimentRecord], more: int, *, is_filtered: bool
) -> None:
    if not records:
        hint = '' if is_filtered else ': xmanager launch FILE makes one'
        terminal.note(f'no {"such " if is_filtered else ""}experiment in {store.home.path}{hint}')
        return
    now = time.time()
    tables.show(_COLUMNS, [_row(store, record, now) for record in records])
    if more > 0:
        terminal.remark(f'… {more:,} more: --limit 0 shows all')


def _row(store: Store, record: ExperimentRecord, now: float) -> list[str]:
    from xmanager.store.wording import duration

    when = (
        wording.age(record.created_at, now)
        if terminal.is_terminal()
        else wording.iso(record.created_at)
    )
    return [
        str(record.id),
        record.title,
        f'{record.state} paused' if record.paused_at is not None else record.state,
        wording.counts(_counts(store, record)),
        when,
        duration(wording.experiment_seconds(record, now)),
        record.user,
    ]


def _counts(store: Store, record: ExperimentRecord) -> Mapping[str, int]:
    waits = store.waits(record.id) if record.counts.get('starting') else []
    return wording.shown_counts(record.counts, waits)
