"""Adding jobs and groups: ids, arguments, names, roles, identity."""

import sys
import threading
from typing import Any

import pytest

from xmanager import xm, xm_mock


def job(**fields):
    return xm.Job(xm_mock.MockExecutable(), xm_mock.MockExecutor(), **fields)


@pytest.fixture
def experiment():
    with xm_mock.MockExperiment() as experiment:
        yield experiment


def test_units_are_numbered_from_one_in_the_order_of_the_calls(experiment):
    futures = [experiment.add(job(args={'n': n})) for n in range(20)]
    units = [future.result() for future in futures]
    assert [unit.work_unit_id for unit in units] == list(range(1, 21))
    assert [unit.args['args']['n'] for unit in units] == list(range(20))


def test_a_slow_generator_keeps_its_place_in_the_numbering(experiment):
    release = threading.Event()

    async def slow(work_unit):
        import asyncio

        await asyncio.to_thread(release.wait)

    first, second = experiment.add(slow), experiment.add(job())
    assert second.result().work_unit_id == 2
    release.set()
    assert first.result().work_unit_id == 1


def test_the_count_of_work_units_is_known_at_once_and_leaves_auxiliary_units_out(experiment):
    assert experiment.work_unit_count == 0
    experiment.add(job())
    experiment.add(xm.AuxiliaryUnitJob(job(), termination_delay_secs=0))
    assert experiment.work_unit_count == 1


def test_args_override_those_of_the_job_and_leave_the_job_alone(experiment):
    given = job(args={'a': 1, 'b': 1}, env_vars={'A': '1'})
    args = {'args': {'b': 2}, 'env_vars': {'B': '2'}}
    unit = experiment.add(given, args=args).result()
    [launched] = experiment.launched_jobs
    assert launched.args.to_dict() == {'a': 1, 'b': 2}
    assert launched.env_vars == {'A': '1', 'B': '2'}
    assert (given.args.to_dict(), given.env_vars) == ({'a': 1, 'b': 1}, {'A': '1'})
    assert unit.args == args


def test_args_of_a_group_are_given_by_the_names_of_its_jobs(experiment):
    group = xm.JobGroup(learner=job(), actors=xm.JobGroup(first=job(), second=job()))
    experiment.add(group, args={'actors': {'second': {'args': {'seed': 7}}}}).result()
    _, actors = experiment.launched_jobs
    assert actors.jobs['second'].args.to_dict() == {'seed': 7}
    assert actors.jobs['first'].args.to_dict() == {}


def test_the_same_job_may_be_added_many_times(experiment):
    given = job()
    for seed in range(3):
        given.args = xm.SequentialArgs.from_collection({'seed': seed})
        experiment.add(given)
    experiment.add(xm.JobGroup(one=given, two=given)).result()
    launched = experiment.launched_jobs
    assert [each.args.to_dict()['seed'] for each in launched] == [0, 1, 2, 2, 2]
    assert [each.name for each in launched[3:]] == ['one', 'two']
    assert given.name == ''


BAD = [
    ({'arg': {}}, ValueError, 'args'),
    ({'args': 'text'}, ValueError, 'list'),
    ([1], TypeError, 'mapping'),
]


@pytest.mark.parametrize(('args', 'error', 'message'), BAD)
def test_bad_args_raise_at_once_and_the_next_add_works(experiment, args, error, message):
    with pytest.raises(error, match=message):
        experiment.add(job(), args=args)
    assert experiment.add(job()).result().work_unit_id == 1
    assert experiment.work_unit_count == 1


@pytest.mark.parametrize(
    ('beside', 'message'),
    [
        ({'identity': 5}, 'identity=5.*type int.*Expected a text'),
        ({'identity': b'x'}, 'type bytes'),
        ({'role': 'work'}, "role='work'.*type str.*xm.WorkUnitRole"),
        ({'role': xm.WorkUnitRole}, 'Expected a role'),
    ],
)
def test_an_identity_or_role_of_a_wrong_type_raises_at_once(experiment, beside, message):
    with pytest.raises(TypeError, match=message):
        experiment.add(job(), **beside)
    assert experiment.add(job()).result().work_unit_id == 1
    assert experiment.work_unit_count == 1


@pytest.mark.parametrize('tags', ['big', ['big', 5], 5, [None]])
def test_tags_are_texts(tags):
    with pytest.raises(TypeError, match=r'tags=.*[Ee]xpected'):
        xm.WorkUnitRole(tags=tags)


@pytest.mark.parametrize(
    ('seconds', 'error'),
    [(-1, ValueError), (float('nan'), ValueError), ('5', TypeError), (None, TypeError)],
)
def test_a_termination_delay_is_a_number_of_seconds(seconds, error):
    with pytest.raises(error, match=r'termination_delay_secs=.*expected'):
        xm.AuxiliaryUnitRole(termination_delay_secs=seconds)


def circular_mapping():
    value: dict[str, Any] = {}
    value['x'] = {'y': value}
    return value


def circular_list():
    value: list[Any] = [1]
    value.append(value)
    return {'x': value}


def deep():
    value: dict[str, Any] = {}
    for _ in range(5000):
        value = {'x': value}
    return value


@pytest.mark.parametrize('make', [circular_mapping, circular_list, deep])
def test_arguments_without_an_end_are_told_in_a_sentence(experiment, make):
    async def generator(work_unit, **args):
        work_unit.add(job(), args={'args': make()})

    for each, args in [
        (job(), {'args': make()}),
        (job(args=make()), None),
        (job(args=make()), {'args': {'x': 1}}),
        (xm.JobGroup(learner=job()), {'learner': {'args': make()}}),
        (generator, make()),
    ]:
        with pytest.raises(ValueError, match=r'holds itself|levels deep'):
            experiment.add(each, args=args)
    with pytest.raises(ValueError, match=r'holds itself|levels deep'):
        experiment.add(generator).result()
    experiment.add(job())


