"""Units are watched by what their elements record and by few questions to Slurm, on a clock that is passed in."""

import json
import os
from pathlib import Path

import pytest
from tests.fakes.slurm import DOWN, FakeSlurm, Job, fake_slurm

from xmanager.backend import Task, Unit
from xmanager.backends.slurm.local_site import LocalSite
from xmanager.backends.slurm.submitting import Origin, Submissions
from xmanager.backends.slurm.watching import Watch

__all__ = ['fake_slurm']

BEGUN = b'job 4711\nnode n1\nat 1000.0\n'


class Stage:
    """A watch of the units of one array, and the time."""

    def __init__(self, fake: FakeSlurm, folder: Path, count: int = 3) -> None:
        self.fake = fake
        self.batch = folder / 'slurm/b1'
        self.clock = 0.0
        self.units = {f'4711_{i}@b1': self._unit(folder, i) for i in range(count)}
        self.watch = self.make_watch()

    def make_watch(self) -> Watch:
        site = LocalSite(os.environ, clock=lambda: self.clock)
        submissions = Submissions(site, os.environ)
        submissions.origins['b1'] = Origin(str(self.batch), 4711, 900.0)
        return Watch(site, submissions, clock=lambda: self.clock, now=lambda: 2000.0)

    def _unit(self, folder: Path, number: int) -> Unit:
        task = Task('job', 'job', ('/bin/true',), '/', options={'grace': 5.0})
        return Unit(1, str(number), 1, f'h.1.{number}.1', folder / str(number), (task,))

    def record(self, name: str, content: bytes) -> None:
        path = self.batch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def look(self) -> list[str]:
        """The states of the units, at this instant."""
        seen = self.watch.observe(self.units)
        return [one['job'].state for one in seen.values()]

    def go_on(self, seconds: float) -> list[str]:
        """Lets so much time go by, with a look each half second and time for Slurm's commands to answer."""
        states = []
        for _ in range(int(seconds * 2)):
            self.clock += 0.5
            states = self.look()
            while self.watch.is_asking:
                states = self.look()
        return states

    def task(self, number: int = 0):
        return self.watch.observe(self.units)[f'4711_{number}@b1']['job']

    def asked(self) -> list[str]:
        """What squeue was asked for."""
        return [
            'details' if '--states=all' in argv else 'queue' for argv in self.fake.calls('squeue')
        ]


@pytest.fixture
def stage(fake_slurm, tmp_path):
    fake_slurm.jobs = [Job(4711, array=4711, tasks='0-2', reason='Priority')]
    stage = Stage(fake_slurm, tmp_path)
    yield stage
    stage.watch.close()


def elements(*states: str, **fields) -> list[Job]:
    return [
        Job(4712 + i, state, array=4711, tasks=str(i), nodes='n1', **fields)
        for i, state in enumerate(states)
    ]


def test_waiting_units_tell_slurms_reason(stage):
    assert stage.go_on(2) == ['waiting'] * 3
    assert stage.task().reason == 'Priority'


def test_a_beginning_and_an_end_are_seen_without_asking_slurm(stage):
    stage.look()
    stage.record('begun/0.0.0', BEGUN)
    stage.record('ends/1.0.0', b'exited 0\nat 1005.0\n')
    stage.clock = 0.1
    assert stage.look() == ['running', 'exited', 'waiting']
    assert stage.task(1).exit_code == 0
    assert stage.asked() == []


def test_slurm_is_asked_once_for_all_and_more_seldom_while_nothing_changes(stage):
    stage.go_on(60)
    asked = stage.asked()
    assert set(asked) == {'queue'}
    assert 6 <= len(asked) <= 12
    for call in stage.fake.calls('squeue'):
        assert '--jobs=4711' in call


def test_what_has_not_changed_is_the_same_object(stage):
    stage.go_on(2)
    before = stage.watch.observe(stage.units)
    stage.go_on(10)
    after = stage.watch.observe(stage.units)
    assert all(after[ref] is before[ref] for ref in stage.units)


def test_a_terminated_unit_ends_as_slurm_says(stage):
    stage.record('begun/0.0.0', BEGUN)
    stage.record('ends/0.0.0', b'exited 143\nat 1005.0\nterminated\n')
    stage.fake.jobs = elements('PREEMPTED', 'RUNNING', 'RUNNING', status=15)
    assert stage.go_on(5) == ['exited', 'running', 'running']
    assert (stage.task().signal, stage.task().cause) == (15, 'preempted')


