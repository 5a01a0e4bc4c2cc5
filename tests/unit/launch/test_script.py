import contextlib
import os
import subprocess
import sys
import textwrap

import pytest

from xmanager.errors import ExperimentUnitError, UsageError
from xmanager.launch.script import ScriptFailed, run_script
from xmanager.launch.session import Session


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Writes a script and runs it; its lines are numbered from 1."""
    monkeypatch.chdir(tmp_path)
    # As in a process of its own: whatever test ran before in this one.
    monkeypatch.delitem(sys.modules, 'absl.app', raising=False)

    def run(text, *argv, name='launcher.py'):
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip('\n'))
        return run_script(name, argv)

    return run


@pytest.fixture
def told(run):
    """What is told of a script that fails."""

    def told(text, *argv):
        with pytest.raises(ScriptFailed) as caught:
            run(text, *argv)
        return caught.value.told

    return told


# How it runs.


def test_a_script_runs_as_main_with_its_own_arguments(run, capsys):
    text = """
        import sys
        print(__name__, __file__, sys.argv, sys.modules['__main__'].__dict__ is globals())
        """
    assert run(text, '--lr=1', 'x') == 0
    path = os.path.abspath('launcher.py')
    assert capsys.readouterr().out == f"__main__ {path} ['launcher.py', '--lr=1', 'x'] True\n"


def test_a_script_imports_its_neighbours(run, tmp_path, capsys):
    (tmp_path / 'a_neighbour_of_the_launcher.py').write_text('x = 5')
    assert run('import a_neighbour_of_the_launcher as n; print(n.x)') == 0
    assert capsys.readouterr().out == '5\n'


@pytest.mark.parametrize('text', ['pass', 'import sys; sys.exit(3)', '1 / 0'])
def test_the_process_is_left_as_it_was_found(run, text):
    before = sys.argv, sys.path[:], sys.modules['__main__']
    with contextlib.suppress(ScriptFailed):
        run(text)
    assert (sys.argv, sys.path, sys.modules['__main__']) == before


def test_our_flags_are_set_and_taken_out_of_the_scripts(run, capsys, monkeypatch):
    monkeypatch.setenv('XM_DETACH', 'false')
    text = """
        import os, sys
        print(sys.argv[1:], os.environ['XM_DETACH'])
        """
    run(text, '--', '--lr=1', '--xm_detach', '--', '--noxm_detach')
    assert capsys.readouterr().out == "['--lr=1', '--', '--noxm_detach'] true\n"


@pytest.mark.parametrize(
    ('argv', 'seen'),
    [
        (['a', '--', 'b'], ['a', '--', 'b']),
        (['--', 'a', '--', 'b'], ['a', '--', 'b']),
        (['--', '--', 'b'], ['--', 'b']),
        (['--xm_detach', '--', 'b'], ['b']),
        (['a', '--xm_detach', '--', 'b'], ['a', '--', 'b']),
        (['--'], []),
    ],
)
def test_only_the_dashes_that_stand_first_are_ours(run, capsys, monkeypatch, argv, seen):
    monkeypatch.setenv('XM_DETACH', 'false')
    run('import sys; print(sys.argv[1:])', *argv)
    assert capsys.readouterr().out == f'{seen}\n'


def test_a_misspelt_flag_of_ours_is_an_error_and_one_of_the_scripts_is_not(run, capsys):
    with pytest.raises(UsageError, match='Did you mean --xm_detach'):
        run('pass', '--xm_detatch')
    run('import sys; print(sys.argv[1:])  # --xm_detatch', '--xm_detatch', '--xm_of_a_library')
    assert capsys.readouterr().out == "['--xm_detatch', '--xm_of_a_library']\n"


def test_another_launch_script_is_what_paths_are_relative_to(run, capsys, monkeypatch):
    monkeypatch.setenv('XM_LAUNCH_SCRIPT', '')
    text = 'from xmanager import xm; print(xm.Dockerfile("sub").path)'
    run(text, '--xm_launch_script=/a/b.py')
    assert capsys.readouterr().out == '/a/sub\n'


def test_a_script_has_no_future_but_its_own(run, capsys):
    run('x: int = 1; print(__annotations__)')
    assert capsys.readouterr().out == "{'x': <class 'int'>}\n"


@pytest.mark.parametrize(
    'text',
    ['"""Not run as \'__main__\'."""', 'x = "__main__"', 'print.__name__ == "__main__"'],
)
def test_to_mention_main_is_not_to_call_it(run, text):
    assert run(f'{text}\ndef main(): return 3') == 3


@pytest.mark.parametrize(
    'guard', ['if "__main__" == __name__: main()', 'if __name__ in ("__main__",):\n    main()']
)
def test_a_script_with_a_guard_of_any_form_calls_main_itself(run, capsys, guard):
    assert run(f'def main(): print("ran"); return 3\n{guard}') == 0
    assert capsys.readouterr().out == 'ran\n'


