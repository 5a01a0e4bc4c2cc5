"""A slurmctld that takes what it is sent and does not answer: nothing that it may have begun is left alone."""

import os
import signal

import pytest
from tests.acceptance.desk import GATED
from tests.acceptance.polling import until
from tests.acceptance.test_slurm import cluster, jobs, sweep

__all__ = ['cluster']

FAILS_AT_FIRST = f'[ $1 = 0 ] || [ $XM_ATTEMPT -gt 1 ] || exit 1; {GATED}'


@pytest.fixture
def hang(cluster):
    """`hang(True)` stops slurmctld in its tracks, `hang(False)` lets it go on."""
    pid = cluster.pid('slurmctld')
    yield lambda hangs: os.kill(pid, signal.SIGSTOP if hangs else signal.SIGCONT)
    os.kill(pid, signal.SIGCONT)


def test_what_slurm_may_have_taken_is_stopped_before_it_is_said_to_be(
    cluster, hang, launch, xmanager, desk
):
    assert launch(sweep(FAILS_AT_FIRST, 2)).code == 0
    until(lambda: desk.states() == ['running', 'failed'])
    before = jobs(cluster)
    hang(True)
    assert xmanager('restart', '1.2').code == 0
    until(lambda: 'waits: ' in desk.units()[1]['message'])
    assert xmanager('stop', '--no-wait', '1.2').code == 0
    hang(False)
    assert xmanager('wait', '1.2').stdout == '1.2: 1 stopped\n'
    until(lambda: jobs(cluster) <= before)
    desk.open_gate()
    assert xmanager('wait', '1').stdout.startswith('1: 1 completed')
    assert desk.started_units().count('2') <= 1


def test_units_of_this_machine_go_on_while_slurm_hangs(cluster, hang, launch, xmanager, desk):
    more = 'experiment.add(xm.Job(sh, xm_local.Local(), name="local", args=["2"]))'
    assert launch(sweep(FAILS_AT_FIRST, 2, more), '--xm_detach').code == 0
    until(lambda: desk.states() == ['running', 'failed', 'failed'])
    hang(True)
    assert xmanager('restart', '1.2').code == 0
    until(lambda: 'waits: ' in desk.units()[1]['message'])
    assert xmanager('restart', '1.3').code == 0
    until(lambda: desk.started_units().count('3') == 1)
    hang(False)
    desk.open_gate()
    assert xmanager('wait', '1').stdout == '1: 3 completed\n'
    assert desk.started_units().count('2') == 1
