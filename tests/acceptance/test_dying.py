"""Whoever dies, and however: units go on, each runs once, and how it ended is known."""

import os
import signal

import pytest
from tests.acceptance.desk import GATED
from tests.acceptance.living import supervisors_of
from tests.acceptance.polling import until

# Six units, two at a time: some run and most are queued when somebody dies.
SWEEP = f"""
    from shell_jobs import shell, xm_local
    with xm_local.create_experiment('sweep') as experiment:
        for number in range(1, 7):
            experiment.add(shell(experiment, {GATED!r} + f'; echo unit {{number}}; exit $(({{number}} == 2))'))
"""
TWO = '--xm_local_resources=cpu=2'


@pytest.fixture
def sweep(desk):
    """The launcher, with two units running and four queued."""
    launcher = desk.start(SWEEP, TWO)
    until(lambda: len(desk.started_units()) == 2)
    until(lambda: desk.states() == ['running'] * 2 + ['queued'] * 4)
    return launcher


def assert_each_ran_once_and_is_known(desk):
    assert sorted(desk.journal) == sorted(
        [verb, str(number)] for verb in ('start', 'end') for number in range(1, 7)
    )
    units = desk.units()
    assert [unit['state'] for unit in units] == ['completed', 'failed', *['completed'] * 4]
    assert [unit['jobs'][0]['exit_code'] for unit in units] == [0, 1, 0, 0, 0, 0]
    assert [unit['attempt'] for unit in units] == [1] * 6
    assert units[1]['message'] == 'job job exited with code 1: unit 2'
    assert [desk.log(unit['unit']) for unit in units] == [
        f'unit {number}\n'.encode() for number in range(1, 7)
    ]


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_units_run_and_queued_ones_start_after_the_death_of_the_launcher(
    sweep, xmanager, desk, number
):
    sweep.send(number)
    assert sweep.ended().code == -number
    desk.open_gate()
    assert xmanager('wait', '1').code == 1
    assert_each_ran_once_and_is_known(desk)


def test_a_launcher_gets_over_the_death_of_its_supervisor(sweep, desk):
    desk.kill_supervisor()
    desk.open_gate()
    result = sweep.ended()
    assert result.code == 1
    assert_each_ran_once_and_is_known(desk)


@pytest.mark.parametrize('successor', ['supervise', 'wait', 'launch'])
def test_after_the_death_of_launcher_and_supervisor_a_successor_takes_over(
    sweep, xmanager, launch, desk, home, successor
):
    sweep.send(signal.SIGKILL)
    sweep.ended()
    desk.kill_supervisor()
    if successor == 'supervise':
        assert xmanager('supervise', '1').code == 0
        until(lambda: supervisors_of(home))
        desk.open_gate()
    elif successor == 'launch':
        launch(
            """
            from shell_jobs import shell, xm_local
            with xm_local.get_experiment(1):
                open('gate', 'w')
            """,
            TWO,
        )
    else:
        desk.open_gate()
    assert xmanager('wait', '1').code == 1
    assert_each_ran_once_and_is_known(desk)


def test_units_that_end_while_nobody_supervises_are_known_to_the_successor(sweep, xmanager, desk):
    sweep.send(signal.SIGKILL)
    sweep.ended()
    desk.kill_supervisor()
    desk.open_gate()
    until(lambda: not desk.living_jobs())
    assert len(desk.started_units()) == 2
    assert xmanager('wait', '1').code == 1
    assert_each_ran_once_and_is_known(desk)


def test_stop_takes_over_too_and_leaves_no_process(sweep, xmanager, desk):
    sweep.send(signal.SIGKILL)
    sweep.ended()
    desk.kill_supervisor()
    assert xmanager('stop', '1', '-m', 'enough').code == 0
    assert desk.living_jobs() == []
    assert [(unit['state'], unit['message']) for unit in desk.units()] == [
        ('stopped', 'enough')
    ] * 6
    assert len(desk.started_units()) == 2


def test_supervisors_that_die_again_and_again_lose_nothing(sweep, xmanager, desk, home):
    for _ in range(2):
        desk.kill_supervisor()
        xmanager('supervise', '1')
        until(lambda: supervisors_of(home))
    desk.open_gate()
    assert sweep.ended().code == 1
    assert_each_ran_once_and_is_known(desk)


def test_one_interrupt_stops_all_units_and_waits_for_them(sweep, desk):
    sweep.send(signal.SIGINT)
    result = sweep.ended()
    assert result.code == 130
    assert 'Ctrl-C again leaves at once' in result.stderr
    assert 'Traceback' not in result.stderr
    assert desk.living_jobs() == []
    assert desk.states() == ['stopped'] * 6
    assert 'experiment 1: 6 stopped in ' in result.stderr
    assert len(desk.started_units()) == 2


