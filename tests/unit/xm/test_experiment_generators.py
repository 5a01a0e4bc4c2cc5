"""Job generators: async functions that add the jobs of their unit."""

import asyncio
import functools
import threading

import pytest

from xmanager import xm, xm_mock
from xmanager.xm.experiment_context import _current_experiment
from xmanager.xm.experiment_unit import current_unit


def job(**fields):
    return xm.Job(xm_mock.MockExecutable(), xm_mock.MockExecutor(), **fields)


@pytest.fixture
def experiment():
    with xm_mock.MockExperiment() as experiment:
        yield experiment


def test_a_generator_gets_its_unit_and_the_args(experiment):
    async def generator(work_unit, seed, width=8):
        assert isinstance(work_unit, xm.WorkUnit)
        work_unit.add(job(args={'seed': seed, 'width': width}))

    unit = experiment.add(generator, args={'seed': 3}).result()
    assert unit.args == {'seed': 3}
    assert experiment.launched_jobs[0].args.to_dict() == {'seed': 3, 'width': 8}
    assert unit.get_status().is_completed


def test_the_shown_arguments_of_a_generator_without_args_are_empty(experiment):
    async def generator(work_unit):
        work_unit.add(job(args={'seed': 1}))

    assert experiment.add(generator).result().args == {}


def test_a_generator_may_add_several_jobs_without_awaiting_them(experiment):
    async def generator(work_unit):
        for n in range(5):
            work_unit.add(job(args={'n': n}))
        await work_unit.add(xm.JobGroup(a=job()), args={'a': {'args': {'n': 5}}})

    experiment.add(generator).result()
    assert [each.args.to_dict()['n'] for each in experiment.launched_jobs] == list(range(6))


def test_a_generator_may_add_generators_to_its_unit(experiment):
    units = []

    async def inner(work_unit, n):
        units.append(work_unit)
        work_unit.add(job(args={'n': n}))

    async def outer(work_unit):
        work_unit.add(inner, args={'n': 1})
        await work_unit.add(inner, args={'n': 2})

    unit = experiment.add(outer).result()
    assert units == [unit, unit]
    assert len(unit.launched_jobs) == 2


def test_a_generator_may_add_units_to_the_experiment(experiment):
    async def controller(work_unit):
        for n in range(3):
            child = await work_unit.experiment.add(job(args={'n': n}))
            await child.wait_until_complete()

    experiment.add(xm.AuxiliaryUnitJob(controller, termination_delay_secs=0)).result()
    assert sorted(experiment.work_units) == [1, 2, 3]


def test_units_that_a_generator_adds_while_the_context_ends_are_waited_for():
    async def generator(work_unit):
        await asyncio.sleep(0)
        work_unit.experiment.add(generator_of_one)

    async def generator_of_one(work_unit):
        await asyncio.sleep(0)
        work_unit.add(job())

    with xm_mock.MockExperiment() as experiment:
        experiment.add(generator)
    assert len(experiment.launched_jobs) == 1


@pytest.mark.parametrize('function', [lambda work_unit: None, print, object])
def test_a_plain_function_is_a_value_error_that_shows_the_right_form(experiment, function):
    with pytest.raises(ValueError, match='async def'):
        experiment.add(function)
    experiment.add(job())


def test_partials_methods_and_callable_objects_are_generators_too(experiment):
    class Sweep:
        async def generate(self, work_unit):
            work_unit.add(job())

        async def __call__(self, work_unit):
            work_unit.add(job())

    async def generator(work_unit, n):
        work_unit.add(job(args={'n': n}))

    for each in (functools.partial(generator, n=1), Sweep().generate, Sweep()):
        experiment.add(each).result()
    assert len(experiment.launched_jobs) == 3


def test_unknown_and_missing_args_of_a_generator_are_errors_at_once(experiment):
    async def generator(work_unit, seed):
        work_unit.add(job())

    with pytest.raises(ValueError, match=r"'sed'.*seed"):
        experiment.add(generator, args={'sed': 1})
    with pytest.raises(ValueError, match='seed'):
        experiment.add(generator)
    assert experiment.add(generator, args={'seed': 1}).result().work_unit_id == 1


def test_an_error_in_a_generator_fails_the_unit_and_is_raised_to_who_awaits_it(experiment):
    async def generator(work_unit):
        work_unit.add(job())
        raise ValueError('no luck')

    with pytest.raises(ValueError, match='no luck'):
        experiment.add(generator).result()
    unit = experiment.work_units[1]
    assert unit.get_status().is_failed
    assert unit.get_status().message == 'no luck'
    assert len(experiment.launched_jobs) == 1


