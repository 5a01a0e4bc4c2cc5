import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'fish'])
def test_the_script_is_printed_and_the_help_has_the_line_for_the_rc_file(run, shell):
    code, out, _ = run('completion', shell)
    assert code == 0
    assert '_XMANAGER_COMPLETE' in out
    assert f'xmanager completion {shell}' in run('completion', '--help').out


def offers(*words):
    """What a shell is offered for the last word."""
    line = ' '.join(['xmanager', *words])
    env = {
        **os.environ,
        '_XMANAGER_COMPLETE': 'bash_complete',
        'COMP_WORDS': line,
        'COMP_CWORD': str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, '-c', 'from xmanager.cli.main import main; main()'],
        env=env, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.stderr == ''
    return [line.partition(',')[2] for line in done.stdout.splitlines() if line]


def test_commands_and_options_are_completed(home):
    assert offers('res') == ['restart', 'resume']
    assert '--status' in offers('list', '--s')
    assert offers('list', '--status', 'fa') == ['failed']


def test_experiments_units_and_jobs_are_completed(lab):
    for _ in range(12):
        lab.experiment('queued', title='cifar10')
    assert offers('show', '1') == ['12', '11', '10', '1']
    assert offers('show', '12.') == ['12.1']
    assert offers('logs', '12.') == ['12.1', '12.1.train']
    assert offers('logs', '12.1.t') == ['12.1.train']
    assert offers('delete', '12.') == []


def test_nothing_is_offered_and_nothing_said_where_there_is_nothing(home):
    assert offers('show', '1') == []
    assert offers('show', 'x.') == []
    assert not home.path.exists()
