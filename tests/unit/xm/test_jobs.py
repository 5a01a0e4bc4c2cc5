"""Jobs and groups, and the operations on them."""

import functools

import pytest

from xmanager import xm
from xmanager.xm import job_operators


class Here(xm.Executor):
    @classmethod
    def Spec(cls):
        return xm.ExecutorSpec()


class Nearby(xm.Constraint):
    pass


class Config(xm.JobConfig):
    pass


async def generator(work_unit, **args):
    pass


def job(**fields):
    return xm.Job(xm.Executable('exe'), Here(), **fields)


def nested():
    return xm.JobGroup(
        learner=job(), actors=xm.JobGroup(first=job(name='given'), second=job(env_vars={'A': 1}))
    )


def names(group):
    return [member.name for member in job_operators.flatten_jobs(group)]


def test_a_job_reads_arguments_at_creation_and_at_assignment():
    made = job(args={'a': 1}, env_vars={'B': 2})
    assert (made.args.to_argv(), made.env_vars, made.name) == (['--a=1'], {'B': 2}, '')
    made.args, made.env_vars, made.name = ['x'], {'C': 3}, None
    assert (made.args.to_argv(), made.env_vars, made.name) == (['x'], {'C': 3}, '')
    with pytest.raises(ValueError, match='a name must match'):
        made.env_vars = {'no good': 1}
    with pytest.raises(ValueError, match='bare string'):
        made.args = '--x'


def test_jobs_are_equal_when_their_parts_are():
    executor = Here()
    first, second = (xm.Job(xm.Executable('e'), executor, args=[1]) for _ in range(2))
    assert first == second
    assert first != xm.Job(xm.Executable('e'), executor, args=[2])


def test_a_group_keeps_its_members_in_order():
    constraint = Nearby()
    group = xm.JobGroup(constraints=[constraint], b=job(), a=job())
    assert list(group.jobs) == ['b', 'a']
    assert (group.constraints, xm.JobGroup(a=job()).constraints) == ([constraint], [])
    assert repr(xm.JobGroup(a=xm.JobGroup())) == 'JobGroup(a=JobGroup())'


def test_args_for_all_jobs_are_nested_like_the_group():
    each = {'args': {'lr': 1}}
    assert xm.get_args_for_all_jobs(job(), {'lr': 1}) == each
    assert xm.get_args_for_all_jobs(nested(), {'lr': 1}) == {
        'learner': each,
        'actors': {'first': each, 'second': each},
    }


def test_a_launched_job_has_a_name_and_perhaps_an_address_and_logs():
    launched = xm.LaunchedJob(name='1_1_x')
    assert (launched.name, launched.address, launched.logs) == ('1_1_x', None, None)


def test_a_copy_of_a_group_shares_no_job_with_it():
    group = nested()
    copied = job_operators.shallow_copy_job_type(group)
    job_operators.populate_job_names(copied)
    copied.jobs['actors'].jobs['second'].env_vars['B'] = 2
    copied.jobs['extra'] = job()
    assert names(group) == ['', 'given', '']
    assert group.jobs['actors'].jobs['second'].env_vars == {'A': 1}
    assert list(group.jobs) == ['learner', 'actors']
    assert copied.jobs['learner'].executor is group.jobs['learner'].executor


def test_generators_are_not_copied_and_configs_are():
    config = Config()
    assert job_operators.shallow_copy_job_type(generator) is generator
    assert job_operators.shallow_copy_job_type(config) is not config


def test_names_are_given_or_the_path_or_the_executables():
    group, single = nested(), job()
    job_operators.populate_job_names(group)
    job_operators.populate_job_names(single)
    job_operators.populate_job_names(generator)
    assert names(group) == ['learner', 'given', 'actors_second']
    assert single.name == 'exe'


def test_jobs_are_flattened_filtered_and_found_by_name():
    group = nested()
    job_operators.populate_job_names(group)
    assert names(job()) == ['']
    assert list(job_operators.get_jobs(group)) == ['learner', 'given', 'actors_second']
    chosen = job_operators.collect_jobs_by_filter(group, lambda member: 'A' in member.env_vars)
    assert [member.name for member in chosen] == ['actors_second']
    assert list(job_operators.get_jobs(xm.JobGroup(a=xm.JobGroup(c=Config())))) == ['c']


def test_two_jobs_of_one_name_are_refused():
    with pytest.raises(ValueError, match="called 'same'"):
        job_operators.get_jobs(xm.JobGroup(a=job(name='same'), b=job(name='same')))


def test_a_group_of_something_else_cannot_be_flattened():
    with pytest.raises(TypeError, match=r'a\.b is .*generator'):
        job_operators.flatten_jobs(xm.JobGroup(a=xm.JobGroup(b=generator)))


def test_a_job_generator_is_whatever_is_async_when_called():
    class Callable:
        async def __call__(self, work_unit):
            pass

    for yes in (generator, functools.partial(generator, x=1), Callable()):
        assert job_operators.is_job_generator(yes)
    for no in (lambda work_unit: None, Callable, xm.Job, job(), 5, None):
        assert not job_operators.is_job_generator(no)


def test_constraints_hold_for_the_jobs_below_them():
    outer, inner = Nearby(), Nearby()
    group = xm.JobGroup(
        constraints=[outer],
        a=job(name='a'),
        b=xm.JobGroup(constraints=[inner], c=job(name='c'), d=job(name='d')),
    )
    first, second = job_operators.aggregate_constraint_cliques(group)
    assert (first.constraint, second.constraint) == (outer, inner)
    assert [[j.name for j in clique.jobs] for clique in (first, second)] == [
        ['a', 'c', 'd'],
        ['c', 'd'],
    ]
    assert (first.size, second.size) == (2, 2)
    assert (first.parent_group_name, second.parent_group_name) == (None, first.group_name)
    assert first.group_name != second.group_name
    assert job_operators.aggregate_constraint_cliques(job()) == []
