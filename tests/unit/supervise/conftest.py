"""A supervisor over a real store, a fake engine and a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from xmanager.backend import Backend, Task
from xmanager.errors import ExecutorError
from xmanager.store import Home, NewExperiment, NewUnit, Store, UnitRecord
from xmanager.supervise.supervisor import Supervisor
from xmanager.testing.fake_backend import FakeBackend, FakeEngine


@attrs.define
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@attrs.define
class World:
    """One experiment and whoever supervises it, through a store of its own; `revive` plays the supervisor's death."""

    store: Store
    its_store: Store
    experiment_id: int
    clock: Clock
    engine: FakeEngine
    backend: FakeBackend
    supervisor: Supervisor
    amounts: dict[str, float] | None

    def add(self, *commands: str, kind: str = 'work', **facts: object) -> int:
        """Adds one unit with a job for each command; returns its id."""
        requirements = facts.pop('requirements', {'cpu': 1.0})
        options = facts.pop('options', {})
        backend = facts.pop('backend', 'fake')
        tasks = tuple(
            Task(
                name=f'job{i}',
                full_name='',
                argv=tuple(command.split()),
                cwd='/',
                requirements=requirements,  # type: ignore[arg-type]
                options=options,  # type: ignore[arg-type]
            )
            for i, command in enumerate(commands)
        )
        new = NewUnit(kind=kind, backend=backend if tasks else '', tasks=tasks, **facts)  # type: ignore[arg-type]
        [(record, _)] = self.store.add_units(self.experiment_id, [new], actor='test')
        return record.id

    def settle(self) -> None:
        """Steps until nothing happens any more at this moment."""
        quiet = 0  # Twice: what was stopped in one pass is seen to have ended in the next.
        for _ in range(1000):
            happened = self.supervisor.step()
            quiet = 0 if self.supervisor.rest() or happened else quiet + 1
            if quiet == 2:
                return
        raise AssertionError('the supervisor never comes to rest')

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.settle()

    def unit(self, unit_id: int) -> UnitRecord:
        return self.store.unit(unit_id)

    def states(self, ids: Sequence[int]) -> list[str]:
        return [self.unit(id).state for id in ids]

    def revive(self) -> None:
        """The supervisor and its back end's memory are gone; a new one takes over."""
        self.adopt_with(new_backend(self.engine, self.clock, self.amounts))

    def adopt_with(self, backend: FakeBackend) -> None:
        """As `revive`, with this back end."""
        self.backend = backend
        self.supervisor = new_supervisor(
            self.its_store, self.experiment_id, self.backend, self.clock
        )
        self.supervisor.adopt()


def new_backend(engine: FakeEngine, clock: Clock, amounts: dict[str, float] | None) -> FakeBackend:
    devices = {'local_gpu': ('0', '1')} if amounts else None
    return FakeBackend(engine=engine, clock=clock, amounts=amounts, devices=devices)


def new_supervisor(
    store: Store, experiment_id: int, backend: FakeBackend, clock: Clock
) -> Supervisor:
    def load(name: str) -> Backend:
        if name != 'fake':
            raise ExecutorError(f'No back end is called {name!r}.')
        return backend

    return Supervisor(store, experiment_id, load, clock=clock)


def new_world(folder: Path, amounts: dict[str, float] | None) -> Iterator[World]:
    clock = Clock()
    home = Home(folder / 'home')
    with Store.open(home, clock=clock) as store, Store.open(home, clock=clock) as its_own:
        record = store.create_experiment(NewExperiment(title='t', user='u', host='h'))
        engine = FakeEngine()
        backend = new_backend(engine, clock, amounts)
        supervisor = new_supervisor(its_own, record.id, backend, clock)
        yield World(store, its_own, record.id, clock, engine, backend, supervisor, amounts)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A host of 2 CPUs and 2 GPUs."""
    yield from new_world(tmp_path, {'cpu': 2.0, 'local_gpu': 2})


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[World]:
    """An engine that queues by itself."""
    yield from new_world(tmp_path, None)
