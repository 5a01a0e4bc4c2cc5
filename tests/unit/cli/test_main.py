import os
import subprocess
import sys

import click
import pytest

from xmanager.cli import main as door
from xmanager.cli.main import COMMANDS, cli

OURS = sorted(COMMANDS.keys() - {'launch'})


def python(*arguments, **more):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        **more,
    )


def fail_with(monkeypatch, error):
    """Makes `xmanager where 1` raise."""

    def explode(*_args, **_more):
        raise error

    monkeypatch.setattr('xmanager.cli.session.open_store', explode)


def test_the_door_loads_neither_store_nor_sql_nor_rich():
    code = (
        'import sys, xmanager.cli.main; print([m for m in sys.modules if m.startswith(UNWANTED)])'
    )
    unwanted = ('xmanager.store', 'xmanager.xm', 'rich', 'sqlite3', 'sqlalchemy', 'attr', 'json')
    assert python('-c', code.replace('UNWANTED', repr(unwanted))).stdout == '[]\n'


def test_reading_loads_neither_sqlalchemy_nor_rich_nor_asyncio(lab):
    lab.experiment('completed')
    code = (
        'import sys; from xmanager.cli.main import main; main(["list"]);'
        'print([m for m in sys.modules if m.startswith(("rich", "sqlalchemy", "asyncio", "absl", "json.tool"))])'
    )
    assert python('-c', code).stdout.splitlines()[-1] == '[]'


def test_alone_it_prints_its_help(run):
    code, out, err = run()
    assert (code, err) == (0, '')
    assert out == run('--help').out
    for name, sentence in COMMANDS.items():
        assert f'{name}  ' in out
        assert sentence in out


@pytest.mark.parametrize('name', OURS)
def test_each_command_has_help_with_an_example_of_itself(run, name):
    code, out, _ = run(name, '--help')
    assert code == 0
    assert f'xmanager {name}' in out.split('Examples:')[1]


@pytest.mark.parametrize('name', OURS)
def test_each_command_is_alone_in_its_file(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name


def test_python_m_is_the_same_command():
    assert python('-m', 'xmanager', '--help').stdout.startswith('Usage: xmanager ')


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['lisst'], "xmanager: there is no command 'lisst': did you mean list?"),
        (['fly'], "xmanager: there is no command 'fly': there are launch, package, list,"),
        (['list', '--limit', '-1'], "'-1' is no whole number from 0 on"),
        (['list', '--limit', 'x'], "'x' is no whole number from 0 on"),
        (['list', '--status', 'sad'], 'sad'),
        (['show'], 'ID[.UNIT]'),
        (['show', '1.x'], "xmanager: '1.x' names no unit: write 1.3 for work unit 3"),
        (['show', '../..'], "xmanager: '../..' names no experiment: write its number"),
        (['show', '0x1'], "xmanager: '0x1' names no experiment"),
        (['show', ''], "xmanager: '' names no experiment"),
        (['show', '-1'], 'No such option'),
        (['show', '--', '-1'], "xmanager: '-1' names no experiment"),
        (
            ['show', '1.2.train'],
            'xmanager: show takes whole units, and 1.2.train is a job of one: write 1.2',
        ),
        (
            ['delete', '1.2'],
            'xmanager: delete takes whole experiments, and 1.2 is a unit of one: write 1',
        ),
        (
            ['pause', '1.2'],
            'xmanager: pause takes whole experiments, and 1.2 is a unit of one: write 1',
        ),
        (['hold', '1'], "xmanager: there is no command 'hold': did you mean pause?"),
        (['move', '1'], '--importance'),
        (['move', '1', '--importance', 'urgent'], 'urgent'),
        (['completion', 'tcsh'], 'tcsh'),
        (['logs', '1', '--tail', '9' * 5000], 'is no whole number'),
    ],
)
def test_misuse_gets_one_sentence_and_exit_code_2(run, arguments, sentence):
    code, out, err = run(*arguments)
    assert (code, out) == (2, '')
    assert sentence in err
    first, *hint = err.splitlines()
    assert first.startswith('xmanager: ')
    assert len(hint) == 1
    assert hint[0].startswith('See: xmanager ')


def test_what_is_not_found_gets_one_sentence_and_exit_code_1(run, lab):
    code, out, err = run('show', 7)
    assert (code, out) == (1, '')
    assert err == f'xmanager: there is no experiment 7 in {lab.home.database}\n'


def test_a_message_of_several_lines_becomes_one(run, monkeypatch):
    from xmanager.errors import StoreError, UsageError

    fail_with(monkeypatch, StoreError('the disk\nis full'))
    assert run('where', 1) == (1, '', 'xmanager: the disk is full\n')
    fail_with(monkeypatch, UsageError('no such flag'))
    assert run('where', 1).code == 2


def test_the_unexpected_gets_a_sentence_and_on_demand_a_traceback(run, monkeypatch):
    fail_with(monkeypatch, RuntimeError('out of luck'))
    code, _, err = run('where', 1)
    assert (code, err) == (
        1,
        'xmanager: unexpected RuntimeError: out of luck (set XM_TRACEBACK=1 for the traceback)\n',
    )
    monkeypatch.setenv('XM_TRACEBACK', '1')
    code, _, err = run('where', 1)
    assert code == 1
    assert err.startswith('Traceback (most recent call last)')
    assert 'explode' in err


def test_an_interrupt_exits_with_130(run, monkeypatch):
    fail_with(monkeypatch, KeyboardInterrupt())
    code, _, err = run('where', 1)
    assert (code, err.strip()) == (130, '')


def test_exit_codes_of_commands_pass_through(monkeypatch):
    fail_with(monkeypatch, SystemExit(42))
    with pytest.raises(SystemExit) as exit:
        door.main(['where', '1'])
    assert exit.value.code == 42


@pytest.mark.parametrize('arguments', [['list', '--limit', '0'], ['logs', '1']])
def test_a_broken_pipe_is_no_event(lab, arguments):
    record = lab.experiment('completed', title='x' * 200_000)
    lab.log(lab.store.units(record.id)[0], b'x' * 1_000_000)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, '-m', 'xmanager', *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=30,
    )
    os.close(writing)
    assert done.stderr == b''
    assert done.returncode == 1


def test_text_that_the_encoding_lacks_fails_nothing(lab):
    lab.experiment('completed', title='日本')
    done = python('-m', 'xmanager', 'list', env={**os.environ, 'PYTHONIOENCODING': 'latin-1'})
    assert (done.returncode, done.stderr) == (0, '')
    assert ' ?? ' in done.stdout


def test_a_home_that_is_a_file_gets_one_sentence(run, home):
    home.path.write_text('')
    code, out, err = run('list')
    assert (code, out) == (1, '')
    assert err.count('\n') == 1
    assert str(home.path) in err
