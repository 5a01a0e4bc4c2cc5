"""Entering and leaving an experiment: what is waited for, raised, logged and warned of."""

# ruff: noqa: PT012 - what these blocks raise comes from leaving the context.

import asyncio
import contextlib
import contextvars
import logging
import signal
import threading

import pytest

from xmanager import xm, xm_mock


def job(**fields):
    return xm.Job(xm_mock.MockExecutable(), xm_mock.MockExecutor(), **fields)


async def for_ever(work_unit):
    await asyncio.Event().wait()


def raising(error):
    async def generator(work_unit):
        raise error

    return generator


def test_with_launches_what_was_added():
    with xm_mock.MockExperiment() as experiment:
        experiment.add(job(args={'a': 1}))
    assert experiment.launched_jobs_args == [{'args': {'a': 1}}]


def test_async_with_launches_what_was_added():
    async def main():
        async with xm_mock.MockExperiment() as experiment:
            experiment.add(job(args={'a': 1}))
        return experiment

    assert asyncio.run(main()).launched_jobs_args == [{'args': {'a': 1}}]


def test_what_each_of_many_threads_adds_is_launched_in_its_order():
    def add(experiment, thread):
        for place in range(200):
            experiment.add(job(args={'thread': thread, 'place': place}))

    with xm_mock.MockExperiment() as experiment:
        threads = [threading.Thread(target=add, args=(experiment, name)) for name in 'abcd']
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    launched = [unit['args'] for unit in experiment.launched_jobs_args]
    for name in 'abcd':
        assert [args['place'] for args in launched if args['thread'] == name] == [*range(200)]


def test_with_in_a_coroutine_is_refused_and_points_to_async_with():
    async def main():
        with pytest.raises(RuntimeError, match='async with'), xm_mock.MockExperiment():
            pass

    asyncio.run(main())


def test_with_in_an_async_generator_is_refused():
    async def generate():
        with xm_mock.MockExperiment():
            yield

    async def main():
        with pytest.raises(RuntimeError, match='async with'):
            await anext(generate())

    asyncio.run(main())


def test_with_works_in_a_plain_function_while_a_loop_runs_as_in_a_notebook():
    def cell():
        with xm_mock.MockExperiment() as experiment:
            experiment.add(job())
        return experiment

    async def notebook():
        return cell()

    assert len(asyncio.run(notebook()).launched_jobs) == 1


def test_adding_outside_the_context_says_to_enter_it():
    experiment = xm_mock.MockExperiment()
    with pytest.raises(RuntimeError, match='with experiment:'):
        experiment.add(job())
    with experiment:
        experiment.add(job())
    with pytest.raises(RuntimeError, match='with experiment:'):
        experiment.add(job())


def test_entering_an_open_experiment_is_refused_and_leaves_it_open():
    with xm_mock.MockExperiment() as experiment:
        with pytest.raises(RuntimeError, match='open already'), experiment:
            pass
        experiment.add(job())
    assert experiment.work_unit_count == 1


def test_a_left_experiment_can_be_entered_again_and_numbers_go_on():
    experiment = xm_mock.MockExperiment()
    for _ in range(2):
        with experiment:
            experiment.add(job())
    assert sorted(experiment.work_units) == [1, 2]


def test_no_thread_is_left_behind():
    before = set(threading.enumerate())
    with xm_mock.MockExperiment() as experiment:
        experiment.add(job())
    assert set(threading.enumerate()) == before


def test_an_error_nobody_awaited_is_raised_at_the_exit():
    with pytest.raises(ValueError, match='first'), xm_mock.MockExperiment() as experiment:
        experiment.add(raising(ValueError('first')))


def test_the_first_error_is_raised_and_the_others_are_logged(caplog):
    with pytest.raises(ValueError, match='first'), xm_mock.MockExperiment() as experiment:
        experiment.add(raising(ValueError('first')))
        experiment.add(raising(KeyError('second')))
        experiment.add(job())
    assert 'second' in caplog.text
    assert 'first' not in caplog.text
    assert len(experiment.launched_jobs) == 1


def test_asyncio_has_nothing_to_say_of_errors_raised_at_the_exit(caplog):
    with (
        caplog.at_level(logging.DEBUG, 'asyncio'),
        pytest.raises(ValueError, match='first'),
        xm_mock.MockExperiment() as experiment,
    ):
        experiment.add(raising(ValueError('first')))
    assert [r.message for r in caplog.records if 'never retrieved' in r.message] == []


def test_an_awaited_error_is_not_raised_again():
    async def main():
        async with xm_mock.MockExperiment() as experiment:
            with pytest.raises(ValueError, match='seen'):
                await experiment.add(raising(ValueError('seen')))

    asyncio.run(main())


def test_an_error_got_by_result_is_not_raised_again():
    with xm_mock.MockExperiment() as experiment, pytest.raises(ValueError, match='seen'):
        experiment.add(raising(ValueError('seen'))).result()


def test_an_error_is_raised_although_the_script_had_once_tired_of_waiting_for_it():
    release = threading.Event()

    async def late(work_unit):
        await asyncio.to_thread(release.wait)
        raise ValueError('late')

    with pytest.raises(ValueError, match='late'), xm_mock.MockExperiment() as experiment:
        with pytest.raises(TimeoutError):
            experiment.add(late).result(timeout=0)
        release.set()


def test_a_cancelled_addition_is_warned_of_and_not_raised(caplog):
    with xm_mock.MockExperiment() as experiment:
        assert experiment.add(for_ever).cancel()
        experiment.add(job())
    assert 'cancelled' in caplog.text
    assert len(experiment.launched_jobs) == 1


