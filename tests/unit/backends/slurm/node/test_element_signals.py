"""Signals, limits and warnings reach the program once, and its end is known through all of them."""

import itertools
import os
import signal
import sys

import pytest
from tests.unit.backends.slurm.node.started import SHELLS, SHELLS_WITH_DEFAULT_SIGNALS, descendants

# Signals and limits.


@pytest.mark.parametrize(
    ('shell', 'number'),
    [
        *itertools.product(SHELLS, (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)),
        *((shell, signal.SIGINT) for shell in SHELLS_WITH_DEFAULT_SIGNALS),
    ],
)
def test_it_outlives_what_slurm_sends_to_all(start, number):
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


def test_a_term_that_kills_the_program_before_the_shell_hears_of_it_is_noted(start):
    started = start('/bin/sh', '-c', 'echo ready; exec sleep 1000')
    started.wait_for_log(b'ready')
    for pid in reversed(descendants(started.process.pid)):
        os.kill(pid, signal.SIGTERM)
    end = started.wait()
    assert (end.signal, end.terminated) == (15, True)


def test_who_is_in_a_hurry_kills_the_program_at_once(start):
    deaf = 'trap "" TERM; echo ready; while :; do sleep 0.1; done'
    started = start('/bin/sh', '-c', deaf, grace=1000.0)
    started.wait_for_log(b'ready')
    started.signal(signal.SIGTERM)
    started.signal(signal.SIGURG)
    end = started.wait()
    assert (end.signal, end.terminated) == (9, True)
    assert not started.left()


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


# A busybox makes folders itself.
@pytest.mark.parametrize('shell', [one for one in SHELLS if one[0] != 'busybox'], ids=' '.join)
def test_a_term_before_the_program_is_there_is_told_as_such(start, tmp_path):
    mkdir = tmp_path / 'bin' / 'mkdir'
    mkdir.parent.mkdir()
    mkdir.write_text(f'#!/bin/sh\necho >{tmp_path}/begun\nexec sleep 1000\n')
    mkdir.chmod(0o755)
    started = start('/bin/echo', 'ran', environ={'PATH': f'{mkdir.parent}:{os.environ["PATH"]}'})
    started.wait_for((tmp_path / 'begun').exists)
    started.signal(signal.SIGTERM)
    end = started.wait()
    assert (end.signal, end.terminated, end.refused, started.code) == (15, True, '', 143)


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


@pytest.mark.parametrize(
    ('shell', 'name'),
    [
        *itertools.product(SHELLS, ('SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGTERM')),
        *((shell, 'SIGINT') for shell in SHELLS_WITH_DEFAULT_SIGNALS),
    ],
)
def test_a_warning_comes_before_the_timeout(start, name):
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
    for number in range(1, 11):
        started = start('/bin/true', timeout=1234.5, number=number)
        started.wait()
        assert not started.left()


def test_what_the_program_leaves_behind_is_ended_before_the_end_is_told(start):
    started = start(
        *('/bin/sh', '-c'),
        "(trap 'echo swept; exit' TERM; echo up; while :; do sleep 0.01; done) & "
        'until [ -s "$XM_OUTPUT_DIR/../output.log" ]; do sleep 0.01; done',
    )
    started.wait()
    assert started.log.endswith(b'swept\n')
