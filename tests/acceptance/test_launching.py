"""Scripts of every form run to their end, and what they ran can be read back."""

import sys

from tests.acceptance.desk import GATED, PROGRAMS
from tests.acceptance.polling import until


def test_a_unit_completes_and_prints_on_the_terminal_of_its_launcher(launch):
    result = launch("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('one') as experiment:
            experiment.add(shell(experiment, 'echo to stdout; echo to stderr >&2'))
    """)
    assert result.code == 0
    assert result.stdout == '[1 job] to stdout\n[1 job] to stderr\n'
    title, unit, summary = result.stderr.splitlines()
    assert title == 'experiment 1: one'
    assert unit.startswith('unit 1 completed in ')
    assert summary.startswith('experiment 1: 1 completed in ')


def test_a_sweep_runs_each_unit_once_with_its_own_arguments(launch, desk):
    result = launch("""
        import itertools
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('sweep') as experiment:
            job = shell(experiment, 'echo "$@" >>journal; echo unit $XM_WORK_UNIT_ID')
            for rate, width in itertools.product((0.1, 0.2), (16, 32, 64)):
                experiment.add(job, args={'args': {'rate': rate, 'width': width}})
    """)
    assert result.code == 0
    assert result.stderr.splitlines()[-1].startswith('experiment 1: 6 completed in ')
    units = desk.units()
    assert [unit['args']['args'] for unit in units] == [
        {'rate': rate, 'width': width} for rate in (0.1, 0.2) for width in (16, 32, 64)
    ]
    assert sorted(desk.journal) == [
        [f'--rate={unit["args"]["args"]["rate"]}', f'--width={unit["args"]["args"]["width"]}']
        for unit in units
    ]
    assert [desk.log(unit['unit']) for unit in units] == [
        f'unit {number}\n'.encode() for number in range(1, 7)
    ]


def test_jobs_of_a_group_run_side_by_side(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        MEET = 'touch $1; while [ ! -e $2 ]; do sleep 0.02; done; echo met $2'
        with xm_local.create_experiment('group') as experiment:
            experiment.add(xm.JobGroup(
                learner=shell(experiment, MEET, 'learner', 'actor', name=''),
                actors=xm.JobGroup(first=shell(experiment, MEET, 'actor', 'learner', name='')),
            ))
    """)
    assert result.code == 0
    assert sorted(result.stdout.splitlines()) == [
        '[1 actors_first] met learner',
        '[1 learner] met actor',
    ]
    [unit] = desk.units()
    assert {job['name']: job['exit_code'] for job in unit['jobs']} == {
        'learner': 0,
        'actors_first': 0,
    }


def test_a_generator_adds_the_jobs_of_its_unit(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('generator') as experiment:
            async def generate(work_unit, word):
                for number in (1, 2):
                    work_unit.add(shell(experiment, f'echo {word} {number}', name=f'job{number}'))
            experiment.add(generate, args={'word': 'hello'})
    """)
    assert result.code == 0
    assert sorted(result.stdout.splitlines()) == ['[1 job1] hello 1', '[1 job2] hello 2']
    assert desk.states() == ['completed']


def test_a_generator_that_raises_fails_its_unit_and_no_other(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        async def generate(work_unit):
            raise ValueError('no such data set')
        with xm_local.create_experiment('generator') as experiment:
            experiment.add(generate)
            experiment.add(shell(experiment, 'true'))
    """)
    assert result.code == 1
    assert 'ValueError: no such data set' in result.stderr
    assert 'Traceback' not in result.stderr
    assert desk.states() == ['failed', 'completed']
    assert 'no such data set' in desk.units()[0]['message']


