"""What `xm_mock` records, as tests of launch scripts read it."""

import pytest

from xmanager import xm, xm_mock


def job(**fields):
    return xm.Job(xm_mock.MockExecutable(), xm_mock.MockExecutor(), **fields)


def test_the_public_names_are_these():
    assert sorted(xm_mock.__all__) == [
        'MockAuxiliaryUnit',
        'MockConstraint',
        'MockContextAnnotations',
        'MockExecutable',
        'MockExecutor',
        'MockExperiment',
        'MockExperimentUnit',
        'MockMetadataContext',
        'MockStatus',
        'MockWorkUnit',
    ]
    assert all(hasattr(xm_mock, name) for name in xm_mock.__all__)


def test_a_fresh_experiment_is_empty_and_has_the_id_one():
    experiment = xm_mock.MockExperiment()
    assert experiment.experiment_id == 1
    assert (experiment.launched_jobs, experiment.launched_jobs_args) == ([], [])
    assert (dict(experiment.work_units), experiment.auxiliary_units) == ({}, [])
    assert experiment.work_unit_count == 0


def test_of_a_group_the_direct_members_are_recorded_and_the_args_once():
    inner = xm.JobGroup(c=job(name='own'), d=job())
    with xm_mock.MockExperiment() as experiment:
        experiment.add(xm.JobGroup(a=job(args={'x': 1}), b=inner))
    first, second = experiment.launched_jobs
    assert first.name == 'a'
    assert isinstance(second, xm.JobGroup)
    names = {key: getattr(each, 'name', None) for key, each in second.jobs.items()}
    assert names == {'c': 'own', 'd': 'b_d'}
    assert experiment.launched_jobs_args == [{'a': {'args': {'x': 1}}}]
    assert [each.name for each in experiment.work_units[1].launched_jobs] == [
        '1_1_a',
        '1_1_own',
        '1_1_b_d',
    ]


def test_the_args_recorded_are_those_given_else_those_of_the_job():
    with xm_mock.MockExperiment() as experiment:
        experiment.add(job(args={'a': 1}), args={'args': {'b': 2}})
        experiment.add(job(args={'a': 1}, env_vars={'E': '1'}))
        experiment.add(job())
    assert experiment.launched_jobs_args == [
        {'args': {'b': 2}},
        {'args': {'a': 1}, 'env_vars': {'E': '1'}},
        {},
    ]


def test_the_args_recorded_of_a_generator_are_its_own_else_those_of_each_job():
    async def generator(work_unit, seed=0):
        work_unit.add(job(args={'seed': seed}))
        work_unit.add(job(), args={'args': {'seed': -seed}})

    with xm_mock.MockExperiment() as experiment:
        experiment.add(generator, args={'seed': 5}).result()
        experiment.add(generator).result()
    assert experiment.launched_jobs_args == [
        {'seed': 5},
        {'seed': 5},
        {'args': {'seed': 0}},
        {'args': {'seed': 0}},
    ]


def test_auxiliary_units_are_kept_apart():
    with xm_mock.MockExperiment() as experiment:
        experiment.add(job())
        experiment.add(xm.AuxiliaryUnitJob(job(), termination_delay_secs=0))
        assert len(experiment.auxiliary_units) == 1
        assert list(experiment.work_units) == [1]
    for unit in (*experiment.work_units.values(), *experiment.auxiliary_units):
        assert isinstance(unit, xm_mock.MockExperimentUnit)
    assert repr(experiment.auxiliary_units[0]).startswith('AuxiliaryUnit(')


def test_packaging_makes_an_executable_for_each_packageable():
    spec = xm_mock.MockExecutor.Spec()
    assert isinstance(spec, xm.ExecutorSpec)
    first, second = xm_mock.MockExperiment.package([xm.binary(spec, 'a'), xm.container(spec, 'b')])
    assert isinstance(first, xm_mock.MockExecutable)
    assert first.name != second.name
    assert first != second


def test_constraints_are_told_apart_by_their_id():
    assert xm_mock.MockConstraint('a') == xm_mock.MockConstraint(id='a')
    assert xm_mock.MockConstraint('a') != xm_mock.MockConstraint('b')
    assert isinstance(xm_mock.MockConstraint('a'), xm.Constraint)


def test_the_context_keeps_title_tags_and_notes():
    annotations = xm_mock.MockExperiment().context.annotations
    assert (annotations.title, annotations.tags, annotations.notes) == ('', set(), '')
    annotations.set_title('t')
    annotations.set_notes('n')
    annotations.add_tags('x', 'y')
    annotations.remove_tags('x', 'unknown')
    assert (annotations.title, annotations.tags, annotations.notes) == ('t', {'y'}, 'n')
    assert xm_mock.MockMetadataContext().creator == 'unknown'


def test_stopping_a_unit_decides_how_it_ended():
    with xm_mock.MockExperiment() as experiment:
        unit = experiment.add(job()).result()
    assert unit.get_status() == xm_mock.MockStatus(is_completed=True)
    unit.stop(mark_as_failed=True, message='why')
    assert unit.get_status() == xm_mock.MockStatus(is_failed=True, message='why')
    unit.stop()
    assert unit.get_status() == xm_mock.MockStatus()
    with pytest.raises(ValueError, match='exclude each other'):
        unit.stop(mark_as_failed=True, mark_as_completed=True)