def test_a_requeued_unit_waits_and_runs_once_more(stage):
    stage.record('begun/0.0.0', BEGUN)
    stage.record('ends/0.0.0', b'exited 143\nat 1005.0\nterminated\n')
    stage.fake.jobs = [Job(4712, array=4711, tasks='0', reason='BeginTime', restarts=1)]
    stage.go_on(5)
    assert (stage.task().state, stage.task().restarts) == ('waiting', 1)
    stage.record('begun/0.0.1', BEGUN)
    stage.go_on(1)
    assert (stage.task().state, stage.task().restarts) == ('running', 1)


def test_a_unit_without_a_record_ends_as_slurm_says(stage):
    stage.record('begun/0.0.0', BEGUN)
    stage.fake.jobs = elements('OUT_OF_MEMORY', 'RUNNING', 'RUNNING', status=125)
    assert stage.go_on(12)[0] == 'exited'
    assert stage.task().reason == 'ran out of memory (Slurm: OUT_OF_MEMORY)'


def test_slurms_word_alone_decides_only_after_records_were_looked_for(stage):
    stage.record('begun', b'')  # No folder: nothing can be seen.
    stage.fake.jobs = elements('COMPLETED', 'RUNNING', 'RUNNING')
    assert stage.go_on(20)[0] == 'running'
    (stage.batch / 'begun').unlink()
    stage.record('ends/0.0.0', b'exited 3\nat 1005.0\n')
    assert stage.go_on(1)[0] == 'exited'
    assert stage.task().exit_code == 3


def test_what_slurm_has_forgotten_is_asked_of_the_accounts(stage):
    stage.fake.set(accounting=True)
    stage.fake.jobs = elements('FAILED', 'COMPLETED', 'COMPLETED', status=3 << 8, forgotten=True)
    assert stage.go_on(20) == ['exited'] * 3
    assert stage.task().exit_code == 3


def test_what_nobody_knows_of_is_told_to_be_lost(stage):
    stage.fake.jobs = [Job(1, 'RUNNING')]
    assert stage.go_on(10) == ['waiting'] * 3
    assert stage.go_on(20) == ['vanished'] * 3


def test_slurm_being_down_changes_nothing(stage, caplog):
    stage.fake.jobs = elements('RUNNING', 'RUNNING', 'RUNNING')
    assert stage.go_on(3) == ['running'] * 3
    stage.fake.reply('squeue', *[DOWN['squeue']] * 50)
    assert stage.go_on(120) == ['running'] * 3
    assert len(stage.asked()) < 12
    assert len([one for one in caplog.records if 'Slurm can not be asked' in one.message]) == 1
    stage.record('ends/0.0.0', b'exited 0\nat 1005.0\n')
    assert stage.go_on(1) == ['exited', 'running', 'running']


def test_who_cancelled_a_unit_is_told_where_accounts_are_kept(stage):
    stage.fake.set(accounting=True)
    stage.record('begun/0.0.0', BEGUN)
    stage.fake.jobs = elements('CANCELLED', 'RUNNING', 'RUNNING', by=0, status=15)
    stage.go_on(12)
    assert stage.task().reason == 'was cancelled by root outside xmanager'


# --- stopping


def scancels(stage: Stage) -> list[list[str]]:
    return [[word for word in argv if word != '--quiet'] for argv in stage.fake.calls('scancel')]


def test_a_stop_takes_out_of_the_queue_and_terminates_what_runs(stage):
    stage.record('begun/0.0.0', BEGUN)
    stage.fake.jobs = [*elements('RUNNING'), Job(4711, array=4711, tasks='1-2')]
    stage.go_on(1)
    stage.watch.stop(dict(list(stage.units.items())[:2]), None)
    stage.go_on(0.5)
    assert scancels(stage)[:2] == [
        ['4711_[1]'],
        ['--state=RUNNING', '--full', '--signal=TERM', '4711_[0]'],
    ]


def test_what_waits_once_more_is_taken_out_of_the_queue(stage):
    stage.record('begun/0.0.0', BEGUN)
    stage.record('ends/0.0.0', b'exited 143\nat 1005.0\nterminated\n')
    stage.fake.jobs = [Job(4712, array=4711, tasks='0', reason='BeginTime', restarts=1)]
    stage.go_on(5)
    assert stage.task().state == 'waiting'
    stage.watch.stop(dict(list(stage.units.items())[:1]), None)
    stage.go_on(0.5)
    assert scancels(stage)[0] == ['4711_[0]']


