"""A home with experiments in it, a stand-in for the supervisor, and the command as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from xmanager.backend import Task, TaskObservation
from xmanager.cli.main import main
from xmanager.store import (
    FINAL_STATES,
    QUEUED,
    WORK,
    Change,
    ExperimentRecord,
    Home,
    NewExperiment,
    NewUnit,
    Store,
    UnitRecord,
)

START = 1_770_000_000.0
PATHS = {
    'queued': (),
    'starting': ('starting',),
    'running': ('starting', 'running'),
    'lost': ('starting', 'running', 'lost'),
    'completed': ('starting', 'running', 'completed'),
    'failed': ('starting', 'running', 'failed'),
    'stopped': ('stopped',),
}


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Lab:
    """Fills a home through the store, as launchers and supervisors do."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.now = START
        self.store = Store.open(home, clock=lambda: self.now)

    def experiment(
        self, *states: str, title: str = 'cifar10', user: str = 'ada', **more: Any
    ) -> ExperimentRecord:
        """An experiment with a work unit in each of these states."""
        new = NewExperiment(title=title, user=user, host='gpu-box', **more)
        record = self.store.create_experiment(new)
        if states:
            self.add(record.id, *states)
        return self.store.experiment(record.id)

    @staticmethod
    def task(name: str, *argv: str, **more: Any) -> Task:
        return Task(name=name, full_name='', argv=argv or ('/bin/true',), cwd='/tmp', **more)

    def add(
        self,
        experiment_id: int,
        *states: str,
        kind: str = WORK,
        tasks: Sequence[Task] | None = None,
        args: dict[str, Any] | None = None,
    ) -> list[UnitRecord]:
        """Units of one job `train` each (or of these tasks), moved to these states."""
        tasks = [self.task('train')] if tasks is None else tasks
        new = NewUnit(kind, 'local', tuple(tasks), args or {})
        added = self.store.add_units(experiment_id, [new] * len(states), actor='launcher')
        for (unit, _), state in zip(added, states, strict=True):
            for step in PATHS[state]:
                self.move(unit, step)
        return self.store.units_by_id([unit.id for unit, _ in added])

    def submitted(self, experiment_id: int, *messages: str) -> list[UnitRecord]:
        """Units that are in Slurm's queue, each with this message."""
        new = NewUnit(WORK, 'slurm', (self.task('train'),))
        added = self.store.add_units(experiment_id, [new] * len(messages), actor='launcher')
        for (unit, _), message in zip(added, messages, strict=True):
            self.move(unit, 'starting')
            reference = f'4711_{unit.number}@b'
            change = Change(unit.id, 'starting', reference=reference, message=message)
            self.store.move([change], actor='supervisor')
        return self.store.units_by_id([unit.id for unit, _ in added])

    def move(
        self, unit: UnitRecord, state: str, message: str = '', exit_code: int | None = None
    ) -> None:
        """Moves a unit a second after the last move; its tasks exit with it."""
        self.now += 1
        tasks = {}
        if exit_code is not None:
            seen = TaskObservation('exited', exit_code=exit_code, ended_at=self.now)
            tasks = {record.task.name: seen for record in unit.tasks}
        change = Change(unit.id, state, why=message, message=message or None, tasks=tasks)
        self.store.move([change], actor='supervisor')

    def log(self, unit: UnitRecord, content: bytes, name: str = 'output.log', job: int = 0) -> None:
        """Writes what a job of the unit has printed."""
        folder = unit.tasks[job].folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def states(self, experiment_id: int) -> list[str]:
        return [unit.state for unit in self.store.units(experiment_id)]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    path = tmp_path / 'home'
    monkeypatch.setenv('XM_HOME', str(path))
    for variable in ('XM_TRACEBACK', 'NO_COLOR', 'XM_LOCAL_RESOURCES'):
        monkeypatch.delenv(variable, raising=False)
    return Home(path)


@pytest.fixture
def lab(home) -> Iterator[Lab]:
    lab = Lab(home)
    yield lab
    lab.store.close()


@pytest.fixture
def run(home, capfd):
    """Runs the command in this process, its output piped."""

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture
def start(home):
    """Starts the command in a process of its own, to be read while it runs."""
    started = []

    def call(*arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, '-m', 'xmanager', *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def no_supervisor(monkeypatch):
    """No test of these starts a process that would outlive it."""

    def wake(_home: Home, experiment_id: int) -> None:
        pytest.fail(f'woke a supervisor for experiment {experiment_id}')

    monkeypatch.setattr('xmanager.launch.wake', wake)


@pytest.fixture
def supervisor(lab, monkeypatch):
    """Obeys requests at once, in this process; returns the ids of experiments for which it was woken."""
    woken = []

    def wake(home: Home, experiment_id: int) -> None:
        assert home == lab.home
        woken.append(experiment_id)
        for request in lab.store.requests(experiment_id):
            obey(lab, request)
            lab.store.finish_requests([request.id])

    monkeypatch.setattr('xmanager.launch.wake', wake)
    return woken


def obey(lab, request) -> None:
    wanted = {request.unit_id} - {None}
    for unit in lab.store.units(request.experiment_id):
        if wanted and unit.id not in wanted:
            continue
        if request.verb == 'stop' and unit.state not in FINAL_STATES:
            lab.move(unit, 'stopped', request.message)
        elif request.verb == 'restart' and unit.state in FINAL_STATES:
            lab.move(unit, 'restarting', request.message)
            lab.move(unit, QUEUED)