def test_a_second_interrupt_leaves_at_once_and_units_stop_behind_it(start, xmanager, desk):
    launcher = start("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('stubborn') as experiment:
            experiment.add(shell(
                experiment,
                'trap "echo asked >>journal" TERM; echo start >>journal; '
                'while [ ! -e gate ]; do sleep 0.02; done',
                grace=600,
            ))
    """)
    until(lambda: desk.journal == [['start']])
    launcher.send(signal.SIGINT)
    until(lambda: desk.journal == [['start'], ['asked']])
    assert launcher.is_running
    launcher.send(signal.SIGINT)
    result = launcher.ended()
    assert result.code == 130
    assert 'Traceback' not in result.stderr
    assert desk.living_jobs()
    desk.open_gate()
    assert xmanager('wait', '1').code == 1
    assert desk.states() == ['stopped']


def test_an_interrupt_while_units_are_being_added_stops_those_too(start, desk):
    """The interrupt comes before the first unit is written, in the block itself."""
    launcher = start(
        """
        import os, signal
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('early') as experiment:
            job = shell(experiment, 'exec sleep 600')
            for _ in range(50):
                experiment.add(job)
            os.kill(os.getpid(), signal.SIGINT)
        """,
        TWO,
    )
    assert launcher.ended().code == 130
    assert desk.states() == ['stopped'] * 50


@pytest.mark.parametrize('times', [1, 2])
def test_interrupts_reach_an_asynchronous_script_as_well(start, xmanager, desk, times):
    launcher = start("""
        import asyncio
        from shell_jobs import shell, xm_local
        async def main():
            async with xm_local.create_experiment('async') as experiment:
                experiment.add(shell(
                    experiment,
                    'trap "echo asked >>journal; exit" TERM; echo start >>journal; '
                    'while true; do sleep 0.02; done',
                ))
        asyncio.run(main())
    """)
    until(lambda: desk.journal == [['start']])
    launcher.send(signal.SIGINT)
    if times == 2:
        until(lambda: 'Ctrl-C again' in launcher.stderr or not launcher.is_running)
        launcher.send(signal.SIGINT)
    result = launcher.ended()
    assert result.code == 130
    assert 'Traceback' not in result.stderr
    xmanager('wait', '1')
    assert desk.states() == ['stopped']


def test_a_generator_whose_launcher_died_fails_and_the_rest_completes(start, xmanager, desk):
    launcher = start("""
        import asyncio
        from shell_jobs import shell, xm_local
        async def generate(work_unit):
            open('journal', 'a').write('start generator\\n')
            await asyncio.sleep(600)
        with xm_local.create_experiment('orphan') as experiment:
            experiment.add(shell(experiment, 'while [ ! -e gate ]; do sleep 0.02; done'))
            experiment.add(generate)
    """)
    until(lambda: desk.started_units() == ['generator'])
    until(lambda: len(desk.units()) == 2)
    launcher.send(signal.SIGKILL)
    launcher.ended()
    desk.open_gate()
    assert xmanager('wait', '1').code == 1
    assert desk.states() == ['completed', 'failed']
    assert 'the launch script ended before' in desk.units()[1]['message']


def test_an_auxiliary_unit_ends_with_the_work_though_its_launcher_is_dead(start, xmanager, desk):
    launcher = start("""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('auxiliary') as experiment:
            board = shell(experiment, 'echo start board >>journal; exec sleep 600')
            experiment.add(xm.AuxiliaryUnitJob(board, termination_delay_secs=0))
            experiment.add(shell(experiment, 'while [ ! -e gate ]; do sleep 0.02; done'))
    """)
    until(lambda: desk.started_units() == ['board'])
    until(lambda: set(desk.states()) == {'running'})
    launcher.send(signal.SIGKILL)
    launcher.ended()
    desk.open_gate()
    assert xmanager('wait', '1').code == 0
    assert desk.states() == ['completed', 'completed']


def test_who_replaces_a_supervisor_knows_what_the_launch_said_of_the_host(start, xmanager, desk):
    launcher = start(
        f"""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('gpus') as experiment:
            for _ in range(3):
                one = xm.JobRequirements(local_gpu=1)
                experiment.add(shell(experiment, {GATED!r}, requirements=one))
        """,
        '--xm_local_resources=cpu=8,local_gpu=1',
    )
    until(lambda: len(desk.started_units()) == 1)
    until(lambda: desk.states() == ['running', 'queued', 'queued'])
    launcher.send(signal.SIGKILL)
    for process in supervisors_of(desk.home):
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: not supervisors_of(desk.home))
    desk.open_gate()
    assert xmanager('wait', '1').code == 0
    assert desk.states() == ['completed'] * 3
    assert [line[2] for line in desk.journal if line[0] == 'start'] == ['0'] * 3
    launcher.ended()
