"""Fault points kill exactly the process that is meant, at exactly the passing that is meant."""

import signal
import subprocess
import sys

import pytest

from xmanager import faults

PROGRAM = """
from xmanager import faults
for point in ('commit.before', 'spawn.before', 'commit.before'):
    print(point, flush=True)
    faults.pass_by(point)
"""


def run(**environment):
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, len(done.stdout.splitlines())


def test_without_the_variable_nothing_happens():
    assert run() == (0, 3)


@pytest.mark.parametrize(
    ('fault', 'died_at'), [('commit.before:2', 3), ('any:2', 2), ('spawn.before:1', 2)]
)
def test_the_process_dies_at_that_passing(fault, died_at):
    assert run(XM_FAULTS=fault, XM_FAULTS_IN='launcher') == (-signal.SIGKILL, died_at)


def test_a_point_that_is_passed_too_seldom_kills_nobody():
    assert run(XM_FAULTS='spawn.before:2', XM_FAULTS_IN='launcher') == (0, 3)


def test_with_a_log_each_fault_strikes_once(tmp_path):
    plan = {
        'XM_FAULTS': 'any:1 commit.before:2',
        'XM_FAULTS_IN': 'launcher',
        'XM_FAULTS_LOG': str(tmp_path / 'log'),
    }
    assert [run(**plan) for _ in range(3)] == [(-signal.SIGKILL, 1), (-signal.SIGKILL, 3), (0, 3)]
    struck = [line.split()[1:] for line in (tmp_path / 'log').read_text().splitlines()]
    assert struck == [['any:1', 'commit.before'], ['commit.before:2', 'commit.before']]


@pytest.mark.parametrize(
    ('role', 'command_line', 'obeys'),
    [
        ('', ['python', '-P', '-m', 'xmanager.supervise', '1'], True),
        ('', ['python', 'launcher.py'], False),
        ('launcher', ['python', '-P', '-m', 'xmanager.supervise', '1'], False),
        ('launcher', ['python', 'launcher.py'], True),
    ],
)
def test_supervisors_obey_unless_launchers_are_to(role, command_line, obeys):
    environment = {'XM_FAULTS': 'any:1', 'XM_FAULTS_IN': role}
    assert (faults.armed(environment, command_line) is not None) == obeys


@pytest.mark.parametrize('fault', ['commit:1', 'commit.before', 'any:', 'any:x'])
def test_what_is_no_fault_is_refused(fault):
    with pytest.raises(ValueError, match='is no fault; expected POINT:NUMBER'):
        faults.armed({'XM_FAULTS': fault}, ['xmanager.supervise'])
