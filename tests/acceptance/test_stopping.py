"""What is stopped, late or over leaves no process behind; what failed can be run again."""

from tests.acceptance.polling import until

# Leaves its session, its group and its parent, and ignores TERM: only its environment gives it away.
RUNAWAY = 'setsid sh -c \'trap "" TERM; echo started $0 >>journal; while true; do sleep 0.05; done\' {name} & '


def test_stop_ends_grandchildren_that_left_their_session_and_ignore_term(start, xmanager, desk):
    launcher = start(f"""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('runaway') as experiment:
            command = {RUNAWAY.format(name='one') + RUNAWAY.format(name='two')!r} + 'wait'
            experiment.add(shell(experiment, command, grace=0.3))
    """)
    until(lambda: len(desk.journal) == 2)
    result = xmanager('stop', '1.1', '-m', 'enough')
    assert result.code == 0
    assert desk.living_jobs() == []
    assert launcher.ended().code == 1
    [unit] = desk.units()
    assert (unit['state'], unit['message']) == ('stopped', 'enough')


def test_a_job_that_forks_and_exits_completes_and_leaves_nothing(launch, desk):
    result = launch(f"""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('daemon') as experiment:
            command = {RUNAWAY.format(name='daemon')!r} + (
                'while [ ! -s journal ]; do sleep 0.02; done; echo done'
            )
            experiment.add(shell(experiment, command, grace=0.3))
    """)
    assert result.code == 0
    # What it left behind was ended before its end was told, and may have said so.
    assert result.stdout.startswith('[1 job] done\n')
    assert not desk.living_jobs()


def test_a_child_of_a_wiped_environment_is_found_by_its_parents(start, xmanager, desk):
    start("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('wiped') as experiment:
            child = 'env -i sh -c "echo started >>journal; sleep 600; true"'
            experiment.add(shell(experiment, f'{child}; true', grace=0.3))
    """)
    until(lambda: desk.journal == [['started']])
    assert xmanager('stop', '1').code == 0
    assert not desk.living_jobs()
    assert desk.states() == ['stopped']


def test_a_job_has_its_grace_time_to_end_in_order(start, xmanager, desk):
    start("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('grace') as experiment:
            experiment.add(shell(
                experiment,
                'trap "echo saving; sleep 0.3; echo saved; exit 0" TERM; echo started >>journal; '
                'while true; do sleep 0.02; done',
                grace=600,
            ))
    """)
    until(lambda: desk.journal == [['started']])
    assert xmanager('stop', '1').code == 0
    # The shell may add that its `sleep`, which is asked to end as well, was terminated.
    assert desk.log().endswith(b'saving\nsaved\n')
    [unit] = desk.units()
    assert (unit['state'], unit['jobs'][0]['exit_code']) == ('stopped', 0)


def test_a_job_that_is_late_is_ended_and_says_so(launch, desk):
    result = launch("""
        import datetime
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('late') as experiment:
            stubborn = 'trap "" TERM; echo working; while true; do sleep 0.02; done'
            half = datetime.timedelta(seconds=0.5)
            experiment.add(shell(experiment, stubborn, timeout=half, grace=0.2))
            experiment.add(shell(experiment, 'echo quick', timeout=600))
    """)
    assert result.code == 1
    late, quick = desk.units()
    assert late['message'].startswith('job job timed out after 0.5 s: ')
    assert late['jobs'][0]['signal'] == 9
    assert quick['state'] == 'completed'


def test_queued_units_can_be_stopped_one_by_one(start, xmanager, desk):
    launcher = start(
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('queue') as experiment:
            for _ in range(4):
                experiment.add(shell(
                    experiment,
                    'echo $XM_WORK_UNIT_ID >>journal; while [ ! -e gate ]; do sleep 0.02; done',
                ))
        """,
        '--xm_local_resources=cpu=1',
    )
    until(lambda: desk.journal == [['1']] and len(desk.units()) == 4)
    assert xmanager('stop', '1.2', '1.4').code == 0
    assert desk.states() == ['running', 'stopped', 'queued', 'stopped']
    desk.open_gate()
    assert launcher.ended().code == 1
    assert desk.journal == [['1'], ['3']]
    assert xmanager('stop', '1').stdout.startswith('experiment 1 had ended before')


def test_failed_units_are_restarted_and_their_earlier_logs_kept(launch, xmanager, desk):
    launch("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('flaky') as experiment:
            flaky = (
                'echo attempt $XM_ATTEMPT; ls -A $XM_OUTPUT_DIR; echo $XM_ATTEMPT >>$XM_OUTPUT_DIR/kept; '
                '[ $XM_ATTEMPT = 2 ]'
            )
            experiment.add(shell(experiment, flaky))
            experiment.add(shell(experiment, 'echo once; echo $XM_ATTEMPT >>journal'))
    """)
    assert desk.states() == ['failed', 'completed']
    assert xmanager('restart', '1').code == 0
    assert xmanager('wait', '1').code == 0
    assert desk.states() == ['completed', 'completed']
    assert [unit['attempt'] for unit in desk.units()] == [2, 1]
    assert desk.journal == [['1']]
    # The folder of results is kept, for checkpoints.
    assert xmanager('logs', '1.1').stdout == 'attempt 2\nkept\n'
    assert xmanager('logs', '1.1', '--attempt', '1').stdout == 'attempt 1\n'
    assert (desk.job_folder() / 'output.1.log').read_text() == 'attempt 1\n'
