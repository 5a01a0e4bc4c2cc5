"""How long a launcher stays with units of engines that queue by themselves. The test itself is the supervisor."""

import asyncio
import contextlib
import threading
import time

import pytest
from tests.packaging import package
from tests.unit.launch.conftest import DEADLINE
from tests.unit.launch.test_units import Fake

from xmanager import xm, xm_local
from xmanager.errors import ExperimentUnitFailedError
from xmanager.launch.experiment import RecordedExperiment
from xmanager.launch.session import Session
from xmanager.store import Change, Store
from xmanager.store.presence import Presence
from xmanager.testing.fake_backend import FakeBackend


class Local(Fake):
    """Runs on a back end of this host."""

    backend = 'at-home'


class Supervisor:
    """Moves the units of the experiment, from a thread of its own, as soon as they are there."""

    def __init__(self, lab):
        self.lab = lab
        self.threads = []

    def when_added(self, count, *moves):
        """Once so many units were added: each of `moves` is a unit's number and what becomes of it."""

        def work():
            with Store.open(self.lab.home) as store:
                deadline = time.monotonic() + DEADLINE
                while len(units := store.units(1)) < count or any(
                    unit.state == 'creating' for unit in units
                ):
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                ids = {unit.number: unit.id for unit in units}
                for number, state, *facts in moves:
                    store.move([Change(ids[number], state, **dict(*facts))], actor='test')

        self.threads.append(threading.Thread(target=work))
        self.threads[-1].start()

    def close(self):
        for thread in self.threads:
            thread.join(DEADLINE)


def taken(number, job):
    """It is in its engine's queue."""
    reference = {'reference': f'{job}_{number}@b', 'message': 'waits: Priority'}
    return [(number, 'starting'), (number, 'starting', reference)]


def ended(number, state='completed', **facts):
    return [(number, 'starting'), (number, 'running'), (number, state, facts)]


@pytest.fixture
def supervisor(lab):
    lock = Presence(lab.experiment.folder).supervise()
    assert lock is not None
    supervisor = Supervisor(lab)
    yield supervisor
    supervisor.close()
    lock.release()


@pytest.fixture
def experiment(lab, supervisor):
    experiment = RecordedExperiment(lab.store, lab.experiment)
    experiment._backends['fake'] = FakeBackend()
    experiment._backends['at-home'] = FakeBackend(amounts={'cpu': 4.0})
    return experiment


@pytest.fixture
def job():
    [program] = package(xm.binary(xm_local.Local.Spec(), path='/bin/echo'))
    return lambda executor=Fake: xm.Job(program, executor())


def add_all(experiment, *jobs):
    with experiment:
        for job in jobs:
            experiment.add(job)


@pytest.fixture
def told(capsys):
    def lines():
        return capsys.readouterr().err.splitlines()

    return lines


def submitted(lines):
    return [line for line in lines if 'submitted' in line]


def test_the_launcher_leaves_once_all_units_are_with_their_engine(
    experiment, job, supervisor, told
):
    supervisor.when_added(3, *taken(1, 4711), *taken(2, 4711), *taken(3, 4711))
    with experiment:
        for _ in range(3):
            experiment.add(job())
    assert submitted(told()) == [
        'experiment 1: 3 units submitted to fake (job 4711). '
        'xmanager show 1 · xmanager logs 1 -f · xmanager wait 1 · xmanager stop 1'
    ]
    assert not Session.any_failed
    assert {unit.state for unit in experiment.store.units(1)} == {'starting'}


def test_a_unit_that_its_engine_refuses_is_raised(experiment, job, supervisor, told):
    message = 'sbatch: error: invalid partition specified: nosuch'
    refused = [(2, 'starting'), (2, 'failed', {'message': message})]
    supervisor.when_added(2, *taken(1, 4711), *refused)
    with pytest.raises(ExperimentUnitFailedError, match='invalid partition'):
        add_all(experiment, job(), job())
    lines = told()
    assert len(submitted(lines)) == 1
    assert any(line.startswith('experiment 1: 1 failed in ') for line in lines)
    assert Session.any_failed


def test_local_units_are_waited_for_as_ever(experiment, job, supervisor, told):
    supervisor.when_added(2, *taken(1, 4711), *ended(2))
    with experiment:
        experiment.add(job())
        experiment.add(job(Local))
    assert [unit.state for unit in experiment.store.units(1)] == ['starting', 'completed']
    *_, summary, last = told()
    assert summary.startswith('experiment 1: 1 completed in ')
    assert last.startswith('experiment 1: 1 unit submitted to fake (job 4711). ')


def test_with_wait_the_launcher_stays_to_the_end(experiment, job, supervisor, told, monkeypatch):
    monkeypatch.setenv('XM_WAIT', '1')
    supervisor.when_added(1, *taken(1, 4711), (1, 'running'), (1, 'completed'))
    with experiment:
        experiment.add(job())
    lines = told()
    assert lines[-1].startswith('experiment 1: 1 completed in ')
    assert submitted(lines) == []


def test_a_script_may_await_such_a_unit(experiment, job, supervisor, told):
    supervisor.when_added(1, *taken(1, 4711), (1, 'running'), (1, 'completed'))

    async def main():
        async with experiment:
            unit = await experiment.add(job())
            await unit.wait_until_complete()
            assert unit.get_status().is_completed

    asyncio.run(main())
    assert submitted(told()) == []


def test_what_is_generated_counts_like_all_else(experiment, job, supervisor, told):
    async def two_jobs(work_unit, **args):
        work_unit.add(job())

    supervisor.when_added(1, *taken(1, 4711))
    with experiment:
        experiment.add(two_jobs)
    assert len(submitted(told())) == 1


def test_an_interrupted_launcher_stops_them_and_waits_for_that(experiment, job, supervisor, told):
    stopped = (2, 'stopped')
    supervisor.when_added(2, *taken(1, 4711), stopped, (1, 'stopped'))
    with contextlib.suppress(KeyboardInterrupt), experiment:
        experiment.add(job())
        experiment.add(job())
        raise KeyboardInterrupt
    assert [one.verb for one in experiment.store.requests(1)] == ['stop', 'stop']
    lines = told()
    assert lines[-1].startswith('experiment 1: 2 stopped in ')
    assert submitted(lines) == []


@pytest.mark.parametrize(
    ('jobs', 'words'),
    [
        ((7, 12), '(jobs 7 and 12)'),
        ((7, 12, 9, 10, 11), '(jobs 7, 9, 10 and 2 more)'),
        (('projects/p/x',), 'to fake. '),
        (('4711a',), 'to fake. '),
    ],
)
def test_the_engines_own_numbers_are_told(experiment, job, supervisor, told, jobs, words):
    moves = [move for number, name in enumerate(jobs, 1) for move in taken(number, name)]
    supervisor.when_added(len(jobs), *moves)
    with experiment:
        for _ in jobs:
            experiment.add(job())
    assert words in submitted(told())[0]


@pytest.mark.parametrize('wanted', ['on-demand', 'always'])
def test_the_launch_says_whether_supervisors_come_on_demand(
    experiment, job, supervisor, lab, monkeypatch, wanted
):
    presence = Presence(lab.experiment.folder)
    presence.let_come_on_demand(wanted == 'always')
    monkeypatch.setenv('XM_SUPERVISE', wanted)
    supervisor.when_added(1, *taken(1, 4711))
    add_all(experiment, job())
    assert presence.comes_on_demand() == (wanted == 'on-demand')