def test_what_still_runs_after_the_grace_time_is_killed(stage):
    for number in range(3):
        stage.record(f'begun/{number}.0.0', BEGUN)
    stage.fake.jobs = elements('RUNNING', 'RUNNING', 'RUNNING')
    stage.go_on(1)
    first = dict(list(stage.units.items())[:1])
    stage.watch.stop(first, None)
    stage.go_on(4)
    assert not any('--signal=URG' in argv for argv in scancels(stage))
    stage.go_on(2)
    assert ['--state=RUNNING', '--full', '--signal=URG', '4711_[0]'] in scancels(stage)


def test_a_stop_may_be_hastened_and_not_put_off(stage):
    for number in range(3):
        stage.record(f'begun/{number}.0.0', BEGUN)
    stage.fake.jobs = elements('RUNNING', 'RUNNING', 'RUNNING')
    stage.go_on(1)
    for grace in (1000.0, 0.5, 1000.0):
        stage.watch.stop(stage.units, grace)
    stage.go_on(1)
    signals = [argv for argv in scancels(stage) if '--signal=TERM' in argv]
    assert len(signals) == 1
    assert any('--signal=URG' in argv for argv in scancels(stage))


def test_a_stopped_unit_ends_as_its_record_says_and_is_not_begun_again(stage):
    stage.record('begun/0.0.0', BEGUN)
    stage.fake.jobs = elements('RUNNING', 'RUNNING', 'RUNNING')
    stage.go_on(1)
    stage.watch.stop(dict(list(stage.units.items())[:1]), None)
    stage.record('ends/0.0.0', b'exited 143\nat 1005.0\nterminated\n')
    assert stage.go_on(0.5)[0] == 'exited'
    assert (stage.task().signal, stage.task().reason) == (15, '')
    assert scancels(stage)[-1] == ['4711_[0]']


def test_a_stop_that_did_not_reach_slurm_is_told_again(stage):
    stage.go_on(1)
    stage.fake.reply('scancel', DOWN['scancel'])
    stage.watch.stop(stage.units, 1000.0)
    stage.go_on(8)
    assert scancels(stage).count(['4711_[0-2]']) >= 2


# --- successors


def test_a_watch_that_knows_nothing_sees_ends_at_its_first_look(stage):
    stage.record('ends/1.0.0', b'exited 0\nat 1005.0\n')
    successor = stage.make_watch()
    assert successor.observe(stage.units)['4711_1@b1']['job'].exit_code == 0


def other_batch(stage: Stage, *keys: str) -> None:
    told = {'format': 1, 'id': 'b2', 'name': '1_job.b2', 'array': True}
    elements = [[key, ['job']] for key in keys]
    stage.record('../b2/batch.json', json.dumps({**told, 'elements': elements}).encode())
    stage.record('../b2/job', b'4800\n901.0\n')


def test_a_unit_whose_attempt_another_batch_has_taken_is_followed_there(stage):
    other_batch(stage, 'h.1.9.1', 'h.1.0.1')
    stage.fake.jobs += [Job(4801, 'RUNNING', array=4800, tasks='1', nodes='n2')]
    stage.record('../b2/begun/1.0.0', b'job 4800\nnode n2\nat 1001.0\n')
    stage.record('begun/0.0.0', BEGUN)
    stage.record('ends/0.0.0', b'refused superseded by batch b2\nexited 126\nat 1005.0\n')
    stage.go_on(4)
    assert (stage.task().state, stage.task().where) == ('running', 'n2')
    stage.watch.stop(dict(list(stage.units.items())[:1]), None)
    stage.go_on(0.5)
    assert ['--state=RUNNING', '--full', '--signal=TERM', '4800_[1]'] in scancels(stage)
    stage.record('../b2/ends/1.0.0', b'exited 3\nat 1006.0\n')
    stage.go_on(4)
    assert stage.task().exit_code == 3


@pytest.mark.parametrize('is_there', [True, False])
def test_that_another_batch_has_an_attempt_is_not_told_as_its_end(stage, is_there):
    if is_there:  # But it says the same.
        other_batch(stage, 'h.1.0.1')
        stage.record('../b2/ends/0.0.0', b'refused superseded by batch b1\nexited 126\nat 1005.0\n')
    stage.record('ends/0.0.0', b'refused superseded by batch b2\nexited 126\nat 1005.0\n')
    stage.go_on(2)
    assert (stage.task().state, stage.task().exit_code) == ('vanished', None)
    assert 'superseded by batch' in stage.task().reason


def test_a_unit_that_was_let_go_is_told_of_again_when_it_is_asked_for(stage):
    stage.record('ends/1.0.0', b'exited 0\nat 1005.0\n')
    stage.look()
    others = {ref: unit for ref, unit in stage.units.items() if ref != '4711_1@b1'}
    stage.watch.observe(others)
    assert stage.task(1).exit_code == 0
