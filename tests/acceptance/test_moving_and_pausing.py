"""The order of those that wait, changed from another terminal."""

import pytest
from tests.acceptance.desk import GATED
from tests.acceptance.polling import until

ONE_AT_A_TIME = '--xm_local_resources=cpu=1'
THREE_UNITS = f"""
    from shell_jobs import shell, xm_local
    with xm_local.create_experiment('queue') as experiment:
        for _ in range(3):
            experiment.add(shell(experiment, {GATED!r}))
"""


@pytest.fixture
def launcher(start, desk):
    """Three units, of which the first one runs and the others wait."""
    launcher = start(THREE_UNITS, ONE_AT_A_TIME)
    until(lambda: desk.started_units() == ['1'] and len(desk.units()) == 3)
    return launcher


def test_a_unit_of_high_importance_starts_before_those_that_came_earlier(launcher, xmanager, desk):
    result = xmanager('move', '1.3', '--importance', 'high')
    assert (result.code, result.stdout) == (0, 'moved unit 1.3 to high\n')
    desk.open_gate()
    assert launcher.ended().code == 0
    assert desk.started_units() == ['1', '3', '2']


def test_what_runs_goes_on_in_a_paused_experiment_and_what_waits_starts_when_it_is_resumed(
    launcher, xmanager, desk
):
    said = xmanager('pause', '1').stdout
    assert '(1 running, 2 queued)' in said
    desk.open_gate()
    until(lambda: desk.states() == ['completed', 'queued', 'queued'])
    assert desk.experiment()['paused_at'] is not None
    # A restarted unit is obeyed, and waits as well.
    assert xmanager('restart', '1.1', '--all').code == 0
    until(lambda: desk.states() == ['queued'] * 3)
    assert desk.started_units() == ['1']
    assert xmanager('resume', '1').stdout == 'resumed experiment 1: 3 queued\n'
    assert launcher.ended().code == 0
    assert sorted(desk.started_units()) == ['1', '1', '2', '3']
    assert desk.experiment()['paused_at'] is None


def test_a_paused_experiment_can_be_stopped(launcher, xmanager, desk):
    assert xmanager('pause', '1').code == 0
    assert xmanager('stop', '1').code == 0
    assert desk.states() == ['stopped'] * 3
    assert launcher.ended().code == 1
