"""Units on a real cluster, as a supervisor submits and observes them, and what may be done to them meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.engines.slurm import Cluster

from xmanager.backend import Backend, Deferred, Rejected, Submitted, Task, TaskObservation, Unit
from xmanager.backends.slurm.backend import create
from xmanager.backends.slurm.executor import Slurm

SECONDS = 60.0
_numbers = itertools.count(1)

ON_N1: dict[str, Any] = {'exclusive': True, 'extra_sbatch_args': ['--nodelist=n1']}
SLEEP = ('/bin/sh', '-c', 'echo begun $XM_ATTEMPT; exec sleep 300')


class Scene:
    """Units of one home on one cluster, and a back end that looks after them."""

    def __init__(self, slurm: Cluster, home: Path) -> None:
        self.slurm = slurm
        self.home = home
        self.environ = {
            **slurm.environ,
            'XM_HOME': str(home),
            'XM_LOCAL_LEDGER': str(home / 'ledger'),
        }
        self.backend: Backend = create(self.environ)
        self._refs: dict[
            str, Unit
        ] = {}  # All that were submitted, which a supervisor observes together.

    def unit(self, *argvs: Sequence[str], names: Sequence[str] = (), **settings: Any) -> Unit:
        """A task for each command; `settings` are Slurm's, `requirements` as of `Task`."""
        requirements = settings.pop('requirements', {})
        number = next(_numbers)
        options = Slurm(**{'max_restarts': 0, **settings}).options()
        tasks = tuple(
            Task(
                name,
                f'7_{number}_{name}',
                tuple(argv),
                str(self.home),
                requirements=requirements,
                options=options,
            )
            for name, argv in zip(
                names or [f'job{i}' for i in range(len(argvs))], argvs, strict=True
            )
        )
        folder = self.home / 'experiments' / '7' / str(number)
        return Unit(7, str(number), 1, f'misfortune.7.{number}.1', folder, tasks)

    def submit(self, *units: Unit) -> dict[str, Unit]:
        """By reference; all must be taken."""
        refs = {}
        for unit, answer in zip(units, self.answers(*units), strict=True):
            assert isinstance(answer, Submitted), answer
            refs[answer.ref] = unit
        self._refs |= refs
        return refs

    def answers(self, *units: Unit) -> Sequence[Submitted | Deferred | Rejected]:
        return self.backend.submit([self.backend.render(unit, {}) for unit in units])

    def reopen(self) -> None:
        """Another back end, which knows nothing."""
        self.backend.close()
        self.backend = create(self.environ)

    def observe(
        self, refs: Mapping[str, Unit], until: Callable[[TaskObservation], bool], what: str
    ) -> list[TaskObservation]:
        """The first task of each unit, once the condition holds for all."""
        latest = time.monotonic() + SECONDS
        while True:
            seen = self.backend.observe({**self._refs, **refs})
            first = [seen[ref][unit.tasks[0].name] for ref, unit in refs.items()]
            if all(until(task) for task in first):
                return first
            assert time.monotonic() < latest, f'not within {SECONDS:g} s: {what}; but {first}'
            time.sleep(0.02)

    def running(self, refs: Mapping[str, Unit]) -> list[TaskObservation]:
        """Once all run and have said so in their logs."""
        seen = self.observe(refs, lambda task: task.state == 'running', 'to run')
        for unit in refs.values():
            self.wait_for_log(unit, 'begun')
        return seen

    def wait_for_log(self, unit: Unit, words: str) -> None:
        self.slurm.wait(lambda: words in self.log(unit), f'{words!r} in the log')

    def ended(self, refs: Mapping[str, Unit]) -> list[TaskObservation]:
        return self.observe(refs, lambda task: task.state in ('exited', 'vanished'), 'to end')

    def log(self, unit: Unit, name: str = 'output.log', task: str = '') -> str:
        """Of a task, the first one unless named."""
        path = unit.folder / (task or unit.tasks[0].name) / name
        return path.read_text(errors='surrogateescape') if path.exists() else ''


@contextlib.contextmanager
def scene_on(slurm: Cluster, home: Path) -> Iterator[Scene]:
    made = Scene(slurm, home)
    try:
        yield made
    finally:
        made.backend.close()


@pytest.fixture
def scene(slurm: Cluster, tmp_path: Path) -> Iterator[Scene]:
    with scene_on(slurm, tmp_path / 'home') as made:
        yield made


@pytest.fixture
def accounted(slurm_accounting: Cluster, tmp_path: Path) -> Iterator[Scene]:
    with scene_on(slurm_accounting, tmp_path / 'home') as made:
        yield made


def job_of(ref: str) -> str:
    """`4711_3` or `4711` of `4711_3@batch`."""
    return ref.partition('@')[0]


def counting(folder: Path, then: str = 'exit 0') -> tuple[str, ...]:
    """Adds a line to a file of its unit at each run."""
    folder.mkdir(parents=True, exist_ok=True)
    return ('/bin/sh', '-c', f'echo $XM_ATTEMPT >>{folder}/$XM_WORK_UNIT_ID; {then}')


def runs_of(folder: Path, unit: Unit) -> list[str]:
    path = folder / unit.label
    return path.read_text().split() if path.exists() else []
