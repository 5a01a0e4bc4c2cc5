"""`xmanager show`: an experiment and its units, or a unit with its jobs and its history."""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from xmanager.cli import printing, session, tables, terminal, wording
from xmanager.cli.parameters import addresses

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store
    from xmanager.store.values import Event, ExperimentRecord, UnitRecord

_LOOKS, _PAUSE = 6, 0.1

_COLUMNS = (
    tables.Column('UNIT', right=True),
    tables.Column('STATUS', colour=terminal.state_colour),
    tables.Column('ARGS', least=24),
    tables.Column('STARTED', optional=True),
    tables.Column('DURATION', right=True),
    tables.Column('MESSAGE', least=24),
)


@click.command('show')
@addresses(2, many=False)
@click.option('--json', 'as_json', is_flag=True, help='As JSON: docs/reference/json.md.')
def command(where: Address, as_json: bool) -> None:
    """Show an experiment and its units, or a unit with its jobs and its history.

    \b
    Examples:
      xmanager show 12
      xmanager show 12.3            how unit 3 was run, and how it ended
      xmanager show 12 --json | jq '.experiment.units[] | select(.state == "failed") | .args'
    """
    with session.open_store(readonly=True) as store:
        if where.label:
            _show_unit(store, where, as_json)
        else:
            _show_experiment(store, where, as_json)


def _show_experiment(store: Store, where: Address, as_json: bool) -> None:
    record = session.looked_after(store, store.experiment(where.experiment_id))
    units = store.units(record.id, with_tasks=as_json)
    now = time.time()
    if as_json:
        from xmanager.cli import views

        shown = [views.unit(unit, now) for unit in units]
        view = views.experiment(record, now) | {'units': shown}
        printing.print_json(views.document(experiment=view))
        return
    _print_header(record, Counter(map(wording.shown_state, units)), now)
    if units:
        click.echo()
        tables.show(_COLUMNS, [_row(unit, now) for unit in units])
    if any(unit.is_active for unit in units) and _is_left_alone(store, record):
        terminal.note(
            f'nobody supervises experiment {record.id}: what is shown may be out of date, and {_left(units)}. '
            f'xmanager supervise {record.id} goes on with it'
        )


def _left(units: Sequence[UnitRecord]) -> str:
    """What units miss while nobody supervises; what has a reference is in the queue of its engine, and starts there."""
    taken = any(wording.shown_state(unit) == 'waiting' for unit in units)
    return 'no other unit is submitted' if taken else 'no unit starts'


def _is_left_alone(store: Store, record: ExperimentRecord) -> bool:
    """Whether its supervisor was killed, as far as we may look."""
    from xmanager.store.presence import Presence

    presence = Presence(record.folder)
    if not os.access(record.folder, os.W_OK) or presence.comes_on_demand():
        return False
    for _ in range(_LOOKS):  # One that is just starting has no lock yet.
        if presence.is_supervised():
            return False
        time.sleep(_PAUSE)
    from xmanager.launch.wake import is_supervised_elsewhere

    return not is_supervised_elsewhere(store, record.id)


def _print_header(record: ExperimentRecord, counts: Mapping[str, int], now: float) -> None:
    from xmanager.store import masking
    from xmanager.store.wording import duration

    title = terminal.style(terminal.one_line(record.title), 'bold')
    paused = terminal.style('paused', 'yellow') if record.paused_at is not None else ''
    printing.print_heading(str(record.id), title, terminal.state(record.state), paused)
    command = [record.script, *masking.mask_argv(record.argv)] if record.script else []
    printing.print_fields(
        [
            ('units', wording.counts(counts)),
            ('user', f'{record.user}@{record.host}'),
            ('created', _when(record.created_at, now)),
            ('paused', _when(record.paused_at, now)),
            ('duration', duration(wording.experiment_seconds(record, now))),
            ('script', terminal.one_line(shlex.join(command))),
            ('folder', str(record.folder)),
        ]
    )


def _row(unit: UnitRecord, now: float) -> list[str]:
    from xmanager.store.wording import arguments, duration

    return [
        unit.label,
        wording.shown_state(unit),
        arguments(unit.args),
        _started(unit.started_at, now),
        duration(wording.elapsed(unit.started_at, unit.ended_at, now)),
        unit.message,
    ]


def _started(at: float | None, now: float) -> str:
    if at is None:
        return ''
    return wording.age(at, now) if terminal.is_terminal() else wording.iso(at)


def _show_unit(store: Store, where: Address, as_json: bool) -> None:
    experiment = session.looked_after(store, store.experiment(where.experiment_id))
    unit = session.find_unit(store, experiment, where.label)
    events = store.events(unit_id=unit.id)
    if as_json:
        from xmanager.cli import views

        view = views.unit(unit, time.time()) | {'history': views.history(events)}
        printing.print_json(views.document(unit=view))
        return
    from xmanager.cli import jobs

    _print_unit(unit, experiment)
    for record in unit.tasks:
        click.echo()
        jobs.print_job(record)
    _print_history(events)


def _print_unit(unit: UnitRecord, experiment: ExperimentRecord) -> None:
    from xmanager.store.wording import arguments, duration

    now = time.time()
    title = terminal.style(terminal.one_line(experiment.title), 'bold')
    name = f'{experiment.id}.{unit.label}'
    printing.print_heading(name, title, terminal.state(wording.shown_state(unit)))
    printing.print_fields(
        [
            ('message', terminal.one_line(unit.message)),
            ('args', terminal.one_line(arguments(unit.args))),
            ('identity', terminal.one_line(unit.identity)),
            ('tags', terminal.one_line(' '.join(unit.tags))),
            ('importance', str(unit.importance or '')),
            ('created', _when(unit.created_at, now)),
            ('started', _when(unit.started_at, now)),
            ('ended', _when(unit.ended_at, now)),
            ('duration', duration(wording.elapsed(unit.started_at, unit.ended_at, now))),
            ('attempt', str(unit.attempt)),
            ('back end', ' '.join(word for word in (unit.backend, unit.reference) if word)),
            ('folder', str(unit.folder)),
        ]
    )


def _print_history(events: Sequence[Event]) -> None:
    if not events:
        return
    click.echo()
    printing.print_heading(terminal.style('history', 'bold'))
    precise = wording.local_time if terminal.is_terminal() else wording.iso
    for event in events:
        moved = terminal.state(event.to_state)
        padding = ' ' * (10 - len(event.to_state))
        why = f'{event.why}, ' if event.why else ''
        click.echo(
            f'  {precise(event.at)}  {moved}{padding}  {terminal.one_line(why + event.actor)}',
            color=True,
        )


def _when(at: float | None, now: float) -> str:
    if at is None:
        return ''
    if not terminal.is_terminal():
        return wording.iso(at)
    return f'{wording.local_time(at)}  ({wording.age(at, now)})'
