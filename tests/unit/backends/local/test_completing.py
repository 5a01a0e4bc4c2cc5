"""A unit whose supervisor died while it was being started is started to its end, and nothing of it twice."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys

import pytest

from xmanager.backend import Rejected

GATED = 'echo begun; while [ ! -e go ]; do sleep 0.01; done'

SUPERVISOR = """
import os, pickle, sys
from xmanager.backends.local.backend import create
unit = pickle.load(sys.stdin.buffer)
backend = create(os.environ)
backend.submit([backend.render(unit, {})])
"""


def submit_and_die(unit, fault):
    """Submits a unit from a process that is killed at a fault point."""
    done = subprocess.run(
        [sys.executable, '-c', SUPERVISOR],
        input=pickle.dumps(unit),
        env={
            **os.environ,
            'PYTHONPATH': os.pathsep.join(sys.path),
            'XM_FAULTS': fault,
            'XM_FAULTS_IN': 'launcher',
        },
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize(
    'fault', [f'spawn.{when}:{number}' for when in ('before', 'after') for number in (1, 2, 3)]
)
def test_wherever_the_supervisor_died_each_task_of_a_group_runs_once(world, fault):
    unit = world.shell(GATED, GATED, GATED)
    submit_and_die(unit, fault)
    backend = world.backend()
    refs = world.submit(backend, unit)
    for job in ('job0', 'job1', 'job2'):
        world.wait_for_log(unit, b'begun\n', job)
    (world.folder / 'go').touch()
    (observation,) = world.wait_for_end(backend, refs)
    assert [task.exit_code for task in observation.values()] == [0, 0, 0]
    assert [world.log(unit, f'job{i}').read_bytes() for i in range(3)] == [b'begun\n'] * 3


def test_a_task_that_was_killed_before_the_rest_was_started_keeps_it_from_starting(world):
    unit = world.shell(GATED, 'touch started')
    submit_and_die(unit, 'spawn.before:2')
    world.wait_for_log(unit, b'begun\n')
    # The runner first: else it records how its program was killed.
    for process in sorted(world.left(unit.key), key=lambda process: process.pid != process.session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    world.wait_until(lambda: not world.left(unit.key))
    backend = world.backend()
    (observation,) = world.wait_for_end(backend, world.submit(backend, unit))
    assert [task.state for task in observation.values()] == ['vanished'] * 2
    assert [task.reason for task in observation.values()] == [
        'its runner was killed',
        'it was never started',
    ]
    assert not (world.folder / 'started').exists()


def test_what_was_never_started_is_told_after_the_failure_that_kept_it_from_starting(world):
    unit = world.shell(f"setsid -f sh -c 'while :; do sleep 1; done'; {GATED}; exit 3", ':')
    submit_and_die(unit, 'spawn.before:2')
    world.wait_for_log(unit, b'begun\n')
    (world.folder / 'go').touch()
    status = unit.folder / 'job0' / 'status'
    world.wait_until(lambda: 'exited 3' in status.read_text())
    backend = world.backend()
    refs = world.submit(backend, unit)

    def told():
        (observation,) = backend.observe(refs).values()
        return [name for name, task in observation.items() if task.state != 'running']

    assert world.wait_until(told) in (['job0'], ['job0', 'job1'])
    world.wait_until(lambda: told() == ['job0', 'job1'])


def test_a_unit_that_can_no_longer_be_completed_is_ended(world):
    unit = world.unit(('/bin/sh', '-c', GATED), (str(world.folder / 'program'),))
    program = world.folder / 'program'
    program.write_text('#!/bin/sh\n')
    program.chmod(0o700)
    submit_and_die(unit, 'spawn.before:2')
    program.unlink()
    backend = world.backend()
    [answer] = backend.submit([backend.render(unit, {})])
    assert isinstance(answer, Rejected)
    assert answer.task == 'job1'
    world.settle(backend)
    assert world.left(unit.key) == []


def test_a_new_unit_is_submitted_without_a_look_at_all_processes(world):
    backend = world.backend()
    world.wait_for_end(backend, world.submit(backend, world.shell(':')))
    scans = world.scans
    world.submit(backend, world.shell(':'), world.shell(':'))
    assert world.scans == scans
