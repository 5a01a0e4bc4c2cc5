"""What every back end must do, as a class of tests: subclass it in your own suite and say how to make yours.

    class TestMyBackend(BackendContract):
        def make_backend(self): return MyBackend(...)
        def make_unit(self, *argvs, **settings): return self.unit_in(tmp_path, *argvs, **settings)

Needs no test framework; a runner that collects `test_` methods of classes whose name begins with `Test` will do.
"""

from __future__ import annotations

import math

from xmanager.backend import Rejected, Submitted, Unit
from xmanager.testing.backend_recovery_contract import BackendRecoveryContract
from xmanager.testing.backend_stage import NO_GRANT, end_of, have_ended


class BackendContract(BackendRecoveryContract):
    """The promises of `xmanager.backend.Backend`, one test each. `deadline` is in seconds, for each wait."""

    # --- starting and ending

    def test_a_unit_runs_and_its_exit_code_is_told(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.succeed), self.make_unit(self.exit_with_7))
        good, bad = self.wait_for_end(backend, refs)
        assert end_of(good) == ('exited', 0, None)
        assert end_of(bad) == ('exited', 7, None)

    def test_the_signal_that_killed_a_task_is_told(self) -> None:
        backend = self.make_backend()
        (observation,) = self.wait_for_end(
            backend, self.submit(backend, self.make_unit(self.die_by_signal_9))
        )
        assert end_of(observation) == ('exited', None, 9)

    def test_the_tasks_of_a_group_are_told_apart(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.succeed, self.exit_with_7, self.run_on)
        refs = self.submit(backend, unit)
        self.wait(backend, refs, have_ended('job0', 'job1'))
        (observation,) = backend.observe(refs).values()
        assert [end_of(observation, f'job{i}') for i in range(3)] == [
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
            end_of(observation) == ('exited', 0, None)
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

    # --- stopping

    def test_a_stop_ends_all_tasks(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.run_on, self.run_on))
        backend.stop(refs, None)
        (observation,) = self.wait_for_end(backend, refs)
        assert [end_of(observation, f'job{i}') for i in range(2)] == [('exited', None, 15)] * 2

    def test_what_ignores_term_is_killed_after_the_grace_time(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.ignore_term)
        refs = self.submit(backend, unit)
        self.wait_until_term_is_ignored(unit)
        backend.stop(refs, 0.1)
        (observation,) = backend.observe(refs).values()
        assert end_of(observation)[0] == 'running'
        (observation,) = self.wait_for_end(backend, refs)
        assert end_of(observation) == ('exited', None, 9)

    def test_the_grace_time_of_a_task_is_its_own_unless_stop_says_otherwise(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.ignore_term, grace=0.1)
        refs = self.submit(backend, unit)
        self.wait_until_term_is_ignored(unit)
        backend.stop(refs, None)
        (observation,) = self.wait_for_end(backend, refs)
        assert end_of(observation) == ('exited', None, 9)

    def test_stopping_again_is_harmless_and_may_hasten(self) -> None:
        backend = self.make_backend()
        unit = self.make_unit(self.ignore_term)
        refs = self.submit(backend, unit)
        self.wait_until_term_is_ignored(unit)
        for grace in (1000.0, None, 1000.0, 0.1, 1000.0):
            backend.stop(refs, grace)
        (observation,) = self.wait_for_end(backend, refs)
        assert end_of(observation) == ('exited', None, 9)
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
        self.wait_until_running(backend, refs)
        self.end(backend, {stopped: first})
        assert end_of(backend.observe({spared: second})[spared])[0] == 'running'
        self.end(backend, {spared: second})

    def test_a_task_past_its_timeout_is_ended_and_says_so(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.run_on, timeout=0.2))
        (observation,) = self.wait_for_end(backend, refs)
        assert end_of(observation) == ('exited', None, 15)
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
