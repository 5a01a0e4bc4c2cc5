"""`package` and `package_async`: order, batches, errors."""

import asyncio
from typing import ClassVar

import pytest

from xmanager import xm, xm_mock


def packageable(path):
    return xm.binary(xm_mock.MockExecutor.Spec(), path)


class Named(xm.Executable):
    pass


class PackagingExperiment(xm_mock.MockExperiment):
    """Keeps the batches that it is asked to package; refuses the path 'bad'."""

    batches: ClassVar[list[list[str]]] = []

    @classmethod
    def _package(cls, packageables):
        paths = [each.executable_spec.path for each in packageables]
        cls.batches.append(paths)
        if 'bad' in paths:
            raise ValueError('bad cannot be packaged')
        return [Named(path) for path in paths]


@pytest.fixture(autouse=True)
def batches():
    PackagingExperiment.batches.clear()
    return PackagingExperiment.batches


def awaited(awaitable):
    async def main():
        return await awaitable

    return asyncio.run(main())


def test_package_keeps_the_order_and_makes_one_batch(batches):
    executables = PackagingExperiment.package([packageable(path) for path in 'cab'])
    assert [executable.name for executable in executables] == ['c', 'a', 'b']
    assert batches == [['c', 'a', 'b']]


def test_package_works_on_an_experiment_too():
    with PackagingExperiment() as experiment:
        [executable] = experiment.package([packageable('a')])
        experiment.add(xm.Job(executable, xm_mock.MockExecutor()))
    assert experiment.launched_jobs[0].executable.name == 'a'


def test_package_async_joins_the_next_batch(batches):
    first = PackagingExperiment.package_async(packageable('x'))
    second = PackagingExperiment.package_async(packageable('y'))
    assert batches == []
    [given] = PackagingExperiment.package([packageable('a')])
    assert batches == [['a', 'x', 'y']]
    names = (given.name, awaited(first).name, awaited(second).name)
    assert names == ('a', 'x', 'y')
    PackagingExperiment.package()
    assert batches[1:] == [[]]


def test_what_package_async_returns_can_be_awaited_twice_and_gathered():
    queued = PackagingExperiment.package_async(packageable('x'))
    PackagingExperiment.package()

    async def main():
        return await asyncio.gather(queued, queued)

    first, second = asyncio.run(main())
    assert first is second


def test_awaiting_before_package_is_an_error_that_says_what_to_call():
    queued = PackagingExperiment.package_async(packageable('early'))
    with pytest.raises(RuntimeError, match=r"'early'.*experiment\.package\(\)"):
        awaited(queued)
    PackagingExperiment.package()
    assert awaited(queued).name == 'early'


def test_an_error_of_a_batch_is_raised_and_told_to_all_who_wait_for_it():
    queued = PackagingExperiment.package_async(packageable('x'))
    with pytest.raises(ValueError, match='bad cannot'):
        PackagingExperiment.package([packageable('bad')])
    with pytest.raises(ValueError, match='bad cannot'):
        awaited(queued)
    assert PackagingExperiment.package([]) == []


def test_one_packageable_without_a_list_is_refused_with_the_way_to_write_it():
    with pytest.raises(TypeError, match=r'package\(\[…\]\)'):
        PackagingExperiment.package(packageable('a'))


def test_classes_of_experiments_do_not_share_a_queue(batches):
    xm_mock.MockExperiment.package_async(packageable('mock'))
    PackagingExperiment.package([packageable('a')])
    assert batches == [['a']]
    xm_mock.MockExperiment.package()