def test_arguments_may_hold_one_thing_twice(experiment):
    shared = {'a': [1]}
    experiment.add(job(), args={'args': {'x': shared, 'y': [shared, shared]}}).result()


def test_an_unknown_job_of_a_group_is_an_error_that_names_the_known_ones(experiment):
    with pytest.raises(ValueError, match='learner'):
        experiment.add(xm.JobGroup(learner=job()), args={'lerner': {}})
    experiment.add(job())


@pytest.mark.parametrize('thing', [5, 'text', None, [], {}])
def test_what_is_no_job_is_a_type_error(experiment, thing):
    with pytest.raises(TypeError, match='no job'):
        experiment.add(thing)
    experiment.add(job())


def test_a_role_carries_importance_and_tags(experiment):
    role = xm.WorkUnitRole(importance=xm.Importance.HIGH, tags=['baseline'])
    assert experiment.add(job(), role=role).result().role == role


def test_an_auxiliary_unit_has_a_numbering_of_its_own(experiment):
    experiment.add(job())
    role = xm.AuxiliaryUnitRole(termination_delay_secs=60)
    unit = experiment.add(job(), role=role).result()
    assert isinstance(unit, xm.AuxiliaryUnit)
    assert unit.auxiliary_unit_id == 1
    assert unit.get_full_job_name('board') == '1_auxiliary_board'
    assert experiment.auxiliary_units == [unit]
    assert list(experiment.work_units) == [1]


def test_an_auxiliary_unit_job_brings_its_role(experiment):
    given = xm.AuxiliaryUnitJob(job(), termination_delay_secs=30, importance=xm.Importance.LOW)
    unit = experiment.add(given).result()
    assert unit.role == xm.AuxiliaryUnitRole(
        termination_delay_secs=30, importance=xm.Importance.LOW
    )


def test_an_auxiliary_unit_may_be_made_by_a_generator(experiment):
    async def generator(unit, port):
        unit.add(job(args={'port': port}))

    given = xm.AuxiliaryUnitJob(generator, termination_delay_secs=0)
    unit = experiment.add(given, args={'port': 80}).result()
    assert isinstance(unit, xm.AuxiliaryUnit)
    assert len(unit.launched_jobs) == 1


def test_names_of_units_and_jobs(experiment):
    unit = experiment.add(job(name='train')).result()
    assert unit.experiment_unit_name == '1_1'
    assert unit.get_full_job_name('train') == '1_1_train'
    assert [launched.name for launched in unit.launched_jobs] == ['1_1_train']
    assert repr(unit) == 'WorkUnit(experiment_id=1, work_unit_id=1)'


def test_an_identity_is_added_only_if_it_is_absent(experiment):
    first = experiment.add(job(args={'a': 1}), identity='best').result()
    second = experiment.add(job(args={'a': 2}), identity='best').result()
    other = experiment.add(job(), identity='other').result()
    assert first.identity == second.identity == 'best'
    assert (first.work_unit_id, second.work_unit_id, other.work_unit_id) == (1, 1, 2)
    assert second.args == {'args': {'a': 1}}
    assert experiment.work_unit_count == 2
    assert len(experiment.launched_jobs) == 2


def test_units_without_identity_are_never_the_same(experiment):
    assert experiment.add(job()).result() is not experiment.add(job()).result()


def test_a_generator_runs_for_an_identity_that_exists_and_launches_nothing(experiment):
    runs = []

    async def generator(work_unit):
        runs.append(work_unit.work_unit_id)
        await work_unit.add(job())

    for _ in range(2):
        experiment.add(generator, identity='sweep').result()
    assert runs == [1, 1]
    assert len(experiment.launched_jobs) == 1
    assert experiment.work_unit_count == 1


def test_work_and_auxiliary_units_may_share_an_identity(experiment):
    role = xm.AuxiliaryUnitRole(termination_delay_secs=0)
    work = experiment.add(job(), identity='x').result()
    auxiliary = experiment.add(job(), role=role, identity='x').result()
    assert isinstance(work, xm.WorkUnit)
    assert isinstance(auxiliary, xm.AuxiliaryUnit)


def test_a_job_config_is_passed_to_the_implementation(experiment):
    class Config(xm.JobConfig):
        pass

    unit = experiment.add(Config(), args={'anything': 1}).result()
    assert unit.args == {'anything': 1}
    assert isinstance(experiment.launched_jobs[0], Config)


def test_units_added_from_several_threads_each_get_a_number_of_their_own(experiment):
    futures = []
    threads = [
        threading.Thread(target=lambda: futures.append(experiment.add(job()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(future.result().work_unit_id for future in futures) == list(range(1, 9))


def test_a_script_that_adds_faster_than_units_can_be_made_is_held_up_and_nothing_else(monkeypatch):
    monkeypatch.setattr('xmanager.xm.experiment_context._MOST_PENDING', 1)
    monkeypatch.setattr('xmanager.xm.experiment_context._LONGEST_HOLD', 0.0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # The loop's thread takes its turn between any two steps of ours.
    try:
        with xm_mock.MockExperiment() as experiment:
            for _ in range(2000):
                experiment.add(job())
    finally:
        sys.setswitchinterval(before)
    assert len(experiment.work_units) == 2000
