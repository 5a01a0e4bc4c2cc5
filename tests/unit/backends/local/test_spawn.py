"""A task's folder, environment and command, before and after it is started."""

import json
import os
import stat
from pathlib import Path

import attrs
import pytest

from xmanager.backends.local.programs import CannotStartError
from xmanager.backends.local.spawn import Command, build_environment, prepare, start

MARKS = {'XM_KEY': 'k', 'XM_JOB_NAME': 'train', 'PYTHONUNBUFFERED': '1'}


@pytest.fixture
def command(tmp_path):
    return Command(
        name='train',
        folder=tmp_path / '1' / 'train',
        attempt=1,
        key='k',
        argv=('/usr/bin/env', '-0'),
        cwd=str(tmp_path),
        env={'LR': '0.1'},
        secrets={},
        marks=MARKS,
    )


def begin(command, inherited=os.environ):
    with open(os.devnull) as lease:
        return start(prepare(command, inherited), lease.fileno())


def run(command, inherited=os.environ):
    pid = begin(command, inherited)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def environment_of(command, inherited):
    assert run(command, inherited) == 0
    variables = command.output.read_bytes().split(b'\0')[:-1]
    return dict(variable.split(b'=', 1) for variable in variables)


def test_the_jobs_settings_win_over_the_launchers_and_ours_over_all(command):
    environment = build_environment(
        attrs.evolve(command, env={'A': 'user', 'XM_KEY': 'forged', 'PYTHONUNBUFFERED': ''}),
        {'A': 'launcher', 'B': 'launcher', 'XM_LOCAL_RESOURCES': 'cpu=1'},
    )
    assert environment == {'A': 'user', 'B': 'launcher', **MARKS, 'PWD': command.cwd}


def test_devices_are_counted_by_bus_unless_the_user_says_otherwise(command):
    inherited = {'CUDA_VISIBLE_DEVICES': '2,3', 'CUDA_DEVICE_ORDER': 'FASTEST_FIRST'}
    granted = attrs.evolve(command, marks={'CUDA_VISIBLE_DEVICES': '3'})
    assert build_environment(granted, inherited)['CUDA_DEVICE_ORDER'] == 'PCI_BUS_ID'
    stated = attrs.evolve(granted, env={'CUDA_DEVICE_ORDER': 'FASTEST_FIRST'})
    assert build_environment(stated, inherited)['CUDA_DEVICE_ORDER'] == 'FASTEST_FIRST'
    silent = attrs.evolve(command, marks={})
    assert build_environment(silent, inherited)['CUDA_DEVICE_ORDER'] == 'FASTEST_FIRST'


def test_the_program_gets_exactly_this_environment(command):
    got = environment_of(command, {'PATH': '/usr/bin:/bin', 'X': 'a b\n$c'})
    got.pop(b'OLDPWD', None)  # a shell's own
    got.pop(b'SHLVL', None)
    got.pop(b'_', None)
    expected = {'PATH': '/usr/bin:/bin', 'X': 'a b\n$c', 'LR': '0.1', 'PWD': command.cwd, **MARKS}
    assert got == {name.encode(): value.encode() for name, value in expected.items()}


def test_a_launchers_variable_that_no_shell_can_name_reaches_neither_job_nor_command_line(command):
    # All users of the machine can read a command line in /proc; the token of npm has such a name.
    inherited = {'npm_config_//registry.example/:_authToken': 'hush', 'BASH_FUNC_f%%': '() { :\n}'}
    ready = prepare(command, inherited)
    assert ready.argv == command.argv
    assert not ready.environment.keys() & inherited.keys()
    assert not environment_of(command, inherited).keys() & {name.encode() for name in inherited}


def test_the_launchers_own_settings_stay_with_it_but_not_where_its_store_is(command):
    kept = {
        'XM_HOME': '/home',
        'XM_TRACEBACK': '1',
        'XM_DATABASE_URL': 'sqlite://',
        'XMODIFIERS': '',
    }
    dropped = {'XM_DETACH': '1', 'XM_LAUNCH_SCRIPT': 'a.py', 'XM_LOCAL_RESOURCES': 'cpu=1'}
    environment = build_environment(command, {**kept, **dropped})
    assert environment == {**kept, 'LR': '0.1', **MARKS, 'PWD': command.cwd}


