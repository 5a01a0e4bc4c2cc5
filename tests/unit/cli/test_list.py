import os
import pty
import re
import subprocess
import sys

import pytest

from xmanager.cli import terminal


def test_an_empty_home_is_told_how_to_begin_and_nothing_is_made(run, home):
    said = f'xmanager: no experiment in {home.path}: xmanager launch FILE makes one\n'
    assert run('list') == (0, '', said)
    assert run('list', '--json').json == {'schema': 'xmanager/1', 'experiments': [], 'more': 0}
    assert not home.path.exists()


def test_experiments_are_listed_with_the_newest_first(run, lab):
    lab.experiment('completed', 'failed', title='first try', user='grace')
    lab.experiment('running', 'queued', title='second try')
    code, out, err = run('list')
    assert (code, err) == (0, '')
    header, second, first = out.splitlines()
    assert header.split() == ['ID', 'TITLE', 'STATUS', 'UNITS', 'CREATED', 'DURATION', 'USER']
    assert re.split(r' {2,}', first.strip()) == [
        '1', 'first try', 'failed', '2: 1 completed, 1 failed', '2026-02-02T02:40:00.000Z', '6.0s', 'grace',
    ]  # fmt: skip
    assert second.startswith(' 2  second try  running  2: 1 running, 1 queued')


@pytest.mark.parametrize(
    ('options', 'ids'),
    [
        (['--status', 'failed'], [3, 1]),
        (['--status', 'empty'], [4]),
        (['--user', 'grace'], [1]),
        (['--title', 'SWEEP'], [3, 2]),
        (['--title', 'sweep', '--status', 'failed'], [3]),
        (['--limit', '2'], [4, 3]),
        (['--limit', '0'], [4, 3, 2, 1]),
        (['--title', 'nothing like it'], []),
    ],
)
def test_what_is_listed_can_be_narrowed(run, lab, options, ids):
    lab.experiment('failed', user='grace')
    lab.experiment('completed', title='a Sweep')
    lab.experiment('failed', 'running', title='b sweep')
    lab.move(lab.store.unit_by_label(3, '2'), 'completed')
    lab.experiment()
    assert [view['id'] for view in run('list', *options, '--json').json['experiments']] == ids


def test_the_rest_is_announced_apart_from_the_output(run, lab):
    for _ in range(53):
        lab.experiment()
    code, out, err = run('list')
    assert (code, err) == (0, '… 3 more: --limit 0 shows all\n')
    assert len(out.splitlines()) == 51
    assert run('list', '--json').json['more'] == 3
    assert run('list', '--limit', '0').err == ''


def test_a_paused_experiment_says_so_beside_its_state(run, lab):
    lab.experiment('running', 'queued')
    lab.experiment('queued')
    lab.store.set_paused(1, True, actor='test')
    _, second, first = run('list').lines
    assert re.split(r' {2,}', first.strip())[2] == 'running paused'
    assert 'paused' not in second
    views = run('list', '--json').json['experiments']
    assert [view['paused_at'] for view in views] == [None, '2026-02-02T02:40:02.000Z']
    assert any('\x1b[36mrunning paused' in line for line in on_terminal(lab, 'list'))


def test_what_would_move_the_cursor_is_not_printed(run, lab):
    lab.experiment(title='evil\x1b[2J\r\ntitle')
    assert 'evil [2J title' in run('list').out


def on_terminal(lab, *arguments, columns=80, **environ):
    """The lines that the command prints on a terminal."""
    controller, terminal = pty.openpty()
    env = {**os.environ, 'TERM': 'xterm', 'COLUMNS': str(columns), **environ}
    child = subprocess.Popen(
        [sys.executable, '-m', 'xmanager', *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=env,
    )
    os.close(terminal)
    shown = b''
    try:
        while piece := os.read(controller, 65536):
            shown += piece
    except OSError:  # Linux' way to say that the other end is closed.
        pass
    os.close(controller)
    assert child.wait(timeout=30) == 0
    return shown.decode().splitlines()


def test_a_table_fits_the_terminal_and_has_colours(lab):
    lab.experiment('failed', title='a very long title ' * 20, user='somebody-with-a-long-name')
    shown = on_terminal(lab, 'list')
    assert any('\x1b[31mfailed' in line for line in shown)
    plain = [re.sub(r'\x1b\[[0-9;]*m', '', line) for line in shown]
    assert max(map(len, plain)) <= 80
    assert 'ago' in plain[1] or '2026' in plain[1]
    assert '1: 1 failed' in plain[1]


def test_no_color_is_obeyed(lab):
    lab.experiment('failed')
    assert '\x1b' not in ''.join(on_terminal(lab, 'list', NO_COLOR='1'))
    assert '\x1b' not in ''.join(on_terminal(lab, 'show', '1', TERM='dumb'))


def test_every_state_has_a_colour():
    from xmanager.store import STATES

    assert set(STATES) | {'empty', 'waiting'} == set(terminal.STATE_COLOURS)


def test_units_in_the_queue_of_another_engine_are_told_to_wait(run, lab):
    lab.experiment('running', 'starting')
    lab.submitted(1, 'waits: Priority', 'waits: Priority', '')
    [_, line] = run('list').lines
    assert '5: 1 running, 1 starting, 3 waiting' in line
    assert run('list', '--json').json['experiments'][0]['counts'] == {'running': 1, 'starting': 4}


def test_an_experiment_all_of_whose_units_wait_in_another_queue_is_queued(run, lab):
    lab.experiment()
    lab.submitted(1, 'waits: Priority')
    assert run('list', '--status', 'queued').lines[1].split()[2:5] == ['queued', '1:', '1']
    assert run('list', '--status', 'running').lines == []
