"""An experiment in a real store, whose units a test moves as a supervisor would."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest

from xmanager.launch.session import Session
from xmanager.store import (
    Change,
    Event,
    ExperimentRecord,
    Home,
    NewExperiment,
    Standing,
    Store,
    UnitRecord,
)
from xmanager.testing.store_fixtures import SettableClock, a_unit, add

DEADLINE = 60.0
PATHS: dict[str, tuple[str, ...]] = {
    'queued': (),
    'running': ('starting', 'running'),
    'completed': ('starting', 'running', 'completed'),
    'failed': ('starting', 'running', 'failed'),
    'lost': ('starting', 'running', 'lost'),
    'stopped': ('stopped',),
}

Result = TypeVar('Result')


class FaultyStore(Store):
    """A store whose next calls of a method raise what `faults` has for it, one each; `calls` are those made."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.faults: dict[str, list[Exception]] = {}
        self.calls: list[tuple[str, threading.Thread]] = []

    def add_units(self, *args: Any, **more: Any) -> list[tuple[UnitRecord, bool]]:
        self._called('add_units')
        return super().add_units(*args, **more)

    def unit(self, unit_id: int) -> UnitRecord:
        self._called('unit')
        return super().unit(unit_id)

    def units_by_id(self, *args: Any, **more: Any) -> list[UnitRecord]:
        self._called('units_by_id')
        return super().units_by_id(*args, **more)

    def standing(self, *args: Any) -> list[Standing]:
        self._called('standing')
        return super().standing(*args)

    def events(self, *args: Any, **more: Any) -> list[Event]:
        self._called('events')
        return super().events(*args, **more)

    def _called(self, method: str) -> None:
        self.calls.append((method, threading.current_thread()))
        if self.faults.get(method):
            raise self.faults[method].pop(0)


@attrs.define
class Lab:
    """One experiment of a home of its own."""

    home: Home
    store: FaultyStore
    experiment: ExperimentRecord
    clock: SettableClock

    def add(self, state: str = 'queued', **facts: Any) -> UnitRecord:
        """Adds one unit and brings it to this state."""
        [unit] = add(self.store, self.experiment, a_unit(**facts))
        for step in PATHS[state]:
            self.move(unit, step)
        return self.store.unit(unit.id)

    def move(self, unit: UnitRecord, state: str, **facts: Any) -> UnitRecord:
        """Moves the unit, and returns it with its tasks."""
        assert self.store.move([Change(unit.id, state, **facts)], actor='test')
        return self.store.unit(unit.id)

    def write_log(self, unit: UnitRecord, data: bytes, task: int = 0) -> Path:
        """Appends to the log of one of the unit's tasks."""
        folder = unit.tasks[task].folder
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / 'output.log'
        with log.open('ab') as file:
            file.write(data)
        return log


async def in_time(awaitable: Awaitable[Result]) -> Result:
    """What is awaited; a failure, instead of a test that hangs."""
    return await asyncio.wait_for(awaitable, DEADLINE)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's, and no launch of another test, is seen."""
    for name in [name for name in os.environ if name.startswith('XM_')]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(Session, 'any_entered', False)
    monkeypatch.setattr(Session, 'any_failed', False)
    monkeypatch.setattr(Session, '_told', [])


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    clock = SettableClock()
    home = Home(tmp_path / 'home')
    with FaultyStore.open(home, clock=clock) as store:
        assert isinstance(store, FaultyStore)
        experiment = store.create_experiment(NewExperiment('cifar10', 'ada', 'host'))
        yield Lab(home, store, experiment, clock)
