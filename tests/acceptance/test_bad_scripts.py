"""Mistakes in a launch script: one clear sentence, the right exit code, and nothing lost."""

import pytest
from tests.acceptance.polling import until


@pytest.mark.parametrize(
    ('name', 'text', 'said'),
    [
        ('missing.py', None, 'missing.py does not exist'),
        ('.', None, '. is a directory'),
        ('broken.py', 'x = 1\nif x\n', "broken.py:2: expected ':'"),
        ('program', '\0\1\2', 'program: '),
        ('latin.py', b'x = "\xe9"\n', 'latin.py'),
    ],
)
def test_a_file_that_is_no_script_is_a_misuse(xmanager, desk, home, name, text, said):
    if text is not None:
        (desk.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    result = xmanager('launch', name)
    assert result.code == 2
    assert said in result.message
    assert not home.exists()


def test_an_error_before_the_experiment_is_told_with_its_line(launch, home):
    result = launch('x = 1\nraise ValueError("no such data set")\n')
    assert result.code == 1
    assert result.message == 'xmanager: launcher0.py:2: ValueError: no such data set'
    assert not home.exists()


def test_an_error_within_the_experiment_leaves_the_units_that_were_added_running(
    start, xmanager, desk
):
    launcher = start("""
        from shell_jobs import shell, xm_local
        def load():
            raise OSError('disk on fire')
        with xm_local.create_experiment('within') as experiment:
            experiment.add(shell(experiment, 'while [ ! -e gate ]; do sleep 0.02; done'))
            load()
    """)
    result = launcher.ended()
    assert result.code == 1
    assert 'Traceback' not in result.stderr
    assert 'launcher0.py:4: OSError: disk on fire' in result.stderr
    assert 'called from launcher0.py:7' in result.stderr
    assert '1 unit goes on' in result.stderr
    desk.open_gate()
    assert xmanager('wait', '1').code == 0


def test_an_error_after_the_experiment_comes_after_the_summary(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('after') as experiment:
            experiment.add(shell(experiment, 'true'))
        {}['accuracy']
    """)
    assert result.code == 1
    *_, summary, error = result.stderr.splitlines()
    assert summary.startswith('experiment 1: 1 completed in ')
    assert error == "xmanager: launcher0.py:5: KeyError: 'accuracy'"
    assert desk.states() == ['completed']


def test_an_experiment_without_units_is_warned_of(launch, desk):
    result = launch("""
        from xmanager import xm_local
        with xm_local.create_experiment('empty'):
            pass
    """)
    assert result.code == 0
    assert 'No work units were added to experiment 1.' in result.message
    assert desk.units() == []


def test_after_an_addition_with_bad_arguments_the_next_one_works(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('bad arguments') as experiment:
            job = shell(experiment, 'echo "$@"')
            bad = [
                (job, {'argz': {}}),
                (job, {'args': 'a bare string'}),
                (job, {'env_vars': {'1X': 'y'}}),
                (xm.JobGroup(one=job), {'two': {}}),
                (lambda work_unit: None, {}),
                ('no job', {}),
                (xm.JobGroup(), {}),
                (xm.Job(job.executable, xm_local.Local(), name='../../outside'), {}),
                (xm.JobGroup(one=job, two=job), {}),
            ]
            for job_type, args in bad:
                try:
                    experiment.add(job_type, args=args)
                    print('taken', job_type)
                except Exception as error:
                    print(type(error).__name__, error)
            unit = experiment.add(job, args={'args': {'rate': 0.1}}).result()
            print('then unit', unit.work_unit_id)
    """)
    assert result.code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert not [line for line in lines if line.startswith('taken')]
    assert 'args' in lines[0]
    assert 'list' in lines[1]
    assert lines[-2:] == ['then unit 1', '[1 job] --rate=0.1']
    assert desk.states() == ['completed']


@pytest.mark.parametrize(
    ('path', 'said'),
    [
        ('missing', 'missing does not exist. Paths are relative to the launch script.'),
        ('plain.txt', 'plain.txt is not executable. Run `chmod +x '),
        ('folder', 'folder is a directory. Give the program inside it.'),
    ],
)
def test_a_program_that_can_not_be_run_is_an_error_at_packaging(launch, desk, path, said):
    desk.write('plain.txt', 'text')
    (desk.folder / 'folder').mkdir()
    result = launch(f"""
        from xmanager import xm, xm_local
        with xm_local.create_experiment('missing') as experiment:
            experiment.package([xm.binary(xm_local.Local.Spec(), path={path!r})])
    """)
    assert result.code == 1
    assert f'launcher0.py:4: xm.binary(path={path!r}): {desk.folder}/' in result.message
    assert said in result.message


def test_a_path_is_relative_to_the_script_wherever_it_is_launched(xmanager, desk):
    (desk.folder / 'sub').mkdir()
    desk.write('sub/program.sh', '#!/bin/sh\necho found\n').chmod(0o755)
    desk.write(
        'sub/launcher.py',
        """
        from xmanager import xm, xm_local
        with xm_local.create_experiment('relative') as experiment:
            [program] = experiment.package([xm.binary(xm_local.Local.Spec(), path='program.sh')])
            experiment.add(xm.Job(program, xm_local.Local()))
        """,
    )
    assert xmanager('launch', 'sub/launcher.py').stdout == '[1 program_sh] found\n'


def test_what_can_never_fit_is_an_error_at_the_addition(launch, desk):
    result = launch(
        """
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('too big') as experiment:
            for amounts in ({'local_gpu': 5}, {'cpu': 3}, {'ram': 2 * xm.GiB}, {'v100': 1}):
                try:
                    needs = xm.JobRequirements(**amounts)
                    experiment.add(shell(experiment, 'true', requirements=needs))
                    print('taken', amounts)
                except ValueError as error:
                    print(error)
            half = shell(
                experiment, 'true', requirements=xm.JobRequirements(local_gpu=3), name=''
            )
            try:
                experiment.add(xm.JobGroup(one=half, two=half))
                print('taken')
            except ValueError as error:
                print(error)
        """,
        '--xm_local_resources=cpu=2,ram=1GiB,local_gpu=4',
    )
    gpu, cpu, ram, v100, group = result.stdout.splitlines()
    assert gpu == (
        'Local(requirements=xm.JobRequirements(local_gpu=5)): this host has 4 GPUs. '
        'Ask for at most 4, or set --xm_local_resources.'
    )
    assert 'cpu=3' in cpu
    assert '2 CPUs' in cpu
    assert 'ram=2 * xm.GiB' in ram
    assert 'V100' in v100
    assert '6 GPUs in all' in group
    assert desk.units() == []


def test_what_can_never_fit_is_an_error_within_a_generator_too(launch, desk):
    result = launch(
        """
        from shell_jobs import shell, xm, xm_local
        async def generate(work_unit):
            needs = xm.JobRequirements(cpu=2)
            for name in ('one', 'one', 'two'):
                try:
                    await work_unit.add(
                        shell(experiment, "true", requirements=needs, name=name)
                    )
                except ValueError as error:
                    print(error)
        with xm_local.create_experiment('generator') as experiment:
            experiment.add(generate)
        """,
        '--xm_local_resources=cpu=3',
    )
    assert result.code == 0, result.stderr
    twice, too_much = result.stdout.splitlines()
    assert twice.startswith("Two jobs of one unit are called 'one'.")
    assert 'jobs one, two start together and ask for 4 CPUs in all' in too_much
    assert [job['name'] for unit in desk.units() for job in unit['jobs']] == ['one']


def test_an_unknown_machine_is_a_misuse_of_the_flag(launch):
    result = launch(
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('unknown') as experiment:
            experiment.add(shell(experiment, 'true'))
        """,
        '--xm_local_resources=tpu=4',
    )
    assert result.code != 0
    assert "'tpu' is not one of cpu, ram, local_gpu" in result.stderr
    assert 'Traceback' not in result.stderr


def test_an_unknown_experiment_unit_or_job_is_not_found_and_what_there_is_is_named(
    launch, xmanager
):
    launch("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('known') as experiment:
            experiment.add(shell(experiment, 'true'))
    """)
    for words in (
        ['show', '2'],
        ['show', '1.2'],
        ['logs', '1.1.nobody'],
        ['wait', '7'],
        ['stop', '1.a1'],
    ):
        result = xmanager(*words)
        assert result.code == 1, words
        assert result.message.startswith('xmanager: ')
    result = launch('from xmanager import xm_local; xm_local.get_experiment(99)')
    assert result.code == 1
    assert 'experiment' in result.message
    assert '99' in result.message


def test_a_broken_pipe_is_no_reason_to_stop_units(desk):
    """`xmanager launch … | head -1`: the reader leaves, the units do not."""
    desk.write(
        'launcher.py',
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('pipe') as experiment:
            experiment.add(shell(experiment, 'for i in $(seq 50); do echo $i; sleep 0.02; done'))
        """,
    )
    result = desk.run('bash', '-c', 'set -o pipefail; xmanager launch launcher.py | head -1')
    assert 'Traceback' not in result.stderr
    assert 'Exception' not in result.stderr
    until(lambda: desk.states() == ['completed'])
    assert desk.log().splitlines()[-1] == b'50'