def test_waiting_for_a_unit_whose_generator_raised_says_that_it_could_not_be_created():
    async def generator(work_unit):
        raise ValueError('no luck')

    async def main():
        async with xm_mock.MockExperiment() as experiment:
            with pytest.raises(ValueError, match='no luck'):
                await experiment.add(generator)
            with pytest.raises(xm.ExperimentUnitError, match='no luck') as caught:
                await experiment.work_units[1].wait_until_complete()
            assert caught.value.work_unit is experiment.work_units[1]
            assert not isinstance(caught.value, xm.ExperimentUnitFailedError)

    asyncio.run(main())


def test_bad_args_within_a_generator_raise_where_they_stand(experiment):
    async def generator(work_unit):
        with pytest.raises(ValueError, match='args'):
            work_unit.add(job(), args={'arg': 1})
        with pytest.raises(TypeError, match='no job'):
            work_unit.add(5)
        with pytest.raises(ValueError, match='async def'):
            work_unit.add(print)
        work_unit.add(job())

    experiment.add(generator).result()
    assert len(experiment.launched_jobs) == 1


async def failing(work_unit):
    raise ValueError('inner')


def test_an_error_in_a_nested_generator_fails_the_unit_once(experiment, caplog):
    async def outer(work_unit):
        work_unit.add(failing)

    with pytest.raises(ValueError, match='inner'):
        experiment.add(outer).result()
    assert experiment.work_units[1].get_status().is_failed


def test_an_error_in_a_nested_generator_that_the_outer_one_caught_is_forgotten(experiment):
    async def outer(work_unit):
        with pytest.raises(ValueError, match='inner'):
            await work_unit.add(failing)
        work_unit.add(job())

    assert experiment.add(outer).result().get_status().is_completed


def test_two_errors_of_one_unit_are_raised_and_logged(caplog):
    async def outer(work_unit):
        work_unit.add(failing)
        raise KeyError('outer')

    with pytest.raises(KeyError, match='outer'), xm_mock.MockExperiment() as experiment:
        experiment.add(outer)
    assert 'inner' in caplog.text


class RecordingExperiment(xm_mock.MockExperiment):
    """Notes how many jobs are known when a generator has ended."""

    def __init__(self):
        super().__init__()
        self.known = []

    async def _generator_ended(self, unit, error):
        self.known.append((len(unit.launched_jobs), type(error)))
        await super()._generator_ended(unit, error)


def test_all_jobs_are_known_when_the_generator_has_ended_also_by_an_error():
    async def inner(work_unit):
        await asyncio.sleep(0)
        work_unit.add(job())

    async def good(work_unit):
        work_unit.add(job())
        work_unit.add(inner)

    async def bad(work_unit):
        work_unit.add(job())
        work_unit.add(inner)
        raise ValueError('bad')

    with RecordingExperiment() as experiment:
        experiment.add(good).result()
        with pytest.raises(ValueError, match='bad'):
            experiment.add(bad).result()
    assert experiment.known == [(2, type(None)), (2, ValueError)]


def test_a_cancelled_generator_ends_what_it_has_nested_and_tells_of_the_end():
    nested_cancelled = threading.Event()
    running = threading.Event()

    async def inner(work_unit):
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            nested_cancelled.set()

    async def outer(work_unit):
        work_unit.add(inner)
        await asyncio.Event().wait()

    with RecordingExperiment() as experiment:
        future = experiment.add(outer)
        running.wait()
        future.cancel()
    assert nested_cancelled.is_set()
    assert experiment.known == [(0, asyncio.CancelledError)]


def test_context_variables_tell_a_generator_its_experiment_and_unit(experiment):
    seen = []

    async def inner(work_unit):
        seen.append((_current_experiment.get(), current_unit()))

    async def outer(work_unit):
        await inner(work_unit)
        await work_unit.add(inner)
        await asyncio.create_task(inner(work_unit))

    unit = experiment.add(outer).result()
    assert seen == [(experiment, unit)] * 3
    assert current_unit() is None


def test_context_variables_are_set_for_units_added_by_a_thread_that_knows_nothing(experiment):
    seen = []

    async def generator(work_unit):
        seen.append((_current_experiment.get(None), current_unit()))

    futures = []
    thread = threading.Thread(target=lambda: futures.append(experiment.add(generator)))
    thread.start()
    thread.join()
    unit = futures[0].result()
    assert seen == [(experiment, unit)]


def test_jobs_may_be_added_to_a_unit_after_its_generator(experiment):
    async def generator(work_unit):
        work_unit.add(job())

    unit = experiment.add(generator).result()
    unit.add(job()).result()
    assert len(unit.launched_jobs) == 2
