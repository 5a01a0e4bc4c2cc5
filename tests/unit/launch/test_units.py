"""Units as a script sees them. The test itself is the supervisor: it holds the lock and moves the units."""

import asyncio
from typing import Any, ClassVar

import attrs
import pytest
from tests.packaging import package
from tests.unit.launch.conftest import in_time

from xmanager import xm, xm_local
from xmanager.backend import TaskObservation
from xmanager.errors import (
    ExecutorError,
    ExperimentUnitError,
    ExperimentUnitFailedError,
    ExperimentUnitNotCompletedError,
)
from xmanager.launch.experiment import RecordedExperiment
from xmanager.launch.units import RecordedUnit, new_unit_facts
from xmanager.store.presence import Presence
from xmanager.testing.fake_backend import FakeBackend
from xmanager.testing.store_fixtures import a_task
from xmanager.xm.executables import Executor, ExecutorSpec
from xmanager.xm.roles import AuxiliaryUnitRole, Importance, WorkUnitRole


@attrs.define(slots=False)
class Fake(Executor):
    """Runs on the fake back end."""

    backend: ClassVar[str] = 'fake'
    Spec: ClassVar[Any] = ExecutorSpec
    requirements: xm.JobRequirements = attrs.field(factory=xm.JobRequirements)
    cwd: str | None = None

    def options(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def experiment(lab, monkeypatch):
    """An experiment whose launcher leaves once all is added."""
    monkeypatch.setenv('XM_DETACH', '1')
    lock = Presence(lab.experiment.folder).supervise()
    assert lock is not None
    experiment = RecordedExperiment(lab.store, lab.experiment)
    experiment._backends['fake'] = FakeBackend()
    yield experiment
    lock.release()


@pytest.fixture
def program():
    [executable] = package(xm.binary(xm_local.Local.Spec(), path='/bin/echo'))
    return executable


def seen(experiment, record):
    return RecordedUnit.of(experiment, record, is_new=False)


def wait_for(unit):
    async def main():
        return await in_time(unit.wait_until_complete())

    return asyncio.run(main())


# What a unit says of itself.


@pytest.mark.parametrize(
    ('state', 'flags'),
    [
        ('queued', (True, False, False)),
        ('running', (True, False, False)),
        ('completed', (False, True, False)),
        ('failed', (False, False, True)),
        ('stopped', (False, False, False)),
        ('lost', (False, False, False)),
    ],
)
def test_the_status_is_what_is_recorded(lab, experiment, state, flags):
    status = seen(experiment, lab.add(state)).get_status()
    assert status.state == state
    assert (status.is_active, status.is_completed, status.is_failed) == flags


def test_a_status_stays_as_it_was_when_asked_for_and_the_next_is_fresh(lab, experiment):
    record = lab.add('running')
    unit = seen(experiment, record)
    before = unit.get_status()
    lab.move(record, 'failed', message='job train exited with code 1')
    assert (before.state, before.message) == ('running', '')
    assert unit.get_status().message == 'job train exited with code 1'


def test_jobs_tell_what_ran_and_how_it_ended(lab, experiment):
    record = lab.add('running', tasks=(a_task(argv=('/bin/echo', 'x')),))
    unit = seen(experiment, record)
    assert unit.jobs[0].exit_code is None
    lab.clock.now += 5
    end = TaskObservation('exited', exit_code=3, ended_at=lab.clock.now)
    lab.move(record, 'failed', tasks={'train': end})
    [job] = unit.jobs
    assert (job.name, job.argv) == ('train', ('/bin/echo', 'x'))
    assert (job.exit_code, job.signal, job.ended_at) == (3, None, lab.clock.now)
    assert job.log_path == record.folder / 'train' / 'output.log'
    assert job.output_dir == record.folder / 'train' / 'out'


def test_launched_jobs_bear_their_full_names(lab, experiment):
    [job] = seen(experiment, lab.add()).launched_jobs
    assert job.name == f'{lab.experiment.id}_1_train'
    assert job.logs.endswith('/1/train/output.log')


def test_a_unit_that_is_found_again_has_its_arguments_role_and_identity(lab, experiment):
    role = WorkUnitRole(importance=Importance.HIGH, tags=['best'])
    record = lab.add(args={'args': {'lr': 1}}, identity='x', **new_unit_facts(role))
    unit = experiment.work_units[record.number]
    assert (unit.args, unit.identity) == ({'args': {'lr': 1}}, 'x')
    assert unit.role.importance == Importance.HIGH
    assert list(unit.role.tags) == ['best']


@pytest.mark.parametrize('importance', Importance)
def test_an_auxiliary_unit_that_is_found_again_has_its_role(lab, experiment, importance):
    role = AuxiliaryUnitRole(importance=importance, termination_delay_secs=0.5)
    unit = seen(experiment, lab.add(**new_unit_facts(role)))
    assert repr(unit).startswith('AuxiliaryUnit(')
    assert unit.role == role


# Stopping.


@pytest.mark.parametrize(
    ('marks', 'outcome'),
    [
        ({}, 'stopped'),
        ({'mark_as_failed': True}, 'failed'),
        ({'mark_as_completed': True}, 'completed'),
    ],
)
def test_a_stop_is_a_request_in_the_store(lab, experiment, marks, outcome):
    record = lab.add('running')
    seen(experiment, record).stop(message='enough', **marks)
    [request] = lab.store.requests(lab.experiment.id)
    assert (request.verb, request.unit_id) == ('stop', record.id)
    assert (request.outcome, request.message) == (outcome, 'enough')


def test_a_stop_can_not_be_marked_as_two_things(lab, experiment):
    with pytest.raises(ValueError, match='exclude each other'):
        seen(experiment, lab.add()).stop(mark_as_failed=True, mark_as_completed=True)


# Waiting.


def test_waiting_for_a_unit_that_completed_returns_it(lab, experiment):
    unit = seen(experiment, lab.add('completed'))
    assert wait_for(unit) is unit


@pytest.mark.parametrize(
    ('state', 'kind', 'text'),
    [
        ('failed', ExperimentUnitFailedError, 'unit 1 of experiment 1 failed: because'),
        ('stopped', ExperimentUnitNotCompletedError, 'unit 1 of experiment 1 was stopped: because'),
        ('lost', ExperimentUnitNotCompletedError, 'unit 1 of experiment 1 is lost: because'),
    ],
)
def test_waiting_for_a_unit_that_did_not_complete_raises_why(lab, experiment, state, kind, text):
    record = lab.add('queued' if state == 'stopped' else 'running')
    unit = seen(experiment, lab.move(record, state, message='because'))
    with pytest.raises(ExperimentUnitError) as caught:
        wait_for(unit)
    assert type(caught.value) is kind
    assert str(caught.value) == text
    assert caught.value.work_unit is unit


# Generators.


def test_what_a_generator_adds_is_handed_over_together_when_it_ends(lab, experiment, program):
    async def generator(unit, n):
        for i in range(n):
            job = xm.Job(program, xm_local.Local(), name=f'job{i}')
            unit.add(job, args={'args': {'i': i}})

    with experiment:
        experiment.add(generator, args={'n': 3})
    [unit] = lab.store.units(lab.experiment.id)
    assert (unit.state, unit.backend) == ('queued', 'local')
    assert [task.task.argv[1] for task in unit.tasks] == ['--i=0', '--i=1', '--i=2']


def test_a_generator_that_adds_nothing_completes(lab, experiment):
    async def generator(unit):
        pass

    with experiment:
        experiment.add(generator)
    [unit] = lab.store.units(lab.experiment.id)
    assert unit.state == 'completed'


def test_a_generator_that_raises_fails_its_unit_and_nothing_of_it_starts(lab, experiment, program):
    async def generator(unit):
        unit.add(xm.Job(program, xm_local.Local()))
        raise ValueError('no luck')

    with pytest.raises(ValueError, match='no luck'), experiment:
        experiment.add(generator)
    [unit] = lab.store.units(lab.experiment.id)
    assert (unit.state, unit.tasks) == ('failed', ())
    assert unit.message == 'its job generator raised ValueError: no luck'
    with pytest.raises(ExperimentUnitError, match='unit 1 of experiment 1 could not be created'):
        wait_for(seen(experiment, unit))


@pytest.mark.parametrize(
    ('second', 'message'),
    [
        ({'name': 'a'}, "Two jobs of one unit are called 'a'"),
        ({'name': 'b', 'executor': Fake()}, 'these ask for local and fake'),
    ],
)
def test_jobs_of_a_generator_that_do_not_go_together_are_refused(
    lab, experiment, program, second, message
):
    async def generator(unit):
        await unit.add(xm.Job(program, xm_local.Local(), name='a'))
        await unit.add(xm.Job(program, **{'executor': xm_local.Local(), **second}))

    with pytest.raises(ExecutorError, match=message), experiment:
        experiment.add(generator)
    [unit] = lab.store.units(lab.experiment.id)
    assert unit.state == 'failed'


def test_after_a_generator_nothing_can_be_added_to_its_unit(lab, experiment, program):
    async def generator(unit):
        unit.add(xm.Job(program, xm_local.Local()))

    async def main():
        async with experiment:
            unit = await experiment.add(generator)
            with pytest.raises(ExperimentUnitError, match='has left its generator'):
                await unit.add(xm.Job(program, xm_local.Local(), name='late'))

    asyncio.run(in_time(main()))
    [unit] = lab.store.units(lab.experiment.id)
    assert len(unit.tasks) == 1


def test_a_unit_that_was_added_before_is_not_filled_again(lab, experiment, program):
    async def generator(unit):
        unit.add(xm.Job(program, xm_local.Local()))

    for _ in range(2):
        with experiment:
            experiment.add(generator, identity='x')
    [unit] = lab.store.units(lab.experiment.id)
    assert len(unit.tasks) == 1


@pytest.mark.parametrize('role', [WorkUnitRole(), AuxiliaryUnitRole(termination_delay_secs=0)])
def test_a_job_is_recorded_as_it_is_when_it_is_added_whatever_becomes_of_its_executor(
    experiment, program, role
):
    asked = []

    class Asked(Fake):
        def options(self) -> dict[str, Any]:
            asked.append(self.cwd)
            return {}

    executor = Asked(cwd='/usr')
    with experiment:
        future = experiment.add(xm.Job(program, executor), role=role)
        executor.cwd = '/'
        unit = future.result()
    [task] = unit.record.tasks
    assert task.task.cwd == '/usr'
    assert asked == ['/usr']