def test_a_flag_of_ours_with_a_bad_value_is_told_before_anything_runs(run, capsys):
    with pytest.raises(UsageError, match='expected true or false'):
        run('print("ran")', '--xm_detach=perhaps')
    assert capsys.readouterr().out == ''


# Exit codes.


@pytest.mark.parametrize(
    ('text', 'code'),
    [
        ('', 0),
        ('import sys; sys.exit()', 0),
        ('import sys; sys.exit(0)', 0),
        ('import sys; sys.exit(3)', 3),
        ('import sys; sys.exit(True)', 1),
        ('raise SystemExit', 0),
    ],
)
def test_the_exit_code_is_the_scripts(run, text, code):
    assert run(text) == code


def test_an_exit_with_a_text_prints_it_and_fails(run, capsys):
    assert run('raise SystemExit("no data, no experiment")') == 1
    assert capsys.readouterr().err == 'no data, no experiment\n'


def test_a_launch_whose_units_failed_fails_though_the_script_did_not(run, monkeypatch):
    monkeypatch.setattr(Session, 'any_failed', True)
    assert run('') == 1
    assert run('raise SystemExit(0)') == 1
    assert run('raise SystemExit(4)') == 4


# The function `main` of a script that leaves the call to its launcher.


def test_main_is_called_where_the_script_does_not_call_it(run, capsys):
    assert run('def main(): print("ran"); return 3') == 3
    assert capsys.readouterr().out == 'ran\n'


def test_main_is_given_the_arguments_if_it_takes_any(run, capsys):
    assert run('def main(argv): print(argv)', '--lr=1') == 0
    assert capsys.readouterr().out == "['launcher.py', '--lr=1']\n"


def test_main_is_called_once_where_the_script_has_a_guard(run, capsys):
    run("""
        def main():
            print('ran')

        if __name__ == '__main__':
            main()
        """)
    assert capsys.readouterr().out == 'ran\n'


def test_main_is_not_called_where_the_script_has_launched_already(run, capsys):
    run("""
        from xmanager.launch.session import Session
        Session.any_entered = True

        def main():
            print('ran')
        """)
    assert capsys.readouterr().out == ''


def test_main_that_is_no_function_is_left_alone(run):
    assert run('main = 5') == 0


def test_main_may_exit_and_may_fail(run, told):
    assert run('def main(): raise SystemExit(5)') == 5
    assert told('def main():\n    {}["x"]') == "launcher.py:2: KeyError: 'x'"


ABSL = """
    from absl import app, flags
    flags.DEFINE_integer('lr', 0, 'The learning rate.')

    def main(argv):
        print(argv[1:], flags.FLAGS.lr, flags.FLAGS.xm_detach)
        if flags.FLAGS.lr < 0:
            raise ValueError('negative')
        return flags.FLAGS.lr
    """
GUARD = """
    from xmanager.launch import settings
    settings.define_absl_flags()
    if __name__ == '__main__':
        app.run(main)
    """


@pytest.mark.parametrize('text', [ABSL, ABSL + GUARD], ids=['without guard', 'with guard'])
def test_a_script_of_absl_has_its_flags_and_ours(launch, text):
    done = launch(text, '--', '--lr=3', 'word', '--xm_detach')
    assert done.stdout == "['word'] 3 True\n"
    assert done.returncode == 3


def test_a_bad_flag_of_a_script_of_absl_is_told_by_absl(launch):
    done = launch(ABSL, '--', '--no_such_flag')
    assert done.returncode != 0
    assert "Unknown command line flag 'no_such_flag'" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ('text', 'lines'),
    [
        (ABSL, [':7: ValueError: negative']),
        (
            ABSL + GUARD,
            [
                ':7: ValueError: negative',
                '    called from launcher.py:13: app.run(main)',
            ],
        ),
    ],
    ids=['without guard', 'with guard'],
)
def test_an_error_in_a_script_of_absl_is_told_without_the_lines_of_absl(launch, text, lines):
    done = launch(text, '--', '--lr=-1')
    assert done.returncode != 0
    assert done.stderr.partition('launcher.py')[2].splitlines() == lines
    assert 'absl' not in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.fixture
def launch(tmp_path):
    """Runs a script by the command, in a process of its own: absl's flags are the process's."""

    def launch(text, *argv):
        (tmp_path / 'launcher.py').write_text(textwrap.dedent(text).lstrip('\n'))
        return subprocess.run(
            [sys.executable, '-m', 'xmanager', 'launch', 'launcher.py', *argv],
            cwd=tmp_path,
            env={**os.environ, 'XM_HOME': str(tmp_path / 'home')},
            capture_output=True,
            text=True,
            check=False,
        )

    return launch


# What is no script.


def test_a_script_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match='does not exist'):
        run_script(str(tmp_path / 'nothing.py'), [])


def test_a_directory_is_no_script(tmp_path):
    with pytest.raises(UsageError, match='is a directory'):
        run_script(str(tmp_path), [])


