"""The `args` of `experiment.add`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager import xm, xm_mock
from xmanager.xm.apply_args import apply_args, shown_args, validate_job


class Here(xm.Executor):
    @classmethod
    def Spec(cls):
        return xm.ExecutorSpec()


class Config(xm.JobConfig):
    pass


async def generator(work_unit, **args):
    pass


def job(**fields):
    return xm.Job(xm.Executable('exe'), Here(), **fields)


def group():
    return xm.JobGroup(a=job(args={'z': 1}), b=xm.JobGroup(c=job(env_vars={'Q': 1}), d=job()))


def test_overrides_are_merged_into_a_copy():
    original = job(args={'a': 1, 'b': 2}, env_vars={'A': 1})
    changed = apply_args(original, {'args': {'a': 3}, 'env_vars': {'B': 2}})
    assert changed.args.to_argv() == ['--a=3', '--b=2']
    assert changed.env_vars == {'A': 1, 'B': 2}
    assert original.args.to_argv() == ['--a=1', '--b=2']
    assert original.env_vars == {'A': 1}


@pytest.mark.parametrize('args', [None, {}, {'args': None, 'env_vars': None}])
def test_no_overrides_make_an_equal_copy(args):
    original = job(args=[1], env_vars={'A': 1})
    changed = apply_args(original, args)
    assert changed == original
    assert changed is not original


def test_overrides_of_a_group_go_by_name_at_any_depth():
    changed = apply_args(group(), {'a': {'args': ['p']}, 'b': {'c': {'env_vars': {'Q': 2}}}})
    assert changed.jobs['a'].args.to_argv() == ['--z=1', 'p']
    assert changed.jobs['b'].jobs['c'].env_vars == {'Q': 2}
    assert changed.jobs['b'].jobs['d'].args == xm.SequentialArgs()


@pytest.mark.parametrize(
    ('args', 'sentence'),
    [
        ({'q': {}}, r"xm\.JobGroup does not take \['q'\]\. Allowed are \['a', 'b'\]"),
        ({'args': {}}, r"Allowed are \['a', 'b'\]"),
        ({'b': {'q': {}}}, r"xm\.JobGroup\['b'\] .*Allowed are \['c', 'd'\]"),
        ({'b': {'c': {'q': {}}}}, r"xm\.Job\['b'\]\['c'\] .*Allowed are \['args', 'env_vars'\]"),
        ({'a': {'args': '--x'}}, 'bare string'),
        ({'a': {'env_vars': {'no good': 1}}}, 'a name must match'),
    ],
)
def test_a_wrong_key_or_value_is_a_value_error_that_names_what_is_allowed(args, sentence):
    with pytest.raises(ValueError, match=sentence):
        apply_args(group(), args)


def test_args_that_are_no_mapping_are_a_type_error():
    args: Any = [1]
    with pytest.raises(TypeError, match='Expected a mapping'):
        apply_args(job(), args)


def test_generators_and_configs_take_any_args_themselves():
    assert apply_args(generator, {'x': 1}) is generator
    assert isinstance(apply_args(Config(), {'x': 1}), Config)


def test_shown_are_the_args_given_unaltered():
    assert shown_args(job(args={'a': 1}), {'args': ['p']}) == {'args': ['p']}
    assert shown_args(job(args={'a': 1}), {}) == {}
    assert shown_args(generator, {'x': 1}) == {'x': 1}


def test_shown_are_else_keywords_and_environment_less_what_is_empty():
    made = job(args=xm.merge_args(['p'], {'a': 5}), env_vars={'A': 1})
    assert shown_args(made, None) == {'args': {'a': 5}, 'env_vars': {'A': 1}}
    assert shown_args(job(args=['p']), None) == {}
    assert shown_args(group(), None) == {
        'a': {'args': {'z': 1}},
        'b': {'c': {'env_vars': {'Q': 1}}},
    }
    assert shown_args(xm.JobGroup(b=xm.JobGroup(d=job())), None) == {}
    assert shown_args(generator, None) == shown_args(Config(), None) == {}


@pytest.mark.parametrize('good', [job(), group(), generator, Config(), xm.JobGroup()])
def test_a_good_job_is_valid(good):
    validate_job(good)


@pytest.mark.parametrize('member', [lambda work_unit: None, xm.Job, print])
def test_a_function_that_is_not_async_is_a_value_error(member):
    for bad in (member, xm.JobGroup(a=xm.JobGroup(b=member))):
        with pytest.raises(ValueError, match='async def'):
            validate_job(bad)


@pytest.mark.parametrize('member', [None, 5, 'job', {'a': job()}])
def test_a_thing_that_is_no_job_is_a_type_error(member):
    for bad in (member, xm.JobGroup(a=xm.JobGroup(b=member))):
        with pytest.raises(TypeError, match='is no job'):
            validate_job(bad)


def test_a_generator_inside_a_group_is_a_type_error():
    with pytest.raises(TypeError, match='Add the job generator to the experiment'):
        validate_job(xm.JobGroup(a=generator))


@pytest.mark.parametrize(
    'executable', [xm.Binary('a'), xm.binary(xm.ExecutorSpec(), 'a')], ids=['spec', 'packageable']
)
def test_an_executable_that_was_not_packaged_is_a_type_error(executable):
    with pytest.raises(TypeError, match=r'experiment\.package'):
        validate_job(xm.JobGroup(a=xm.Job(executable, Here())))


keywords = st.dictionaries(st.text(min_size=1), st.integers())


@given(keywords, keywords)
def test_overriding_is_merging(own, override):
    changed = apply_args(job(args=own), {'args': override})
    assert changed.args == xm.merge_args(own, override)


def test_arguments_that_were_not_put_under_args_are_told_where_they_go():
    job = xm.Job(xm_mock.MockExecutable(), xm_mock.MockExecutor())
    with pytest.raises(ValueError, match=r"args=\{'args': \{'learning_rate'"):
        apply_args(job, {'learning_rate': 1})


def test_an_executable_that_was_not_unpacked_is_told_how():
    executables: Any = [xm_mock.MockExecutable()]
    with pytest.raises(TypeError, match=r'\[executable\] = experiment.package'):
        validate_job(xm.Job(executables, xm_mock.MockExecutor()))
