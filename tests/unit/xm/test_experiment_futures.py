"""What `experiment.add` returns: a future for sync code and for async code, in this loop and in others."""

import asyncio
import concurrent.futures
import threading

import pytest

from xmanager import xm, xm_mock


def job(**fields):
    return xm.Job(xm_mock.MockExecutable(), xm_mock.MockExecutor(), **fields)


async def for_ever(work_unit):
    await asyncio.Event().wait()


async def failing(work_unit):
    raise ValueError('no luck')


def test_result_waits_in_sync_code():
    with xm_mock.MockExperiment() as experiment:
        assert experiment.add(job()).result().work_unit_id == 1
        assert experiment.add(failing).exception().args == ('no luck',)


def test_a_sync_future_can_be_waited_for_with_concurrent_futures():
    with xm_mock.MockExperiment() as experiment:
        futures = [experiment.add(job()) for _ in range(3)]
        done, pending = concurrent.futures.wait(futures)
        assert (len(done), len(pending)) == (3, 0)
        ids = {each.result().work_unit_id for each in concurrent.futures.as_completed(futures)}
        assert ids == {1, 2, 3}


def test_a_cancelled_sync_future_wakes_who_waits_for_it():
    with xm_mock.MockExperiment() as experiment:
        future = experiment.add(for_ever)
        assert future.cancel()
        done, _ = concurrent.futures.wait([future])
        assert done == {future}
        with pytest.raises(concurrent.futures.CancelledError):
            future.result()


def test_a_future_that_is_done_cannot_be_cancelled():
    with xm_mock.MockExperiment() as experiment:
        future = experiment.add(job())
        future.result()
        assert not future.cancel()


def test_a_sync_future_can_be_awaited_in_a_loop_that_comes_later():
    async def main(future):
        return await asyncio.gather(future, future)

    with xm_mock.MockExperiment() as experiment:
        future = experiment.add(job())
        assert asyncio.run(main(future)) == [experiment.work_units[1]] * 2


def test_an_error_awaited_through_a_sync_future_is_not_raised_again():
    async def main(future):
        with pytest.raises(ValueError, match='no luck'):
            await future

    with xm_mock.MockExperiment() as experiment:
        asyncio.run(main(experiment.add(failing)))


def test_gather_wait_wait_for_and_as_completed_take_async_futures():
    async def main():
        async with xm_mock.MockExperiment() as experiment:
            units = list(await asyncio.gather(experiment.add(job()), experiment.add(job())))
            units.append(await asyncio.wait_for(experiment.add(job()), timeout=60))
            units += [await each for each in asyncio.as_completed([experiment.add(job())])]
            future = experiment.add(job())
            done, _ = await asyncio.wait([future])
            assert done == {future}
            units.append(future.result())
            async with asyncio.TaskGroup() as group:
                task = group.create_task(added(experiment))
            units.append(task.result())
            assert [unit.work_unit_id for unit in units] == [1, 2, 3, 4, 5, 6]

    async def added(experiment):
        return await experiment.add(job())

    asyncio.run(main())


@pytest.mark.parametrize('awaiting', ['gather', 'wait_for', 'as_completed', 'await'])
def test_an_error_seen_by_any_way_of_awaiting_is_not_raised_again(awaiting):
    async def see(future):
        if awaiting == 'gather':
            results = await asyncio.gather(future, return_exceptions=True)
            raise results[0]
        if awaiting == 'wait_for':
            await asyncio.wait_for(future, timeout=60)
        if awaiting == 'as_completed':
            await next(iter(asyncio.as_completed([future])))
        await future

    async def main():
        async with xm_mock.MockExperiment() as experiment:
            with pytest.raises(ValueError, match='no luck'):
                await see(experiment.add(failing))

    asyncio.run(main())


def test_an_error_nobody_looked_at_after_asyncio_wait_is_raised_at_the_exit():
    async def main():
        async with xm_mock.MockExperiment() as experiment:
            await asyncio.wait([experiment.add(failing)])

    with pytest.raises(ValueError, match='no luck'):
        asyncio.run(main())


def test_a_timeout_of_wait_for_cancels_the_addition(caplog):
    async def main():
        async with xm_mock.MockExperiment() as experiment:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(experiment.add(for_ever), timeout=0.001)

    asyncio.run(main())
    assert 'cancelled' in caplog.text


def test_adding_and_awaiting_work_from_another_loop_than_the_experiments():
    async def main(experiment):
        unit = await experiment.add(job())
        assert await unit.wait_until_complete() is unit
        with pytest.raises(ValueError, match='no luck'):
            await experiment.add(failing)
        return unit.work_unit_id

    with xm_mock.MockExperiment() as experiment:
        assert asyncio.run(main(experiment)) == 1


def test_adding_works_from_a_thread_while_the_experiment_is_in_async_code():
    async def main():
        async with xm_mock.MockExperiment() as experiment:
            unit = await asyncio.to_thread(lambda: experiment.add(job()).result())
            assert unit.work_unit_id == 1

    asyncio.run(main())


def test_an_error_is_only_in_the_future_when_it_was_awaited_in_another_loop(caplog):
    seen = threading.Event()

    async def main(experiment):
        with pytest.raises(ValueError, match='no luck'):
            await experiment.add(failing)
        seen.set()

    with xm_mock.MockExperiment() as experiment:
        asyncio.run(main(experiment))
    assert seen.is_set()
    assert 'no luck' not in caplog.text