@pytest.mark.parametrize(
    ('data', 'where'),
    [
        (b'x = 1\ndef f(:\n', 'launcher.py:2: '),
        (b'if True:\nx = 1\n', 'launcher.py:2: '),
        (b'x = 1\0', 'launcher.py'),
        (b'\x7fELF\xff\xfe', 'launcher.py'),
    ],
)
def test_what_is_no_python_is_told_with_its_line(tmp_path, monkeypatch, data, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'launcher.py').write_bytes(data)
    with pytest.raises(UsageError, match='not a Python program') as caught:
        run_script('launcher.py', [])
    assert str(caught.value).startswith(where)


# What goes wrong in it.


def test_an_error_is_told_with_the_line_of_the_script(told):
    assert told('x = 1\n1 / 0\n') == 'launcher.py:2: ZeroDivisionError: division by zero'


def test_an_error_without_a_text_is_told_by_its_name(told):
    assert told('assert False') == 'launcher.py:1: AssertionError'


def test_the_lines_that_led_there_are_told_innermost_first(told):
    text = """
        def inner():
            raise ValueError('no luck')

        def outer():
            inner()

        outer()
        """
    assert told(text).splitlines() == [
        'launcher.py:2: ValueError: no luck',
        '    called from launcher.py:5: inner()',
        '    called from launcher.py:7: outer()',
    ]


def test_no_line_of_ours_or_of_pythons_is_told(told):
    text = """
        import json
        from xmanager import xm

        json.loads('{')
        """
    assert told(text).startswith('launcher.py:4: JSONDecodeError: ')
    text = """
        from xmanager import xm
        xm.JobRequirements(cpu='many')
        """
    lines = told(text).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith('launcher.py:2: ')


def test_an_error_of_ours_is_told_by_its_sentence_alone(told):
    text = """
        from xmanager.errors import UsageError
        raise UsageError('Do it so.')
        """
    assert told(text) == 'launcher.py:2: Do it so.'


def test_an_error_in_a_module_of_the_user_is_told_where_it_was_raised(told, tmp_path):
    (tmp_path / 'a_library_of_the_user.py').write_text('def f():\n    raise KeyError("x")\n')
    assert told('import a_library_of_the_user as l\nl.f()').splitlines() == [
        "a_library_of_the_user.py:2: KeyError: 'x'",
        '    called from launcher.py:2: l.f()',
    ]


def test_a_failed_unit_that_was_not_told_of_yet_is_told(told):
    text = """
        from xmanager.errors import ExperimentUnitError
        raise ExperimentUnitError('unit 1 of experiment 2 failed')
        """
    assert told(text) == 'launcher.py:2: unit 1 of experiment 2 failed'


def test_a_failed_unit_that_the_summary_told_of_is_only_an_exit_code(run, monkeypatch):
    error = ExperimentUnitError('unit 1 failed')
    monkeypatch.setattr(Session, '_told', [error])
    text = """
        from xmanager.launch.session import Session
        raise Session._told[0]
        """
    assert run(text) == 1


@pytest.mark.parametrize('name', ['KeyboardInterrupt', 'BrokenPipeError'])
def test_an_interrupt_and_a_broken_pipe_are_left_to_the_command(run, name):
    with pytest.raises((KeyboardInterrupt, BrokenPipeError)):
        run(f'raise {name}')


# Help.


@pytest.mark.parametrize('flag', ['--help', '-h'])
def test_a_script_that_takes_no_flags_tells_of_ours_and_does_not_run(run, capsys, flag):
    text = """
        import os
        from xmanager import xm
        def main():
            print('ran')
        """
    assert run(text, '--', flag) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('launcher.py takes no flags of its own. Those of xmanager:\n')
    assert '\n  --xm_dry_run ' in printed
    assert 'ran' not in printed


@pytest.mark.parametrize(
    'text',
    [
        'import argparse',
        'from absl import app',
        'import a_neighbour_of_the_launcher',
        'if 0: from .flags import parse',
        'import sys; sys.argv',
        'import importlib; importlib.import_module("argparse")',
        'def main(arguments): pass',
        'async def main(*, lr=1): pass',
    ],
)
def test_a_script_that_may_take_flags_gets_its_help_flag(run, tmp_path, text, capsys):
    (tmp_path / 'a_neighbour_of_the_launcher.py').write_text('')
    seen = 'import os; print("ran")'
    with contextlib.suppress(ScriptFailed):
        run(f'{seen}\n{text}', '--', '--help')
    assert 'ran' in capsys.readouterr().out


def test_other_flags_beside_help_are_no_question(run, capsys):
    run('print("ran")', '--', '--help', 'x')
    assert capsys.readouterr().out == 'ran\n'


def test_lines_that_attrs_has_generated_are_no_news(told):
    text = """
        from xmanager import xm_local
        xm_local.Local(grace='x')
        """
    assert (
        told(text)
        == "launcher.py:2: TypeError: Local(grace='x'): expected seconds, a timedelta or None."
    )