def test_settings_that_the_user_gave_the_job_stay(command):
    command = attrs.evolve(command, env={'XM_DETACH': '1'}, secrets={'XM_TOKEN': 'XM_MINE'})
    environment = build_environment(command, {'XM_DETACH': '0', 'XM_MINE': 'hush'})
    assert (environment['XM_DETACH'], environment['XM_TOKEN']) == ('1', 'hush')
    assert 'XM_MINE' not in environment


def test_a_secret_reaches_the_program_but_no_file(command):
    command = attrs.evolve(
        command, argv=('/bin/sh', '-c', '[ ${#WANDB} = 4 ]'), secrets={'WANDB': 'WANDB_API_KEY'}
    )
    assert run(command, {'WANDB_API_KEY': 'hush'}) == 0
    assert json.loads((command.folder / 'command.json').read_text())['env'] == {
        'LR': '0.1',
        'WANDB': {'secret': 'WANDB_API_KEY'},
    }
    assert not [
        path
        for path in command.folder.rglob('*')
        if path.is_file() and b'hush' in path.read_bytes()
    ]
    assert 'hush' not in repr(prepare(command, {'WANDB_API_KEY': 'hush'}))


def test_a_missing_secret_is_named(command):
    with pytest.raises(
        CannotStartError, match='secret NO_SUCH is not set in the environment of the supervisor'
    ):
        prepare(attrs.evolve(command, secrets={'X': 'NO_SUCH'}), {})


def test_a_missing_folder_to_start_in_is_named(command):
    with pytest.raises(CannotStartError, match=r"^cwd '/no/such' does not exist\.$"):
        prepare(attrs.evolve(command, cwd='/no/such'), {})


def test_only_the_owner_may_read_what_a_task_wrote(command):
    assert run(command) == 0
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (command.folder, *command.folder.iterdir())
    }
    assert modes['train'] == 0o700
    assert modes['command.json'] == modes['output.log'] == 0o600


def test_the_command_is_on_record(command):
    command = attrs.evolve(command, argv=('/bin/true', 'é \udcff'), attempt=3)
    assert run(command) == 0
    assert json.loads((command.folder / 'command.json').read_text()) == {
        'argv': ['/bin/true', 'é \udcff'],
        'env': {'LR': '0.1'},
        'cwd': command.cwd,
        'attempt': 3,
        'key': 'k',
    }


def test_another_attempt_keeps_the_logs_of_the_one_before_and_its_results(command):
    for attempt in (1, 2, 4):
        argv = ('/bin/sh', '-c', f'echo {attempt}; touch out/{attempt}')
        assert (
            run(
                attrs.evolve(
                    command, attempt=attempt, argv=argv, cwd=str(command.folder.parent.parent)
                )
            )
            != -1
        )
        (command.folder / 'out' / str(attempt)).touch()
    names = {path.name: path for path in command.folder.iterdir()}
    assert names.keys() == {
        *('command.json', 'out', 'output.log', 'output.1.log', 'output.2.log'),
        *('status', 'status.1', 'status.2'),
    }
    assert names['output.1.log'].read_text().startswith('1\n')
    assert names['output.log'].read_text().startswith('4\n')
    assert names['status.2'].read_text().startswith('started 2 ')
    assert {path.name for path in names['out'].iterdir()} == {'1', '2', '4'}


def test_the_same_attempt_submitted_again_goes_on_with_its_log(command):
    # A supervisor may die after it made the folder and before it started the program.
    for word in ('first', 'second'):
        assert run(attrs.evolve(command, argv=('/bin/echo', word))) == 0
    assert command.output.read_text() == 'first\nsecond\n'


def test_a_damaged_command_file_stops_nothing(command):
    command.folder.mkdir(parents=True)
    (command.folder / 'command.json').write_text('{')
    assert run(command) == 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'argv': ('/bin/true', 'x' * 200_000)}, 'more than the system passes to a program'),
        ({'env': {'X': 'x' * 200_000}}, 'more than the system passes to a program'),
        ({'argv': ('/bin/true', 'a\0b')}, 'can not be passed to a program'),
        ({'folder': Path('/proc/no/such')}, 'could not be started: No such file or directory'),
    ],
)
def test_what_the_system_refuses_is_explained(command, changes, message):
    with pytest.raises(CannotStartError, match=message):
        begin(attrs.evolve(command, **changes), {})
