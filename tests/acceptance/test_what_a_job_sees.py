"""Arguments, environment, folder and standard input, as the program itself finds them."""

import os
import sys

ODD_WORDS = [
    '',
    ' ',
    'two  words',
    'line\nbreak\n',
    '\t\r\\ \\n',
    '\'"`',
    '$HOME $(id) ${x} *',
    '--flag=a b',
    '--',
    'naïve — 日本語 🎲',
    ';|&<>()!#~%',
    'x' * 100_000,
]


def test_arguments_arrive_byte_for_byte(launch, desk):
    desk.write('words.txt', '').write_bytes(b'\0'.join(map(os.fsencode, ODD_WORDS)))
    result = launch(r"""
        from shell_jobs import shell, xm_local
        words = open('words.txt', newline='').read().split('\0')
        with xm_local.create_experiment('words') as experiment:
            options = {'experimental_stream_output': False}
            experiment.add(shell(experiment, r'printf "%s\0" "$@"', *words, **options))
            experiment.add(
                shell(experiment, r'printf "%s\0" "$@"', **options),
                args={'args': {'value': words[3], 'on': True, 'off': False, 'many': [1, 'a b']}},
            )
    """)
    assert result.code == 0, result.stderr
    assert desk.log('1').split(b'\0')[:-1] == [os.fsencode(word) for word in ODD_WORDS]
    assert desk.log('2').split(b'\0')[:-1] == [
        b'--value=line\nbreak\n',
        b'--on',
        b'--nooff',
        b'--many=1',
        b'--many=a b',
    ]


def test_the_environment_is_the_launchers_then_the_packageables_then_the_jobs(launch):
    script = """
        from shell_jobs import xm, xm_local
        with xm_local.create_experiment('environment') as experiment:
            [sh] = experiment.package([xm.binary(
                xm_local.Local.Spec(), path='/bin/sh',
                args=['-c', 'echo $LAUNCHER $PACKAGE $JOB $PYTHONUNBUFFERED'],
                env_vars={'PACKAGE': 'package', 'JOB': 'package'},
            )])
            experiment.add(xm.Job(sh, xm_local.Local(), env_vars={'JOB': 'job'}))
            experiment.add(xm.Job(sh, xm_local.Local()), args={'env_vars': {'JOB': 7}})
    """
    result = launch(script, LAUNCHER='launcher', PACKAGE='launcher', JOB='launcher')
    assert sorted(result.stdout.splitlines()) == [
        '[1 sh] launcher package job 1',
        '[2 sh] launcher package 7 1',
    ]


def test_a_job_knows_its_place_and_has_an_empty_folder_and_an_empty_stdin(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        LOOK = (
            'echo $XM_EXPERIMENT_ID $XM_WORK_UNIT_ID $XM_JOB_NAME $XM_ATTEMPT; echo "$XM_OUTPUT_DIR"; '
            'ls -A "$XM_OUTPUT_DIR" | wc -l; wc -c; touch "$XM_OUTPUT_DIR/mine"'
        )
        with xm_local.create_experiment('place') as experiment:
            for _ in range(2):
                experiment.add(xm.JobGroup(
                    left=shell(experiment, LOOK, name='left'),
                    right=shell(experiment, LOOK, name='right'),
                ))
    """)
    assert result.code == 0, result.stderr
    for unit in ('1', '2'):
        for job in ('left', 'right'):
            folder = desk.job_folder(unit, job)
            assert desk.log(unit, job).decode().splitlines() == [
                f'1 {unit} {job} 1',
                str(folder / 'out'),
                '0',
                '0',
            ]
            assert os.listdir(folder / 'out') == ['mine']


def test_track_tells_a_job_where_it_is_in_proper_types(launch, desk):
    desk.write('look.py', 'from xmanager import track\nprint(repr(track.current()), flush=True)\n')
    result = launch("""
        import sys
        from shell_jobs import xm, xm_local
        with xm_local.create_experiment('track') as experiment:
            [python] = experiment.package(
                [xm.binary(xm_local.Local.Spec(), path=sys.executable, args=['look.py'])]
            )
            experiment.add(xm.Job(python, xm_local.Local(), name='look'))
    """)
    out = desk.job_folder('1', 'look') / 'out'
    assert result.stdout == (
        f"[1 look] Place(experiment_id=1, work_unit_id=1, job_name='look', output_dir={out!r}, attempt=1)\n"
    )


def test_a_job_starts_in_the_folder_of_its_launcher_unless_told_otherwise(launch, desk):
    elsewhere = desk.folder / 'elsewhere'
    elsewhere.mkdir()
    result = launch("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('cwd') as experiment:
            experiment.add(shell(experiment, 'pwd'))
            experiment.add(shell(experiment, 'pwd', cwd='elsewhere'))
    """)
    assert sorted(result.stdout.splitlines()) == [f'[1 job] {desk.folder}', f'[2 job] {elsewhere}']


def test_a_job_that_launches_is_an_experiment_of_its_own(launch, desk):
    desk.write(
        'inner.py',
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('inner') as experiment:
            experiment.add(shell(experiment, 'echo $XM_EXPERIMENT_ID.$XM_WORK_UNIT_ID'))
        """,
    )
    result = launch(f"""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('outer') as experiment:
            experiment.add(shell(experiment, '{sys.executable} -m xmanager launch inner.py'))
    """)
    assert result.code == 0, result.stderr
    assert '[1 job] [1 job] 2.1' in result.stdout.splitlines()
    assert desk.states(2) == ['completed']