def test_a_cancelled_addition_is_warned_of_in_async_code(caplog):
    async def main():
        async with xm_mock.MockExperiment() as experiment:
            experiment.add(for_ever).cancel()
            experiment.add(job())

    asyncio.run(main())
    assert 'cancelled' in caplog.text


def test_an_experiment_without_work_units_is_warned_of(caplog):
    with xm_mock.MockExperiment() as experiment:
        experiment.add(xm.AuxiliaryUnitJob(job(), termination_delay_secs=0))
    assert 'No work units were added' in caplog.text


def test_the_scripts_own_error_is_raised_and_ours_are_logged(caplog):
    with pytest.raises(KeyError, match='mine'), xm_mock.MockExperiment() as experiment:
        experiment.add(raising(ValueError('ours')))
        raise KeyError('mine')
    assert 'ours' in caplog.text


def test_the_scripts_own_error_is_raised_from_async_code_and_ours_are_logged(caplog):
    async def main():
        async with xm_mock.MockExperiment() as experiment:
            experiment.add(raising(ValueError('ours')))
            raise KeyError('mine')

    with pytest.raises(KeyError, match='mine'):
        asyncio.run(main())
    assert 'ours' in caplog.text


def test_sys_exit_in_a_generator_leaves_the_script_once_all_is_added():
    with pytest.raises(SystemExit), xm_mock.MockExperiment() as experiment:
        experiment.add(raising(SystemExit(3)))
        experiment.add(job())
    assert len(experiment.launched_jobs) == 1


def test_debug_interrupt_leaves_without_waiting():
    cancelled = threading.Event()

    async def generator(work_unit):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(xm.DebugInterrupt), xm_mock.MockExperiment() as experiment:
        experiment.add(generator)
        assert list(experiment.work_units) == [1]
        raise xm.DebugInterrupt
    assert cancelled.is_set()


def test_debug_interrupt_leaves_async_code_without_waiting():
    async def main():
        with pytest.raises(xm.DebugInterrupt):
            async with xm_mock.MockExperiment() as experiment:
                future = experiment.add(for_ever)
                raise xm.DebugInterrupt
        await asyncio.wait([future])
        assert future.cancelled()

    asyncio.run(main())


def test_debug_interrupt_does_not_warn_of_missing_work_units(caplog):
    with pytest.raises(xm.DebugInterrupt), xm_mock.MockExperiment():
        raise xm.DebugInterrupt
    assert caplog.text == ''


class InterruptedExperiment(xm_mock.MockExperiment):
    """Counts interrupts, and waits at its end until there is one."""

    def __init__(self):
        super().__init__()
        self.interrupts = 0
        self.finishing = threading.Event()

    async def _finish(self, error):
        self.finishing.set()
        while not self.interrupts:
            await asyncio.sleep(0)
        return []

    def _interrupt(self):
        self.interrupts += 1


def test_ctrl_c_in_the_block_interrupts_once_ends_generators_and_goes_on_its_way():
    experiment = InterruptedExperiment()
    with pytest.raises(KeyboardInterrupt), experiment:
        experiment.add(for_ever)
        assert list(experiment.work_units) == [1]
        raise KeyboardInterrupt
    assert experiment.interrupts == 1


def test_ctrl_c_while_waiting_at_the_exit_interrupts_once_and_is_raised_in_the_end():
    experiment = InterruptedExperiment()
    with pytest.raises(KeyboardInterrupt), experiment:
        experiment.add(job())
        interrupt_main_thread_after(experiment.finishing)
    assert experiment.interrupts == 1


def test_ctrl_c_while_a_generator_is_waited_for_ends_the_generator():
    entered = threading.Event()

    async def generator(work_unit):
        entered.set()
        await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt), xm_mock.MockExperiment() as experiment:
        experiment.add(generator)
        interrupt_main_thread_after(entered)


def interrupt_main_thread_after(event):
    main_thread = threading.get_ident()

    def send():
        event.wait()
        signal.pthread_kill(main_thread, signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()


def test_cancelling_async_code_in_the_block_interrupts_and_goes_on_its_way():
    experiment = InterruptedExperiment()

    async def main():
        async with experiment:
            experiment.add(for_ever)
            await asyncio.Event().wait()

    async def cancel():
        task = asyncio.create_task(main())
        while not experiment.work_units:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert experiment.interrupts == 1


def test_cancelling_async_code_at_the_exit_interrupts_once_and_is_raised_in_the_end():
    experiment = InterruptedExperiment()

    async def main():
        async with experiment:
            experiment.add(job())

    async def cancel():
        task = asyncio.create_task(main())
        while not experiment.finishing.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert experiment.interrupts == 1


def test_the_context_can_be_left_in_another_context_than_it_was_entered_in():
    stack = contextlib.ExitStack()
    experiment = contextvars.copy_context().run(stack.enter_context, xm_mock.MockExperiment())
    experiment.add(job())
    stack.close()
    assert len(experiment.launched_jobs) == 1


class FailingExperiment(xm_mock.MockExperiment):
    """Cannot be entered."""

    def _entered(self):
        raise OSError('the disk is full')


def test_an_experiment_that_could_not_be_entered_is_closed_again():
    experiment = FailingExperiment()
    before = set(threading.enumerate())
    for _ in range(2):
        with pytest.raises(OSError, match='disk is full'), experiment:
            pass
    assert set(threading.enumerate()) == before
