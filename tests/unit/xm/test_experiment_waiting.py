"""Waiting for units to end."""

import asyncio
import gc

import pytest

from xmanager import xm, xm_mock


def job(**fields):
    return xm.Job(xm_mock.MockExecutable(), xm_mock.MockExecutor(), **fields)


def with_units(count):
    """Runs the decorated async function with an open experiment and so many of its units."""

    def decorate(test):
        def run():
            async def main():
                async with xm_mock.MockExperiment() as experiment:
                    units = [await experiment.add(job()) for _ in range(count)]
                    await test(experiment, *units)

            asyncio.run(main())

        return run

    return decorate


@with_units(1)
async def test_waiting_returns_the_unit(experiment, unit):
    assert await unit.wait_until_complete() is unit


@with_units(2)
async def test_asyncio_wait_hands_back_what_knows_its_work_unit(experiment, first, second):
    waits = {first.wait_until_complete(), second.wait_until_complete()}
    done, pending = await asyncio.wait(waits)
    assert done == waits
    assert not pending
    assert {wait.work_unit for wait in done} == {first, second}
    assert {wait.result() for wait in done} == {first, second}


@with_units(2)
async def test_asyncio_wait_for_the_first_leaves_the_others_usable(experiment, first, second):
    waits = {first.wait_until_complete(), second.wait_until_complete()}
    while waits:
        done, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        assert all(wait.done() for wait in done)


@with_units(2)
async def test_as_completed_gather_and_wait_for_return_units(experiment, first, second):
    completed = [await each for each in asyncio.as_completed([first.wait_until_complete()])]
    gathered = await asyncio.gather(first.wait_until_complete(), second.wait_until_complete())
    waited = await asyncio.wait_for(second.wait_until_complete(), timeout=60)
    assert (completed, list(gathered), waited) == ([first], [first, second], second)


@with_units(1)
async def test_the_awaitable_of_a_work_unit_can_be_awaited_twice(experiment, unit):
    awaitable = unit.wait_until_complete()
    assert awaitable.work_unit is unit
    assert await awaitable is await awaitable
    assert awaitable.exception() is None


@with_units(1)
async def test_an_awaitable_that_nobody_uses_runs_nothing_and_warns_of_nothing(experiment, unit):
    unit.wait_until_complete()
    gc.collect()


@with_units(1)
async def test_a_failed_unit_raises_an_error_that_has_the_unit(experiment, unit):
    unit.stop(mark_as_failed=True, message='out of memory')
    with pytest.raises(xm.ExperimentUnitFailedError, match='out of memory') as caught:
        await unit.wait_until_complete()
    assert caught.value.work_unit is unit


@with_units(1)
async def test_a_stopped_unit_raises_that_it_did_not_complete(experiment, unit):
    unit.stop(message='enough')
    with pytest.raises(xm.ExperimentUnitNotCompletedError, match='enough'):
        await unit.wait_until_complete()


@with_units(2)
async def test_asyncio_wait_for_the_first_error_tells_whose_it_is(experiment, first, second):
    first.stop(mark_as_failed=True)
    waits = [unit.wait_until_complete() for unit in (first, second)]
    done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_EXCEPTION)
    assert [wait.work_unit for wait in done if wait.exception()] == [first]


class EndlessUnit(xm_mock.MockWorkUnit):
    """Never ends."""

    async def _wait(self):
        await asyncio.Event().wait()


def endless(experiment):
    return EndlessUnit(experiment, 99, {}, xm.WorkUnitRole())


@with_units(1)
async def test_a_wait_can_be_cancelled_alone_and_within_a_gather(experiment, unit):
    alone = endless(experiment).wait_until_complete()
    asyncio.get_running_loop().call_soon(alone.cancel)
    with pytest.raises(asyncio.CancelledError):
        await alone
    assert alone.cancelled()
    inner = endless(experiment).wait_until_complete()
    gathered = asyncio.gather(unit.wait_until_complete(), inner)
    asyncio.get_running_loop().call_soon(inner.cancel)
    with pytest.raises(asyncio.CancelledError):
        await gathered


@with_units(1)
async def test_a_timeout_of_asyncio_wait_leaves_the_wait_pending(experiment, unit):
    wait = endless(experiment).wait_until_complete()
    done, pending = await asyncio.wait([wait], timeout=0)
    assert (done, pending) == (set(), {wait})
    wait.cancel()


@with_units(1)
async def test_auxiliary_units_can_be_waited_for(experiment, unit):
    auxiliary = await experiment.add(xm.AuxiliaryUnitJob(job(), termination_delay_secs=0))
    assert await auxiliary.wait_until_complete() is auxiliary


def test_units_can_be_waited_for_after_the_context():
    with xm_mock.MockExperiment() as experiment:
        experiment.add(job())
    unit = experiment.work_units[1]

    async def main():
        return await unit.wait_until_complete()

    assert asyncio.run(main()) is unit
