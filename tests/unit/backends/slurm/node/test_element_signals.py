"""Signals, limits and warnings reach the program once, and its end is known through all of them."""

import contextlib
import signal
import sys
from pathlib import Path

import pytest
from tests.unit.backends.slurm.node.started import (
    has_default_signal,
)

# Signals and limits.


@pytest.mark.parametrize(
    'number', [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM]
)
def test_it_outlives_what_slurm_sends_to_all(start, shell, number):
    if shell[0] == 'busybox' and number == signal.SIGINT and not has_default_signal():
        pytest.skip('env(1) can not do it here')
    started = start('/bin/sh', '-c', 'echo ready; exec sleep 1000', timeout=1000.0)
    started.wait_for_log(b'ready')
    started.signal(number)
    end = started.wait()
    assert (end.signal, end.terminated) == (number, False)


CAREFUL = (
    sys.executable,
    '-uc',
    'import signal, sys, time\n'
    'def end(*_):\n'
    '    global count; count += 1; print("term", flush=True)\n'
    'count = 0; signal.signal(signal.SIGTERM, end); print("ready", flush=True)\n'
    'while not count: time.sleep(0.01)\n'
    'time.sleep(0.4); print("saved", count, flush=True); sys.exit(5)',
)


@pytest.mark.parametrize('way', ['signal', 'end'])
def test_a_term_from_outside_is_noted(start, way):
    started = start('/bin/sh', '-c', 'echo ready; exec sleep 1000')
    started.wait_for_log(b'ready')
    if way == 'signal':
        started.signal(signal.SIGTERM)
    else:
        started.end()
    end = started.wait()
    assert (end.signal, end.terminated, started.code) == (15, True, 143)


@pytest.mark.parametrize('way', ['signal', 'end'])
def test_a_program_gets_one_term_and_may_take_its_time(start, way):
    started = start(*CAREFUL)
    started.wait_for_log(b'ready')
    if way == 'signal':
        started.signal(signal.SIGTERM)
    else:
        started.end()
    end = started.wait()
    assert (end.exit_code, end.terminated) == (5, True)
    assert started.log == b'ready\nterm\nsaved 1\n'


def test_what_does_not_heed_the_term_of_scancel_is_killed_after_its_grace_time(start):
    started = start(
        '/bin/sh',
        '-c',
        "trap '' TERM; echo ready; while :; do sleep 0.01; done",
        grace=0.2,
        timeout=1000.0,
    )
    started.wait_for_log(b'ready')
    started.signal(signal.SIGTERM)
    end = started.wait()
    assert (end.signal, end.terminated, end.timed_out) == (9, True, False)


def test_a_timeout_ends_the_program_and_what_it_started(start):
    started = start('/bin/sh', '-c', 'sleep 1000 & echo ready; wait', timeout=0.2)
    end = started.wait()
    assert (end.signal, end.timed_out, end.terminated, end.warned) == (15, True, False, False)


def test_what_does_not_end_in_its_grace_time_is_killed(start):
    started = start(
        '/bin/sh', '-c', "trap '' TERM; while :; do sleep 0.01; done", timeout=0.1, grace=0.1
    )
    end = started.wait()
    assert (end.signal, end.timed_out) == (9, True)


@pytest.mark.parametrize('name', ['SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGINT', 'SIGTERM'])
def test_a_warning_comes_before_the_timeout(start, shell, name):
    if shell[0] == 'busybox' and name == 'SIGINT' and not has_default_signal():
        pytest.skip('env(1) can not do it here')
    short = name.removeprefix('SIG')
    started = start(
        *(
            '/bin/bash',
            '-c',
            f"trap 'echo warned; exit 3' {short}; echo ready; while :; do sleep 0.01; done",
        ),
        timeout=1000.0,
        warn_before=999.8,
        warn_signal=name,
    )
    end = started.wait()
    assert (end.exit_code, end.warned, end.timed_out, end.terminated) == (3, True, False, False)
    assert started.log.endswith(b'warned\n')


def test_a_warning_is_followed_by_the_timeout(start):
    started = start(
        *('/bin/sh', '-c', "trap 'echo warned' USR1; while :; do sleep 0.01; done"),
        timeout=0.4,
        warn_before=0.2,
    )
    end = started.wait()
    assert (end.signal, end.warned, end.timed_out) == (15, True, True)
    assert started.log.endswith(b'warned\n')


def test_a_warning_by_slurm_is_passed_on(start):
    started = start(
        *('/bin/sh', '-c', "trap 'echo warned' USR1; echo ready; while :; do sleep 0.01; done"),
        warn_signal='SIGUSR1',
    )
    started.wait_for_log(b'ready')
    started.process.send_signal(signal.SIGUSR1)
    started.wait_for_log(b'warned')
    started.signal(signal.SIGTERM)
    assert started.wait().warned


def test_timers_end_with_the_program(start):
    started = start('/bin/true', timeout=1234.5)
    started.wait()
    started.wait_for(lambda: not running('sleep\x001234.5'))


def running(words):
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            found += [folder] if words in (folder / 'cmdline').read_text() else []
    return found


def test_what_the_program_leaves_behind_is_ended_before_the_end_is_told(start):
    started = start(
        *('/bin/sh', '-c'),
        "(trap 'echo swept; exit' TERM; echo up; while :; do sleep 0.01; done) & "
        'until [ -s "$XM_OUTPUT_DIR/../output.log" ]; do sleep 0.01; done',
    )
    started.wait()
    assert started.log.endswith(b'swept\n')
