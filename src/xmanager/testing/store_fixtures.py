"""What the parts of the contract of a store share: a store in an empty home, and units to put into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xmanager.backend import Task
from xmanager.store import (
    WORK,
    Change,
    ExperimentRecord,
    Home,
    NewExperiment,
    NewUnit,
    Store,
    UnitRecord,
)


class SettableClock:
    """Stands still until it is set."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def a_task(name: str = 'train', **fields: Any) -> Task:
    """A task as `add` would write it."""
    return Task(**{'name': name, 'full_name': '', 'argv': ('/bin/true',), 'cwd': '/', **fields})


def a_unit(kind: str = WORK, **fields: Any) -> NewUnit:
    """A queued unit of one task."""
    return NewUnit(**{'kind': kind, 'backend': 'local', 'tasks': (a_task(),), **fields})


class StoreFixtures:
    """A store, an experiment and a unit for each test."""

    def open_store(self, home: Home, clock: SettableClock) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> SettableClock:
        return SettableClock()

    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        return Home(tmp_path / 'home')

    @pytest.fixture
    def store(self, home: Home, clock: SettableClock) -> Iterator[Store]:
        with self.open_store(home, clock) as store:
            yield store

    @pytest.fixture
    def experiment(self, store: Store) -> ExperimentRecord:
        return store.create_experiment(NewExperiment('cifar10', 'ada', 'host'))

    @pytest.fixture
    def unit(self, store: Store, experiment: ExperimentRecord) -> UnitRecord:
        return add(store, experiment, a_unit())[0]


def add(store: Store, experiment: ExperimentRecord, *units: NewUnit) -> list[UnitRecord]:
    """Adds units and returns them as they were recorded."""
    return [unit for unit, _ in store.add_units(experiment.id, units, actor='test')]


def walk(store: Store, unit: UnitRecord, *states: str) -> None:
    """Moves a unit through these states."""
    for state in states:
        assert store.move([Change(unit.id, state)], actor='test'), f'{unit.state} to {state}'