def test_an_auxiliary_unit_without_delay_is_ended_after_the_last_work_unit(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('auxiliary', ) as experiment:
            board = shell(experiment, 'touch board; exec sleep 600')
            role = xm.AuxiliaryUnitRole(termination_delay_secs=0)
            experiment.add(xm.AuxiliaryUnitJob(board, termination_delay_secs=0))
            for _ in range(2):
                experiment.add(shell(experiment, 'while [ ! -e board ]; do sleep 0.02; done'))
    """)
    assert result.code == 0
    by_label = {unit['unit']: unit for unit in desk.units()}
    assert {label: unit['state'] for label, unit in by_label.items()} == {
        '1': 'completed',
        '2': 'completed',
        'a1': 'completed',
    }
    assert by_label['a1']['ended_at'] >= max(by_label[label]['ended_at'] for label in '12')


def test_a_detached_launch_returns_while_its_units_run_and_wait_tells_how_they_ended(
    launch, xmanager, desk
):
    result = launch(
        f"""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('detached') as experiment:
            experiment.add(shell(experiment, {GATED!r}))
            experiment.add(shell(experiment, {GATED!r} + '; exit 3'))
        """,
        '--',
        '--xm_detach',
        '--xm_local_resources=cpu=2',
    )
    assert result.code == 0
    assert 'xmanager show 1' in result.stderr
    until(lambda: len(desk.started_units()) == 2)
    assert desk.states() == ['running', 'running']
    desk.open_gate()
    waited = xmanager('wait', '1')
    assert waited.code == 1
    assert waited.stdout == '1: 1 completed, 1 failed\n'
    assert xmanager('wait', '1.1').code == 0


def test_another_process_reads_an_experiment_back_and_adds_to_it(launch, desk):
    launch("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('first') as experiment:
            experiment.add(shell(experiment, 'echo "$@"'), args={'args': {'rate': 0.1}})
            experiment.add(shell(experiment, 'exit 7'), identity='named').exception()
    """)
    result = launch("""
        from shell_jobs import shell, xm_local
        experiment = xm_local.get_experiment(1)
        one, two = experiment.work_units.values()
        print(one.work_unit_id, one.args, one.get_status().is_completed)
        print(two.work_unit_id, two.identity, two.get_status().is_failed, two.get_status().message)
        for job in (*one.jobs, *two.jobs):
            print(job.name, job.exit_code, job.log_path.read_text().strip(), job.argv[-1])
        with experiment:
            third = experiment.add(shell(experiment, 'echo third')).result()
            again = experiment.add(shell(experiment, 'echo never'), identity='named').result()
        print(third.work_unit_id, again.work_unit_id)
        print([e.experiment_id for e in xm_local.list_experiments()])
    """)
    assert result.stdout.splitlines() == [
        "1 {'args': {'rate': 0.1}} True",
        '2 named True job job exited with code 7',
        'job 0 --rate=0.1 --rate=0.1',
        'job 7  sh',
        '[3 job] third',
        '3 2',
        '[1]',
    ]
    assert desk.states() == ['completed', 'failed', 'completed']


def test_an_asynchronous_script_awaits_its_units(launch):
    result = launch("""
        import asyncio
        from shell_jobs import shell, xm, xm_local

        @xm.run_in_asyncio_loop
        async def main():
            async with xm_local.create_experiment('async') as experiment:
                good = await experiment.add(shell(experiment, 'echo good'))
                await good.wait_until_complete()
                bad = await experiment.add(shell(experiment, 'exit 4'))
                try:
                    await bad.wait_until_complete()
                except xm.ExperimentUnitFailedError as error:
                    print('caught', error.work_unit.work_unit_id, error)
                print(good.get_status().is_completed, bad.get_status().is_failed)

        main()
    """)
    assert result.stdout.splitlines() == [
        '[1 job] good',
        'caught 2 unit 2 of experiment 1 failed: job job exited with code 4',
        'True True',
    ]
    assert result.code == 1  # Caught or not, a unit has failed.
    assert 'Traceback' not in result.stderr


ABSL = """
    from absl import app, flags
    from shell_jobs import shell, xm_local

    WORD = flags.DEFINE_string('word', 'none', 'A word to print.')

    def main(argv):
        with xm_local.create_experiment('absl') as experiment:
            experiment.add(shell(experiment, 'echo', WORD.value, *argv[1:]))
            experiment.add(shell(experiment, 'echo "$@"', WORD.value, *argv[1:]))
"""


def test_flags_reach_an_absl_script_before_and_after_the_dashes(launch):
    script = ABSL + "\n    if __name__ == '__main__':\n        app.run(main)\n"
    for flags in (['--word=hello', 'rest'], ['--', '--word=hello', 'rest']):
        result = launch(script, *flags)
        assert result.code == 0, result.stderr
        assert '[2 job] hello rest' in result.stdout.splitlines()


def test_a_script_with_a_main_and_no_guard_is_run_by_its_main(launch):
    result = launch(ABSL, '--', '--word=hello')
    assert result.code == 0, result.stderr
    assert '[2 job] hello' in result.stdout.splitlines()


def test_help_after_the_dashes_is_the_help_of_the_script(launch, home):
    script = ABSL + "\n    if __name__ == '__main__':\n        app.run(main)\n"
    result = launch(script, '--', '--help')
    assert 'A word to print.' in result.stdout
    assert 'Usage: xmanager' not in result.stdout
    assert not home.exists()


def test_a_script_runs_under_plain_python_just_as_well(desk):
    script = desk.write(
        'plain.py',
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('plain') as experiment:
            experiment.add(shell(experiment, 'echo plain'))
        print(experiment.work_units[1].get_status().is_completed)
        """,
    )
    result = desk.run(sys.executable, script.name)
    assert (result.code, result.stdout) == (0, '[1 job] plain\nTrue\n')
    assert desk.run(PROGRAMS / 'python', '-m', 'xmanager', 'show', '1').code == 0


def test_the_exit_code_of_a_script_that_exits_is_kept(launch):
    assert launch('import sys; sys.exit(5)').code == 5
