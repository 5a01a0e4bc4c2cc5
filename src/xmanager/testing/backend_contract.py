"""What every back end must do, as a class of tests: subclass it in your own suite and say how to make yours.

    class TestMyBackend(BackendContract):
        def make_backend(self): return MyBackend(...)
        def make_unit(self, *argvs, **settings): return self.unit_in(tmp_path, *argvs, **settings)

Needs no test framework; a runner that collects `test_` methods of classes whose name begins with `Test` will do.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from xmanager.backend import Backend, Grant, Observation, Rejected, Submitted, Task, Unit

NO_GRANT: Grant = {}

_keys = itertools.count(1)


class BackendContract:
    """The promises of `xmanager.backend.Backend`, one test each. `deadline` is in seconds, for each wait."""

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
        observations = self.wait(backend, refs, _all_ended)
        return [observations[ref] for ref in refs]

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

    # --- starting and ending

    def test_a_unit_runs_and_its_exit_code_is_told(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.succeed), self.make_unit(self.exit_with_7))
        good, bad = self.wait_for_end(backend, refs)
        assert _end(good) == ('exited', 0, None)
        assert _end(bad) == ('exited', 7, None)

    def test_the_signal_that_killed_a_task_is_told(self) -> None:
        backend = self.make_backend()
        (observation,) = self.wait_for_end(
            backend, self.submit(backend, self.make_unit(self.die_by_signal_9))
        )
        assert _end(observation) == ('exited', None, 9)

    def test_the_tasks_of_a_group_are_told_apart(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.succeed, self.exit_with_7, self.run_on)
        refs = self.submit(backend, unit)
        self.wait(backend, refs, _ended('job0', 'job1'))
        (observation,) = backend.observe(refs).values()
        assert [_end(observation, f'job{i}') for i in range(3)] == [
            ('exited', 0, None),
            ('exited', 7, None),
            ('running', None, None),
        ]
        self.end(backend, refs)

    def test_an_end_is_told_as_often_as_it_is_asked_for(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.exit_with_7))
        (first,) = self.wait_for_end(backend, refs)
        assert backend.observe(refs) == {next(iter(refs)): first}

    def test_many_units_are_submitted_in_one_call(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, *(self.make_unit(self.succeed) for _ in range(10)))
        assert all(
            _end(observation) == ('exited', 0, None)
            for observation in self.wait_for_end(backend, refs)
        )

    def test_nothing_submitted_is_nothing_done(self) -> None:
        backend = self.make_backend()
        assert list(backend.submit([])) == []
        assert dict(backend.find([])) == {}
        assert dict(backend.observe({})) == {}
        backend.stop({}, None)

    def test_rendering_touches_nothing_and_repeats(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.succeed)
        assert backend.render(unit, NO_GRANT) == backend.render(unit, NO_GRANT)
        assert not unit.folder.exists()

    def test_a_group_of_which_one_task_can_not_start_is_rejected_whole(self) -> None:
        backend = self.make_backend()
        unit, after = self.make_unit(self.run_on, self.missing), self.make_unit(self.succeed)
        rejected, accepted = backend.submit([backend.render(u, NO_GRANT) for u in (unit, after)])
        assert isinstance(rejected, Rejected)
        assert rejected.task == 'job1'
        assert 'does not exist' in rejected.reason
        assert isinstance(accepted, Submitted)
        assert backend.find([unit]) == {}
        self.wait_for_end(backend, {accepted.ref: after})

    # --- output and arguments

    def test_arguments_arrive_byte_for_byte(self) -> None:
        backend = self.make_backend()
        words = (
            '',
            ' ',
            'a b',
            '-n',
            '--',
            '$HOME',
            '`id`',
            '"',
            "'",
            '\\',
            'a\nb',
            '*',
            'é☃',
            '=',
            '!x',
        )
        unit = self.make_unit(self.echo + words)
        self.wait_for_end(backend, self.submit(backend, unit))
        log = unit.task_folder(unit.tasks[0]) / 'output.log'
        assert log.read_bytes() == b''.join(word.encode() + b'\0' for word in words)

    def test_a_folder_for_results_is_there(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.succeed)
        self.wait_for_end(backend, self.submit(backend, unit))
        assert list((unit.task_folder(unit.tasks[0]) / 'out').iterdir()) == []

    # --- after a crash of the supervisor

    def test_a_backend_that_lost_its_memory_finds_what_runs_and_what_has_ended(self) -> None:
        backend = self.make_backend()
        ended, running, never = (
            self.make_unit(argv) for argv in (self.exit_with_7, self.run_on, self.succeed)
        )
        submitted = self.submit(backend, ended, running)
        ended_ref = next(iter(submitted))
        self.wait(backend, submitted, lambda o: _ended('job0')({ended_ref: o[ended_ref]}))
        fresh = self.make_backend()
        found = fresh.find([never, running, ended])
        assert found.keys() == {running.key, ended.key}
        refs = {found[ended.key]: ended, found[running.key]: running}
        first, second = fresh.observe(refs).values()
        assert (_end(first), _end(second)) == (('exited', 7, None), ('running', None, None))
        self.end(fresh, refs)

    def test_a_reference_holds_for_another_backend_object(self) -> None:
        refs = self.submit(self.make_backend(), self.make_unit(self.run_on))
        fresh = self.make_backend()
        (observation,) = fresh.observe(refs).values()
        assert _end(observation)[0] == 'running'
        (observation,) = self.end(fresh, refs)
        assert _end(observation)[0] == 'exited'

    def test_a_unit_that_is_submitted_again_runs_once(self) -> None:
        unit = self.make_unit((*self.echo, 'once'), self.run_on)
        self.submit(self.make_backend(), unit)
        self.wait_for_output(unit, b'once\0')
        fresh = self.make_backend()
        refs = self.submit(fresh, unit)
        assert self.submit(fresh, unit) == refs
        (observation,) = self.end(fresh, refs)
        assert _end(observation) == ('exited', 0, None)
        assert observation['job1'].signal in (9, 15)
        log = unit.task_folder(unit.tasks[0]) / 'output.log'
        assert log.read_bytes() == b'once\0'

    def test_a_unit_of_which_a_part_was_submitted_is_completed(self) -> None:
        unit = self.make_unit((*self.echo, 'first'), self.run_on, (*self.echo, 'third'))
        self.submit(self.make_backend(), attrs.evolve(unit, tasks=unit.tasks[:2]))
        self.wait_for_output(unit, b'first\0')
        fresh = self.make_backend()
        refs = self.submit(fresh, unit)
        (observation,) = self.wait(fresh, refs, _ended('job0', 'job2')).values()
        assert [_end(observation, f'job{i}') for i in range(3)] == [
            ('exited', 0, None),
            ('running', None, None),
            ('exited', 0, None),
        ]
        logs = [unit.task_folder(unit.tasks[i]) / 'output.log' for i in (0, 2)]
        assert [log.read_bytes() for log in logs] == [b'first\0', b'third\0']
        self.end(fresh, refs)

    def test_a_part_that_has_failed_is_not_completed(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.exit_with_7, self.succeed)
        part = attrs.evolve(unit, tasks=unit.tasks[:1])
        self.wait_for_end(backend, self.submit(backend, part))
        fresh = self.make_backend()
        (observation,) = self.wait_for_end(fresh, self.submit(fresh, unit))
        assert _end(observation) == ('exited', 7, None)
        assert _end(observation, 'job1') == ('vanished', None, None)
        assert observation['job1'].reason == 'it was never started'
        failed, omitted = (observation[f'job{i}'].ended_at for i in range(2))
        assert failed is not None
        assert omitted is not None
        assert failed <= omitted

    def test_units_go_on_when_their_backend_is_closed(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.run_on))
        backend.close()
        backend.close()
        fresh = self.make_backend()
        (observation,) = fresh.observe(refs).values()
        assert _end(observation)[0] == 'running'
        (observation,) = self.end(fresh, refs)
        assert _end(observation)[0] == 'exited'
        fresh.close()

    def test_another_attempt_is_another_submission(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.exit_with_7)
        self.wait_for_end(backend, self.submit(backend, unit))
        again = attrs.evolve(unit, attempt=2, key=f'{unit.key}.2')
        assert backend.find([again]) == {}
        self.submit(backend, again)
        refs = {backend.find([unit, again])[again.key]: again}
        (observation,) = self.wait_for_end(backend, refs)
        assert _end(observation) == ('exited', 7, None)

    # --- stopping

    def test_a_stop_ends_all_tasks(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.run_on, self.run_on))
        backend.stop(refs, None)
        (observation,) = self.wait_for_end(backend, refs)
        assert [_end(observation, f'job{i}') for i in range(2)] == [('exited', None, 15)] * 2

    def test_what_ignores_term_is_killed_after_the_grace_time(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.ignore_term)
        refs = self.submit(backend, unit)
        self.wait_until_term_is_ignored(unit)
        backend.stop(refs, 0.1)
        (observation,) = backend.observe(refs).values()
        assert _end(observation)[0] == 'running'
        (observation,) = self.wait_for_end(backend, refs)
        assert _end(observation) == ('exited', None, 9)

    def test_the_grace_time_of_a_task_is_its_own_unless_stop_says_otherwise(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.ignore_term, grace=0.1)
        refs = self.submit(backend, unit)
        self.wait_until_term_is_ignored(unit)
        backend.stop(refs, None)
        (observation,) = self.wait_for_end(backend, refs)
        assert _end(observation) == ('exited', None, 9)

    def test_stopping_again_is_harmless_and_may_hasten(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.ignore_term)
        refs = self.submit(backend, unit)
        self.wait_until_term_is_ignored(unit)
        for grace in (1000.0, None, 1000.0, 0.1, 1000.0):
            backend.stop(refs, grace)
        (observation,) = self.wait_for_end(backend, refs)
        assert _end(observation) == ('exited', None, 9)
        backend.stop(refs, 0.0)
        assert list(backend.observe(refs).values()) == [observation]

    def test_stopping_what_has_ended_changes_nothing(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.exit_with_7))
        (first,) = self.wait_for_end(backend, refs)
        backend.stop(refs, 0.0)
        assert list(backend.observe(refs).values()) == [first]

    def test_a_stop_spares_other_units(self) -> None:
        backend = self.make_backend()
        first, second = self.make_unit(self.run_on), self.make_unit(self.run_on)
        refs = self.submit(backend, first, second)
        (stopped, _), (spared, _) = refs.items()
        self.end(backend, {stopped: first})
        assert _end(backend.observe({spared: second})[spared])[0] == 'running'
        self.end(backend, {spared: second})

    def test_a_task_past_its_timeout_is_ended_and_says_so(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.run_on, timeout=0.2))
        (observation,) = self.wait_for_end(backend, refs)
        assert _end(observation) == ('exited', None, 15)
        assert observation['job0'].reason == 'timed out after 0.2 s'
        assert observation['job0'].cause == 'timeout'

    def wait_until_term_is_ignored(self, unit: Unit) -> None:
        """A task needs a moment to begin to ignore TERM; its log says when."""
        self.wait_for_output(unit, b'ready\0')

    # --- resources

    def test_capacity_and_demand_speak_of_the_same_resources(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.succeed, self.succeed)
        backend.check(unit.tasks)
        capacity, demand = backend.capacity(), backend.demand(unit.tasks)
        assert demand.keys() == {'job0', 'job1'}
        for amounts in demand.values():
            assert all(math.isfinite(amount) and amount >= 0 for amount in amounts.values())
            assert capacity is None or amounts.keys() <= capacity.amounts.keys()


def _end(observation: Observation, name: str = 'job0') -> tuple[str, int | None, int | None]:
    task = observation[name]
    return task.state, task.exit_code, task.signal


def _all_ended(observations: Mapping[str, Observation]) -> bool:
    return all(
        task.state != 'running' for tasks in observations.values() for task in tasks.values()
    )


def _ended(*names: str) -> Callable[[Mapping[str, Observation]], bool]:
    def ended(observations: Mapping[str, Observation]) -> bool:
        return all(
            tasks[name].state != 'running' for tasks in observations.values() for name in names
        )

    return ended
