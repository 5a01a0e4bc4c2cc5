"""What a person is told of units that fail, and what becomes of their siblings."""

import pytest
from tests.acceptance.polling import until


def test_a_failed_unit_is_told_of_with_its_last_lines_and_the_launch_fails(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('failing') as experiment:
            experiment.add(shell(experiment, 'seq 100; echo no such file: data.csv; exit 3'))
            experiment.add(shell(experiment, 'echo fine'))
    """)
    assert result.code == 1
    lines = result.stderr.splitlines()
    said = 'job job exited with code 3: no such file: data.csv'
    assert any(line.startswith('unit 1 failed after ') and line.endswith(said) for line in lines)
    at = lines.index('unit 1 job, last lines:')
    assert lines[at + 1 : at + 7] == [
        '    97',
        '    98',
        '    99',
        '    100',
        '    no such file: data.csv',
        '    more: xmanager logs 1.1',
    ]
    assert lines[-1].startswith('experiment 1: 1 completed, 1 failed in ')
    failed, fine = desk.units()
    assert (failed['state'], failed['message']) == ('failed', said)
    assert (failed['jobs'][0]['exit_code'], failed['jobs'][0]['signal']) == (3, None)
    assert (fine['state'], fine['message']) == ('completed', '')


@pytest.mark.parametrize(('name', 'number'), [('SEGV', 11), ('KILL', 9), ('TERM', 15)])
def test_a_job_that_a_signal_killed_says_which(launch, desk, name, number):
    result = launch(f"""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('killed') as experiment:
            experiment.add(shell(experiment, 'echo last words; kill -{name} $$'))
    """)
    assert result.code == 1
    [unit] = desk.units()
    assert unit['message'] == f'job job was killed by SIG{name}: last words'
    assert (unit['jobs'][0]['exit_code'], unit['jobs'][0]['signal']) == (None, number)
    assert desk.log() == b'last words\n'


def test_the_failure_of_one_job_stops_its_siblings_and_is_the_one_that_is_named(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('group') as experiment:
            experiment.add(xm.JobGroup(
                server=shell(experiment, 'touch up; exec sleep 600', name=''),
                worker=shell(
                    experiment, 'while [ ! -e up ]; do sleep 0.02; done; echo broken; exit 2', name=''
                ),
            ))
    """)
    assert result.code == 1
    [unit] = desk.units()
    assert unit['message'] == 'job worker exited with code 2: broken'
    assert {job['name']: (job['exit_code'], job['signal']) for job in unit['jobs']} == {
        'server': (None, 15),
        'worker': (2, None),
    }


def test_a_job_that_ends_well_does_not_stop_its_siblings(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('group') as experiment:
            experiment.add(xm.JobGroup(
                early=shell(experiment, 'touch over', name=''),
                late=shell(
                    experiment,
                    'while [ ! -e over ]; do sleep 0.02; done; for i in 1 2 3; do sleep 0.1; done; echo late',
                    name='',
                ),
            ))
    """)
    assert result.code == 0
    assert result.stdout == '[1 late] late\n'


def test_a_unit_that_the_script_stops_ends_as_the_script_says(start, desk):
    result = start("""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('stopping') as experiment:
            units = [experiment.add(shell(experiment, 'exec sleep 600')).result() for _ in range(3)]
            units[0].stop(mark_as_completed=True, message='good enough')
            units[1].stop(mark_as_failed=True, message='diverged')
            units[2].stop(message='no longer needed')
    """).ended()
    assert result.code == 1
    assert [(unit['state'], unit['message']) for unit in desk.units()] == [
        ('completed', 'good enough'),
        ('failed', 'diverged'),
        ('stopped', 'no longer needed'),
    ]


@pytest.fixture
def vanishing(start, desk):
    """A launch of three units on one CPU; the program of the second is removed while the first runs."""

    def vanish(*flags):
        desk.write('program.sh', '#!/bin/sh\necho kept\n').chmod(0o755)
        launcher = start(
            """
            from shell_jobs import shell, xm, xm_local
            with xm_local.create_experiment('vanishing') as experiment:
                [program] = experiment.package([xm.binary(xm_local.Local.Spec(), path='program.sh')])
                experiment.add(shell(experiment, 'touch running; while [ ! -e gate ]; do sleep 0.02; done'))
                experiment.add(xm.Job(program, xm_local.Local()))
                experiment.add(shell(experiment, 'true'))
            """,
            '--xm_local_resources=cpu=1',
            *flags,
        )
        until((desk.folder / 'running').exists)
        until(lambda: len(desk.units()) == 3)
        (desk.folder / 'program.sh').unlink()
        desk.open_gate()
        return launcher.ended().code

    return vanish


def test_a_program_that_vanishes_before_its_turn_runs_from_the_copy_kept_of_it(vanishing, desk):
    assert vanishing() == 0
    assert desk.states() == ['completed'] * 3
    assert (desk.home / 'experiments/1/2/program_sh/output.log').read_text() == 'kept\n'


def test_one_that_was_too_large_to_be_kept_fails_its_unit_in_words(vanishing, desk):
    assert vanishing('--xm_binary_max_kept=1') == 1
    assert desk.states() == ['completed', 'failed', 'completed']
    assert desk.units()[1]['message'].startswith(
        f'job program_sh could not be started: {desk.folder}/program.sh was removed since it was packaged'
    )


def test_a_failed_attempt_that_is_tried_again_is_told_while_launching(launch):
    result = launch("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('flaky') as experiment:
            command = 'echo try $XM_ATTEMPT; exit $((XM_ATTEMPT < 2 ? 4 : 0))'
            experiment.add(shell(experiment, command, max_restarts=3, backoff=0.2))
    """)
    assert result.code == 0
    assert result.stdout == '[1 job] try 1\n[1 job] try 2\n'
    told = 'unit 1 attempt 1: job job exited with code 4: try 1; restart 1 of 3 in 0.2 s'
    assert told in result.stderr.splitlines()
    assert 'at attempt 2' in result.stderr
