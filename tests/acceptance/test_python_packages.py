"""Code runs as it was when it was launched, whatever happens to the files meanwhile."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.acceptance.polling import until
from tests.unit.packaging.wheels import environ_for, make_wheel

# One unit runs until the gate is made; the others wait behind it, for it has the machine to itself.
LAUNCHER = """
    import sys
    from xmanager import xm, xm_local

    with xm_local.create_experiment('code') as experiment:
        [code] = experiment.package(
            [xm.python_package(xm_local.Local.Spec(), 'code', entrypoint={entrypoint}{more})]
        )
        whole = xm_local.Local(xm.JobRequirements(cpu=1))
        for arguments in {arguments}:
            experiment.add(xm.Job(code, whole, name='job', args=arguments))
"""

# Says what it was given, and what it finds; a unit that is told to waits for the gate.
TRAIN = """
    import json, os, pathlib, sys
    from words import WORD

    gate = pathlib.Path(os.environ['GATE'])
    if 'wait' in sys.argv:
        import time
        with open(gate.with_name('began'), 'w'):
            pass
        while not gate.exists():
            time.sleep(0.02)
    print(json.dumps([WORD, open('data.txt').read(), sys.argv[1:]]))
"""

ARGUMENTS = ['a b', 'c\nd', '"', "'", '$HOME', '`id`', '', '*', '\\', 'é', '--flag=x y']


@pytest.fixture
def code(desk):
    """A folder of code beside the launch script."""
    (desk.folder / 'code').mkdir()
    desk.write('code/train.py', TRAIN)
    desk.write('code/words.py', "WORD = 'old'\n")
    desk.write('code/data.txt', 'data')
    desk.environment |= {'GATE': str(desk.folder / 'gate'), 'XM_LOCAL_RESOURCES': 'cpu=1'}
    return desk.folder / 'code'


def launcher(arguments, entrypoint="xm.ModuleName('train')", more=''):
    return LAUNCHER.format(arguments=arguments, entrypoint=entrypoint, more=more)


def said(desk, unit='1', experiment_id=1):
    return json.loads(desk.log(unit, experiment_id=experiment_id))


def test_units_that_wait_run_the_code_as_it_was_and_a_new_launch_runs_the_new(desk, code):
    script = launcher([['wait'], ['2'], ['3']])
    started = desk.start(script)
    until((desk.folder / 'began').exists)
    desk.write('code/words.py', "WORD = 'new'\n")
    desk.write('code/data.txt', 'other')
    desk.write('code/train.py', 'raise SystemExit(1)\n')
    desk.write('launcher0.py', 'raise SystemExit(1)\n')
    desk.open_gate()
    assert started.ended().code == 0
    assert [said(desk, unit)[:2] for unit in '123'] == [['old', 'data']] * 3
    desk.write('code/train.py', TRAIN)
    assert desk.launch(script).code == 0
    assert [said(desk, unit, 2)[:2] for unit in '123'] == [['new', 'other']] * 3


@pytest.mark.parametrize(
    'entrypoint',
    [
        "xm.ModuleName('train')",
        "xm.CommandList(['cd .', 'python -m train'])",
        'xm.CommandList([\'exec python3 train.py "$@"\'])',
        "xm.CommandList(['set -e', 'python train.py $@'])",
    ],
)
def test_arguments_reach_the_code_byte_for_byte(desk, code, entrypoint):
    arguments = ARGUMENTS if not entrypoint.endswith("$@'])") else ['plain']
    result = desk.launch(launcher([arguments], entrypoint))
    assert result.code == 0, result.stderr
    assert said(desk) == ['old', 'data', arguments]


def test_a_unit_is_run_again_from_the_same_code_when_the_folder_is_long_gone(desk, code):
    assert desk.launch(launcher([[]])).code == 0
    shutil.rmtree(code)
    assert desk.xmanager('restart', '1', '--all').code == 0
    assert desk.xmanager('wait', '1').code == 0
    assert desk.experiment()['units'][0]['attempt'] == 2
    assert said(desk) == ['old', 'data', []]


def test_lines_of_shell_find_the_interpreter_of_the_launcher(desk, code):
    entrypoint = 'xm.CommandList([\'python -c "import sys; print(sys.executable)" #\'])'
    script = launcher([[]], entrypoint)
    desk.write('launcher.py', script)
    # A launcher whose interpreter is not on PATH, as in a scheduled job.
    python = shutil.which('python', path=desk.environment['PATH'])
    assert python is not None
    result = desk.run(python, 'launcher.py', PATH='/usr/bin:/bin')
    assert result.code == 0, result.stderr
    assert os.path.dirname(desk.log().decode()) == os.path.dirname(python)


def test_the_environment_of_a_lock_file_is_made_once_and_named_when_it_is_gone(desk, code):
    wheels = desk.folder / 'wheels'
    make_wheel(wheels, 'alpha')
    desk.environment |= environ_for(wheels, {})
    desk.write('requirements.txt', 'alpha==1.0\n')
    entrypoint = "xm.CommandList(['alpha-run && python -m alpha #'])"
    script = launcher([[]], entrypoint, more=", environment='requirements.txt'")
    first, second = desk.launch(script), desk.launch(script)
    assert (first.code, second.code) == (0, 0), first.stderr
    assert desk.log() == b'alpha 1.0\n'
    [environment] = (desk.home / 'cache' / 'environments').iterdir()
    shutil.rmtree(environment)
    desk.xmanager('restart', '1', '--all')
    assert desk.xmanager('wait', '1').code == 1
    assert 'its Python environment' in desk.xmanager('show', '1').stdout


def test_a_program_that_is_built_again_is_not_run_by_units_that_wait(desk):
    program = desk.write('program', '#!/bin/sh\necho old "$0"\n')
    program.chmod(0o755)
    desk.environment['XM_LOCAL_RESOURCES'] = 'cpu=1'
    started = desk.start(
        """
        from xmanager import xm, xm_local
        from shell_jobs import shell

        with xm_local.create_experiment('programs') as experiment:
            [program] = experiment.package([xm.binary(xm_local.Local.Spec(), 'program')])
            one = xm_local.Local(xm.JobRequirements(cpu=1))
            wait = 'echo start 1 >>journal; while [ ! -e gate ]; do sleep 0.02; done'
            experiment.add(shell(experiment, wait, requirements=one.requirements))
            experiment.add(xm.Job(program, one, name='job'))
            experiment.add(xm.Job(program, one, name='job'))
        """
    )
    until(lambda: desk.started_units() == ['1'])
    desk.write('program', '#!/bin/sh\necho new\n')
    desk.open_gate()
    assert started.ended().code == 0
    for unit in '23':
        word, place = desk.log(unit).split()
        assert word == b'old'
        assert Path(os.fsdecode(place)).is_relative_to(desk.home)


def test_a_program_above_the_limit_that_changed_is_not_run(desk):
    program = desk.write('program', '#!/bin/sh\necho old\n')
    program.chmod(0o755)
    desk.environment |= {'XM_LOCAL_RESOURCES': 'cpu=1', 'XM_BINARY_MAX_KEPT': '1B'}
    started = desk.start(
        """
        from xmanager import xm, xm_local
        from shell_jobs import shell

        with xm_local.create_experiment('programs') as experiment:
            [program] = experiment.package([xm.binary(xm_local.Local.Spec(), 'program')])
            one = xm_local.Local(xm.JobRequirements(cpu=1))
            wait = 'echo start 1 >>journal; while [ ! -e gate ]; do sleep 0.02; done'
            experiment.add(shell(experiment, wait, requirements=one.requirements))
            experiment.add(xm.Job(program, one, name='job'))
        """
    )
    until(lambda: desk.started_units() == ['1'])
    desk.write('program', '#!/bin/sh\necho new\n')
    desk.open_gate()
    assert started.ended().code == 1
    assert 'has changed since it was packaged' in desk.xmanager('show', '1').stdout


def test_a_program_finds_its_dependencies_beside_it(desk):
    program = desk.write('program', '#!/bin/sh\ncat "$(dirname "$0")/data/x" "$(dirname "$0")/y"\n')
    program.chmod(0o755)
    (desk.folder / 'data').mkdir()
    desk.write('data/x', 'x')
    desk.write('other', 'y')
    result = desk.launch(
        """
        from xmanager import xm, xm_local

        with xm_local.create_experiment('programs') as experiment:
            beside = [xm.FolderDependency('data'), xm.FileDependency('other', 'y')]
            [program] = experiment.package([xm.binary(xm_local.Local.Spec(), 'program', beside)])
            experiment.add(xm.Job(program, xm_local.Local(), name='job'))
        """
    )
    assert result.code == 0, result.stderr
    assert desk.log() == b'xy'


def test_a_module_that_is_not_there_is_told_before_anything_is_added(desk, code):
    result = desk.launch(launcher([[]], "xm.ModuleName('trian')"))
    assert result.code == 1
    assert "Did you mean 'train'?" in result.message
