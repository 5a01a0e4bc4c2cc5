"""`xm.run_in_asyncio_loop`: an async main as a plain function."""

import asyncio
import contextvars
import signal
import threading

import pytest

from xmanager import xm, xm_mock


def job():
    return xm.Job(xm_mock.MockExecutable(), xm_mock.MockExecutor())


@xm.run_in_asyncio_loop
async def main(count, *, name='x'):
    """Adds some units."""
    async with xm_mock.MockExperiment() as experiment:
        for _ in range(count):
            await experiment.add(job())
    return name, experiment.work_unit_count


@xm.run_in_asyncio_loop
async def failing():
    raise ValueError('no luck')


@xm.run_in_asyncio_loop
async def exiting():
    raise SystemExit(3)


def call_where_a_loop_runs(function, *args, **kwargs):
    async def notebook():
        return function(*args, **kwargs)

    return asyncio.run(notebook())


def call(function, *args, **kwargs):
    return function(*args, **kwargs)


@pytest.mark.parametrize('where', [call, call_where_a_loop_runs])
def test_arguments_and_results_pass_through(where):
    assert where(main, 2, name='y') == ('y', 2)


@pytest.mark.parametrize('where', [call, call_where_a_loop_runs])
def test_errors_pass_through(where):
    with pytest.raises(ValueError, match='no luck'):
        where(failing)


@pytest.mark.parametrize('where', [call, call_where_a_loop_runs])
def test_sys_exit_passes_through(where):
    with pytest.raises(SystemExit) as caught:
        where(exiting)
    assert caught.value.code == 3


def test_the_function_keeps_its_name_and_docstring():
    assert (main.__name__, main.__doc__) == ('main', 'Adds some units.')


@pytest.mark.parametrize('where', [call, call_where_a_loop_runs])
def test_context_variables_of_the_caller_are_seen(where):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar('variable')
    variable.set('here')

    @xm.run_in_asyncio_loop
    async def read():
        return variable.get()

    assert where(read) == 'here'


def test_no_thread_is_left_where_a_loop_runs():
    before = set(threading.enumerate())
    call_where_a_loop_runs(main, 1)
    assert set(threading.enumerate()) == before


def test_ctrl_c_where_a_loop_runs_cancels_the_function_and_waits_for_its_end():
    ended = []
    main_thread = threading.get_ident()

    @xm.run_in_asyncio_loop
    async def endless():
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    def interrupt():
        signal.pthread_kill(main_thread, signal.SIGINT)

    def cell():
        # asyncio.run takes SIGINT for itself; a notebook's kernel does not.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            endless()
        return list(ended)

    assert call_where_a_loop_runs(cell) == [True]
