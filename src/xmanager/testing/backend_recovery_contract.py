"""What every back end must do after its supervisor's death: a part of `BackendContract`."""

from __future__ import annotations

import attrs

from xmanager.testing.backend_stage import BackendStage, end_of, have_ended


class BackendRecoveryContract(BackendStage):
    """What was submitted is found again, completed, and never started twice."""

    def test_a_backend_that_lost_its_memory_finds_what_runs_and_what_has_ended(self) -> None:
        backend = self.make_backend()
        ended, running, never = (
            self.make_unit(argv) for argv in (self.exit_with_7, self.run_on, self.succeed)
        )
        submitted = self.submit(backend, ended, running)
        ended_ref = next(iter(submitted))
        self.wait(backend, submitted, lambda o: have_ended('job0')({ended_ref: o[ended_ref]}))
        fresh = self.make_backend()
        found = fresh.find([never, running, ended])
        assert found.keys() == {running.key, ended.key}
        refs = {found[ended.key]: ended, found[running.key]: running}
        assert end_of(fresh.observe(refs)[found[ended.key]]) == ('exited', 7, None)
        self.wait_until_running(fresh, {found[running.key]: running})
        self.end(fresh, refs)

    def test_a_reference_holds_for_another_backend_object(self) -> None:
        refs = self.submit(self.make_backend(), self.make_unit(self.run_on))
        fresh = self.make_backend()
        self.wait_until_running(fresh, refs)
        (observation,) = self.end(fresh, refs)
        assert end_of(observation)[0] == 'exited'

    def test_a_unit_that_is_submitted_again_runs_once(self) -> None:
        unit = self.make_unit((*self.echo, 'once'), self.run_on)
        self.submit(self.make_backend(), unit)
        self.wait_for_output(unit, b'once\0')
        fresh = self.make_backend()
        refs = self.submit(fresh, unit)
        assert self.submit(fresh, unit) == refs
        (observation,) = self.end(fresh, refs)
        assert end_of(observation) == ('exited', 0, None)
        assert observation['job1'].signal in (9, 15)
        log = unit.task_folder(unit.tasks[0]) / 'output.log'
        assert log.read_bytes() == b'once\0'

    def test_units_go_on_when_their_backend_is_closed(self) -> None:
        backend = self.make_backend()
        refs = self.submit(backend, self.make_unit(self.run_on))
        backend.close()
        backend.close()
        fresh = self.make_backend()
        self.wait_until_running(fresh, refs)
        (observation,) = self.end(fresh, refs)
        assert end_of(observation)[0] == 'exited'
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
        assert end_of(observation) == ('exited', 7, None)


class PiecewiseContract(BackendStage):
    """What an engine must do that starts a unit task by task. One that takes units whole needs none of this."""

    def test_a_unit_of_which_a_part_was_submitted_is_completed(self) -> None:
        unit = self.make_unit((*self.echo, 'first'), self.run_on, (*self.echo, 'third'))
        self.submit(self.make_backend(), attrs.evolve(unit, tasks=unit.tasks[:2]))
        self.wait_for_output(unit, b'first\0')
        fresh = self.make_backend()
        refs = self.submit(fresh, unit)
        (observation,) = self.wait(fresh, refs, have_ended('job0', 'job2')).values()
        assert [end_of(observation, f'job{i}') for i in range(3)] == [
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
        assert end_of(observation) == ('exited', 7, None)
        assert end_of(observation, 'job1') == ('vanished', None, None)
        assert observation['job1'].reason == 'it was never started'
        failed, omitted = (observation[f'job{i}'].ended_at for i in range(2))
        assert failed is not None
        assert omitted is not None
        assert failed <= omitted
