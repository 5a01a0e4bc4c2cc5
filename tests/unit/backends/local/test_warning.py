"""A job is warned of its timeout once, by whichever supervisor is there: real processes, and a clock of our own."""

import shutil
import signal
import sys

import attrs
import pytest

from xmanager.backends.local.processes import boot_seconds, seconds
from xmanager.xm.limits import WARNING_SIGNALS

LIMITS = {'timeout': 1000.0, 'warn_before': 100.0}


def program(handlers, ready='os.write(1, b"ready")'):
    """A command that handles signals as told. A shell would not do: its children would heed none of them."""
    lines = [f'signal.signal(signal.{name}, lambda *_: {do})' for name, do in handlers.items()]
    body = '\n'.join(['import os, signal, time', *lines, ready, 'while True: time.sleep(0.02)'])
    return (sys.executable, '-I', '-S', '-c', body)


SAVE = '(os.write(1, b"saved"), os._exit(5))'
COUNT = 'os.write(1, b".")'
SAVING = program({'SIGUSR1': SAVE})
COUNTING = program({'SIGUSR1': COUNT})


class Clock:
    """Seconds since boot, put forward at will."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return boot_seconds() + self.ahead


@pytest.fixture
def clock():
    return Clock()


def end_of(observation, job='job0'):
    task = observation[job]
    return task.state, task.exit_code, task.signal


def marker(unit, job='job0'):
    return unit.folder / job / f'warned.{unit.attempt}'


def test_a_job_is_warned_before_its_timeout_and_can_save_what_it_has(world, clock):
    backend = world.backend(clock=clock)
    unit = world.unit(SAVING, **LIMITS)
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready')
    backend.observe(refs)
    assert not marker(unit).exists()
    clock.ahead = 901.0
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', 5, None)
    assert (observation['job0'].reason, observation['job0'].cause) == ('', '')
    assert world.log(unit).read_bytes() == b'readysaved'
    assert marker(unit).exists()


def test_a_job_that_goes_on_is_warned_once_and_ended_at_its_timeout(world, clock):
    backend = world.backend(clock=clock)
    unit = world.unit(COUNTING, **LIMITS)
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready')
    clock.ahead = 901.0
    for _ in range(3):
        backend.observe(refs)
    world.wait_for_log(unit, b'ready.')
    clock.ahead = 1001.0
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', None, signal.SIGTERM)
    assert observation['job0'].reason == 'timed out after 1000.0 s'
    assert observation['job0'].cause == 'timeout'
    assert world.log(unit).read_bytes() == b'ready.'


def test_a_job_that_heeds_no_warning_ends_by_it(world, clock):
    backend = world.backend(clock=clock)
    unit = world.unit(program({}), **LIMITS)
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready')
    clock.ahead = 901.0
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', None, signal.SIGUSR1)
    assert (observation['job0'].reason, observation['job0'].cause) == (
        'was killed by SIGUSR1, our warning 100.0 s before its timeout, which it must handle',
        '',
    )


@pytest.mark.parametrize('name', WARNING_SIGNALS)
def test_the_exit_code_is_kept_whatever_signal_warns(world, clock, name):
    backend = world.backend(clock=clock)
    unit = world.unit(program({name: SAVE}), warn_signal=name, **LIMITS)
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready')
    clock.ahead = 901.0
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', 5, None)


def test_a_successor_warns_in_time_and_no_third_one_does(world, clock):
    unit = world.unit(COUNTING, **LIMITS)
    refs = world.submit(world.backend(), unit)
    world.wait_for_log(unit, b'ready')
    clock.ahead = 901.0
    for _ in range(2):
        world.backend(clock=clock).observe(refs)
        world.wait_for_log(unit, b'ready.')
    clock.ahead = 1001.0
    (observation,) = world.wait_for_end(world.backend(clock=clock), refs)
    assert observation['job0'].cause == 'timeout'
    assert world.log(unit).read_bytes() == b'ready.'


def test_the_next_attempt_is_warned_again(world, clock):
    backend = world.backend(clock=clock)
    first = world.unit(SAVING, **LIMITS)
    again = attrs.evolve(first, attempt=2, key=f'{first.key}.2')
    world.keys.add(again.key)
    for unit in (first, again):
        clock.ahead = 0.0
        refs = world.submit(backend, unit)
        world.wait_for_log(unit, b'ready')
        clock.ahead = 901.0
        (observation,) = world.wait_for_end(backend, refs)
        assert end_of(observation) == ('exited', 5, None)
        assert marker(unit).exists()


def test_a_job_that_is_being_stopped_is_not_warned(world, clock):
    backend = world.backend(clock=clock)
    handlers = {'SIGUSR1': COUNT, 'SIGTERM': 'os.write(1, b"term")'}
    unit = world.unit(program(handlers), **LIMITS)
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready')
    backend.stop(refs, 2000.0)
    clock.ahead = 901.0
    backend.observe(refs)
    world.wait_for_log(unit, b'readyterm')
    assert not marker(unit).exists()
    backend.stop(refs, 0.0)
    world.wait_for_end(backend, refs)
    assert world.log(unit).read_bytes() == b'readyterm'


def test_it_is_too_late_for_a_warning_once_the_time_is_up(world, clock):
    backend = world.backend(clock=clock)
    unit = world.unit(COUNTING, **LIMITS)
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready')
    clock.ahead = 1001.0
    (observation,) = world.wait_for_end(backend, refs)
    assert observation['job0'].cause == 'timeout'
    assert world.log(unit).read_bytes() == b'ready'


def test_each_job_of_a_group_is_warned(world, clock):
    backend = world.backend(clock=clock)
    unit = world.unit(SAVING, SAVING, **LIMITS)
    refs = world.submit(backend, unit)
    for job in ('job0', 'job1'):
        world.wait_for_log(unit, b'ready', job)
    clock.ahead = 901.0
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == end_of(observation, 'job1') == ('exited', 5, None)


def test_a_job_whose_folder_was_removed_is_warned_once_all_the_same(world, clock):
    backend = world.backend(clock=clock)
    kept = world.folder / 'kept'
    opened = f'os.dup2(os.open({str(kept)!r}, os.O_CREAT | os.O_WRONLY), 1); os.write(1, b"ready")'
    unit = world.unit(program({'SIGUSR1': COUNT}, opened), **LIMITS)
    refs = world.submit(backend, unit)
    world.wait_until(lambda: kept.exists() and kept.read_bytes() == b'ready')
    shutil.rmtree(unit.folder)
    clock.ahead = 901.0
    for _ in range(3):
        backend.observe(refs)
    world.wait_until(lambda: kept.read_bytes() == b'ready.')
    backend.stop(refs, 0.0)
    world.wait_for_end(backend, refs)
    assert kept.read_bytes() == b'ready.'


def test_the_back_end_asks_to_be_called_when_the_next_limit_is_due(world):
    now: list[float] = []
    backend = world.backend(clock=lambda: now[0] if now else boot_seconds())
    unit = world.unit(COUNTING, **LIMITS)
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready')
    began = seconds(int(next(iter(refs)).partition('/')[2].partition('@')[0]))
    assert backend.period == 1.0
    now.append(began + 899.75)
    assert backend.period == pytest.approx(0.25)
    now[0] = began + 900.0
    assert backend.period == 0.01
    backend.observe(refs)
    assert backend.period == 1.0
    now[0] = began + 999.5
    assert backend.period == pytest.approx(0.5)
    now.clear()
    backend.stop(refs, 0.0)
    world.wait_for_end(backend, refs)


@pytest.mark.parametrize('is_known', [True, False])
def test_a_timeout_is_told_by_the_successor_of_who_ended_the_job(world, clock, is_known):
    backend = world.backend(clock=clock)
    unit = world.unit(program({'SIGTERM': SAVE}), **LIMITS)
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready')
    clock.ahead = 1001.0
    backend.observe(refs)
    world.wait_until(lambda: 'exited' in (unit.folder / 'job0' / 'status').read_text())
    backend.close()
    successor = world.backend()
    if not is_known:
        refs = {successor.find([unit])[unit.key]: unit}
    (observation,) = world.wait_for_end(successor, refs)
    assert end_of(observation) == ('exited', 5, None)
    assert observation['job0'].reason == 'timed out after 1000.0 s'
    assert observation['job0'].cause == 'timeout'
