"""The store as commands use it: opened for as long as a command runs, and asked for what addresses name."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xmanager.cli import terminal

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store
    from xmanager.store.values import ExperimentRecord, TaskRecord, UnitRecord


@contextmanager
def open_store(*, readonly: bool = False) -> Iterator[Store]:
    """The store of this user's home; `readonly` makes nothing and reads a home that can't be written."""
    from xmanager.store import Home, Store

    store = Store.open(Home.locate(), readonly=readonly, notify=terminal.note)
    try:
        yield store
    finally:
        store.close()


def looked_after(store: Store, record: ExperimentRecord) -> ExperimentRecord:
    """The experiment as it is, also if its supervisor comes on demand only."""
    return all_looked_after(store, [record])[0]


def all_looked_after(store: Store, records: Sequence[ExperimentRecord]) -> list[ExperimentRecord]:
    """These experiments as they are, also if their supervisors come on demand only."""
    from xmanager.store.presence import Presence
    from xmanager.store.values import ACTIVE_STATES

    active = [record for record in records if record.counts.keys() & ACTIVE_STATES]
    if any(Presence(record.folder).comes_on_demand() for record in active):
        from xmanager.launch.on_demand import look_after

        if look_after(store, records):
            return [store.experiment(record.id) for record in records]
    return [*records]


def actor(command: str) -> str:
    """Who asks, for the unit's history."""
    try:
        return f'{getpass.getuser()} (xmanager {command})'
    except (KeyError, OSError):
        return f'xmanager {command}'


def find_units(store: Store, where: Address, *, with_tasks: bool = True) -> list[UnitRecord]:
    """The units that an address names; NotFoundError, naming what exists, if there is no such thing."""
    record = store.experiment(where.experiment_id)
    if not where.label:
        return store.units(record.id, with_tasks=with_tasks)
    return [find_unit(store, record, where.label)]


def find_unit(store: Store, experiment: ExperimentRecord, label: str) -> UnitRecord:
    """One unit of an experiment."""
    from xmanager.errors import NotFoundError

    try:
        return store.unit_by_label(experiment.id, label)
    except NotFoundError:
        raise NotFoundError(
            f'experiment {experiment.id} has no unit {label}: it has {_units_of(store, experiment.id)}'
        ) from None


def find_tasks(unit: UnitRecord, job: str) -> tuple[TaskRecord, ...]:
    """The job of this name, or with an empty name all jobs of the unit."""
    from xmanager.errors import NotFoundError

    tasks = tuple(record for record in unit.tasks if job in ('', record.task.name))
    if job and not tasks:
        names = [record.task.name for record in unit.tasks]
        raise NotFoundError(
            f'unit {unit.experiment_id}.{unit.label} has no job {job}: '
            f'it has {", ".join(names) or "no jobs"}'
        )
    return tasks


def _units_of(store: Store, experiment_id: int) -> str:
    """`units 1 to 12 and a1`: numbers have no gaps."""
    from xmanager.store import AUXILIARY, WORK

    spans = []
    for kind, letter in ((WORK, ''), (AUXILIARY, 'a')):
        last = sum(store.counts(experiment_id, kind).values())
        if last:
            spans.append(f'{letter}1 to {letter}{last}' if last > 1 else f'{letter}1')
    return f'units {" and ".join(spans)}' if spans else 'no units'
