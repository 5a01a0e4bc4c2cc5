"""The stage on which back ends are tested: how to make one, submit units, wait for what becomes of them."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xmanager.backend import (
    Backend,
    Grant,
    Observation,
    Submitted,
    Task,
    TaskObservation,
    Unit,
)

NO_GRANT: Grant = {}

_keys = itertools.count(1)


class BackendStage:
    """What the tests of all back ends share. `deadline` is in seconds, for each wait."""

    deadline = 30.0

    succeed: tuple[str, ...] = ('/bin/sh', '-c', 'exit 0')
    exit_with_7: tuple[str, ...] = ('/bin/sh', '-c', 'exit 7')
    die_by_signal_9: tuple[str, ...] = ('/bin/sh', '-c', 'kill -9 $$')
    run_on: tuple[str, ...] = ('/bin/sh', '-c', 'exec sleep 1000')
    ignore_term: tuple[str, ...] = (
        '/bin/sh',
        '-c',
        "trap '' TERM; printf 'ready\\0'; while :; do sleep 1; done",
    )
    echo: tuple[str, ...] = ('/bin/sh', '-c', 'printf "%s\\0" "$@"', 'echo')
    missing: tuple[str, ...] = ('/no/such/program',)

    def make_backend(self) -> Backend:
        """A back end that remembers nothing, on the same engine at each call within a test."""
        raise NotImplementedError

    def make_unit(self, *argvs: tuple[str, ...], **settings: Any) -> Unit:
        """A new unit of one task for each command, with `settings` as the tasks' options."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Lets the engine go on for a moment."""
        time.sleep(seconds)

    def unit_in(
        self, folder: Path, *argvs: tuple[str, ...], attempt: int = 1, **settings: Any
    ) -> Unit:
        """For `make_unit`: a unit of its own below `folder`."""
        number = next(_keys)
        tasks = tuple(
            Task(f'job{i}', f'1_{number}_job{i}', argv, str(folder), options=settings)
            for i, argv in enumerate(argvs)
        )
        key = f'contract.{os.getpid()}.{number}.{attempt}'
        return Unit(1, str(number), attempt, key, folder / str(number), tasks)

    # --- what the tests are written in

    def submit(self, backend: Backend, *units: Unit) -> dict[str, Unit]:
        """Submits units that must be accepted; their references."""
        answers = backend.submit([backend.render(unit, NO_GRANT) for unit in units])
        assert len(answers) == len(units)
        refs = {}
        for unit, answer in zip(units, answers, strict=True):
            assert isinstance(answer, Submitted), answer
            refs[answer.ref] = unit
        assert len(refs) == len(units), 'two units have one reference'
        return refs

    def wait(
        self,
        backend: Backend,
        refs: Mapping[str, Unit],
        condition: Callable[[Mapping[str, Observation]], bool],
    ) -> Mapping[str, Observation]:
        """Observes until the condition holds."""
        for _ in self._until_deadline(f'{condition.__name__}: {list(refs)}'):
            observations = backend.observe(refs)
            assert observations.keys() == refs.keys()
            if condition(observations):
                return observations
            self.pass_time(min(backend.period, 0.02))
        raise AssertionError

    def wait_for_end(self, backend: Backend, refs: Mapping[str, Unit]) -> list[Observation]:
        """Observes until all tasks have ended; the units' observations in order."""
        observations = self.wait(backend, refs, all_ended)
        return [observations[ref] for ref in refs]

    def wait_until_running(self, backend: Backend, refs: Mapping[str, Unit]) -> None:
        """Observes until all tasks run; an engine with a queue of its own may begin them some time later."""
        self.wait(backend, refs, all_running)

    def wait_for_output(self, unit: Unit, output: bytes) -> None:
        """Waits until the first task's log begins with this."""
        log = unit.task_folder(unit.tasks[0]) / 'output.log'
        for _ in self._until_deadline(f'{output!r} in {log}'):
            if log.exists() and log.read_bytes().startswith(output):
                return
            self.pass_time(0.01)

    def end(self, backend: Backend, refs: Mapping[str, Unit]) -> list[Observation]:
        """Stops units without a grace time and waits until they have ended."""
        backend.stop(refs, 0.0)
        return self.wait_for_end(backend, refs)

    def _until_deadline(self, what: str) -> Iterator[None]:
        latest = time.monotonic() + self.deadline
        while time.monotonic() < latest:
            yield
        raise AssertionError(f'not within {self.deadline} s: {what}')


def end_of(observation: Observation, name: str = 'job0') -> tuple[str, int | None, int | None]:
    task = observation[name]
    return task.state, task.exit_code, task.signal


def has_ended(task: TaskObservation) -> bool:
    return task.state not in ('waiting', 'running')


def all_ended(observations: Mapping[str, Observation]) -> bool:
    return all(has_ended(task) for tasks in observations.values() for task in tasks.values())


def all_running(observations: Mapping[str, Observation]) -> bool:
    return all(
        task.state == 'running' for tasks in observations.values() for task in tasks.values()
    )


def have_ended(*names: str) -> Callable[[Mapping[str, Observation]], bool]:
    def are_over(observations: Mapping[str, Observation]) -> bool:
        return all(has_ended(tasks[name]) for tasks in observations.values() for name in names)

    return are_over
