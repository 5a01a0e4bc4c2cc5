import contextlib
import errno
import io
import os

import attrs
import pytest

from xmanager.backend import TaskObservation
from xmanager.launch.terminal import Terminal, short_args
from xmanager.store import Wait
from xmanager.testing.store_fixtures import SettableClock, a_task

ERASED = '\r\x1b[K'


class Stream(io.StringIO):
    """A stderr that may be a terminal, and may be hung up."""

    def __init__(self, is_tty):
        super().__init__()
        self.is_tty = is_tty
        self.is_hung_up = False

    def isatty(self):
        return self.is_tty

    def write(self, text):
        if self.is_hung_up:
            raise OSError(errno.EIO, 'Input/output error')
        return super().write(text)

    def take(self):
        """What was written since the last call."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


@attrs.define
class Screen:
    terminal: Terminal
    out: io.StringIO
    err: Stream
    clock: SettableClock


def a_screen(is_tty, out=None):
    out = io.StringIO() if out is None else out
    err, clock = Stream(is_tty), SettableClock(100.0)
    return Screen(Terminal(7, out=out, err=err, clock=clock), out, err, clock)


@pytest.fixture
def screen():
    """Output that goes to a file."""
    return a_screen(is_tty=False)


@pytest.fixture
def tty(monkeypatch):
    """Output that a person sees, 120 columns wide."""
    monkeypatch.setenv('COLUMNS', '120')
    return a_screen(is_tty=True)


# Output of jobs.


def test_output_of_jobs_goes_to_stdout_with_the_unit_and_job_before_each_line(lab, screen):
    unit = lab.add('running', tasks=(a_task('train'), a_task('eval')))
    screen.terminal.started(unit)
    lab.write_log(unit, b'epoch 1\nepo')
    lab.write_log(unit, b'ready\n', task=1)
    screen.terminal.tick()
    assert screen.out.getvalue() == '[1 train] epoch 1\n[1 eval] ready\n'
    assert screen.err.getvalue() == ''


def test_what_is_left_of_the_output_is_shown_before_the_end_is_told(lab):
    both = Stream(is_tty=False)
    terminal = Terminal(7, out=both, err=both, clock=SettableClock())
    unit = lab.add('running')
    terminal.started(unit)
    lab.write_log(unit, b'no newline')
    terminal.ended(lab.move(unit, 'completed'))
    assert both.getvalue().splitlines() == ['[1 train] no newline', 'unit 1 completed in 0.0s']


def test_a_start_that_is_told_twice_shows_the_output_once(lab, screen):
    unit = lab.add('running')
    lab.write_log(unit, b'once\n')
    for _ in range(2):
        screen.terminal.started(unit)
        screen.terminal.tick()
    assert screen.out.getvalue() == '[1 train] once\n'


def test_the_output_of_a_job_that_does_not_stream_stays_in_its_log(lab, screen):
    quiet = a_task(options={'stream_output': False})
    unit = lab.add('running', tasks=(quiet,))
    lab.write_log(unit, b'secret thoughts\n')
    screen.terminal.started(unit)
    screen.terminal.tick()
    screen.terminal.ended(lab.move(unit, 'completed'))
    assert screen.out.getvalue() == ''


def test_bytes_reach_stdout_unchanged(lab):
    raw = io.BytesIO()
    screen = a_screen(is_tty=False, out=io.TextIOWrapper(raw, encoding='ascii'))
    unit = lab.add('running')
    screen.terminal.started(unit)
    lab.write_log(unit, b'\xff\x00\xe2\x98\x83\r\n')
    screen.terminal.tick()
    assert raw.getvalue() == b'[1 train] \xff\x00\xe2\x98\x83\r\n'


def test_a_reader_of_stdout_that_went_away_does_not_end_the_launch(lab):
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError), open(writer, 'w') as out:
        screen = a_screen(is_tty=False, out=out)
        unit = lab.add('running')
        screen.terminal.started(unit)
        for _ in range(2):
            lab.write_log(unit, b'line\n')
            screen.terminal.tick()
        screen.terminal.ended(lab.move(unit, 'completed'))
        screen.terminal.summary()
    assert screen.err.take().splitlines() == [
        'unit 1 completed in 0.0s',
        'experiment 7: 1 completed in 0.0s',
    ]


def test_a_terminal_that_hung_up_does_not_end_the_launch(lab, tty):
    unit = lab.add('running')
    tty.terminal.started(unit)
    tty.terminal.tick()
    tty.err.is_hung_up = True
    tty.clock.now += 1
    tty.terminal.tick()
    lab.write_log(unit, b'line\n')
    tty.terminal.ended(lab.move(unit, 'failed'))
    tty.terminal.summary()
    tty.terminal.close()
    assert tty.out.getvalue() == '[1 train] line\n'


# One line a unit.


def test_a_unit_that_completed_is_told_with_its_time_and_arguments(lab, screen):
    unit = lab.add('running', args={'args': {'lr': 0.1, 'depth': 3}})
    lab.clock.now += 12
    screen.terminal.ended(lab.move(unit, 'completed'))
    assert screen.err.getvalue() == 'unit 1 completed in 12s  lr=0.1 depth=3\n'


def test_a_unit_that_failed_is_told_with_the_reason(lab, screen):
    unit = lab.add('running', args={'args': {'lr': 0.1}})
    lab.clock.now += 75
    screen.terminal.ended(lab.move(unit, 'failed', message='job train exited with code 1'))
    assert screen.err.getvalue() == 'unit 1 failed after 1m 15s: job train exited with code 1\n'


def test_a_unit_that_never_started_has_no_time(lab, screen):
    unit = lab.add()
    screen.terminal.ended(lab.move(unit, 'stopped', message='Ctrl-C at the launcher'))
    assert screen.err.getvalue() == 'unit 1 stopped: Ctrl-C at the launcher\n'


def test_an_auxiliary_unit_is_called_so(lab, screen):
    unit = lab.add(kind='auxiliary', tasks=())
    screen.terminal.ended(lab.move(unit, 'completed', message='of no importance'))
    assert screen.err.getvalue() == 'auxiliary unit a1 completed\n'


def test_secrets_in_arguments_are_masked(lab, screen):
    unit = lab.add('running', args={'args': {'api_key': 'hush', 'lr': 1}})
    screen.terminal.ended(lab.move(unit, 'completed'))
    assert screen.err.getvalue().endswith('  api_key=*** lr=1\n')


@pytest.mark.parametrize(
    ('args', 'shown'),
    [
        ({}, ''),
        ({'args': {}}, ''),
        ({'lr': 1, 'name': 'x y'}, 'lr=1 name=x y'),
        ({'args': ['--lr=1', '--token=hush']}, '--lr=1 --token=***'),
        ({'args': {'prompt': 'two\nlines'}}, 'prompt=two lines'),
        ({'args': {'x': 'y' * 200}}, 'x=' + 'y' * 97 + '…'),
    ],
)
def test_arguments_are_shown_in_one_short_line(args, shown):
    assert short_args(args) == shown


# Colours and the progress line.


@pytest.mark.parametrize(
    ('state', 'colour'), [('completed', 32), ('failed', 31), ('stopped', 33), ('lost', 35)]
)
def test_states_have_colours_on_a_terminal_only(lab, tty, screen, state, colour):
    unit = lab.add(state)
    for each in (tty, screen):
        each.terminal.ended(unit)
        each.terminal.summary()
    assert f'\x1b[{colour}m{state}\x1b[0m' in tty.err.getvalue()
    assert f'\x1b[{colour}m1 {state}\x1b[0m' in tty.err.getvalue()
    assert '\x1b' not in screen.err.getvalue()


def test_progress_is_drawn_on_a_terminal_only(tty, screen):
    for each in (tty, screen):
        each.terminal.added(3)
        each.terminal.tick()
    assert tty.err.getvalue() == f'{ERASED}\x1b[2m3 queued · 0 running · 0.0s\x1b[0m'
    assert screen.err.getvalue() == ''


def test_progress_counts_units_by_state_and_guesses_the_time_left(lab, tty):
    tty.terminal.added(8)
    for state in ('completed', 'completed', 'failed', 'lost'):
        tty.terminal.ended(lab.add(state))
    tty.terminal.started(lab.add('running'))
    tty.clock.now += 60
    tty.err.take()
    tty.terminal.tick()
    assert (
        '3 queued · 1 running · 2 completed · 1 failed · 1 lost · 1m 00s · about 1m 00s left'
    ) in tty.err.getvalue()


def test_progress_is_not_drawn_more_often_than_eyes_can_follow(tty):
    tty.terminal.added()
    tty.terminal.tick()
    tty.err.take()
    tty.terminal.tick()
    tty.clock.now += 0.05
    tty.terminal.tick()
    assert tty.err.take() == ''
    tty.clock.now += 0.06
    tty.terminal.tick()
    assert tty.err.take() != ''


def test_the_progress_line_is_erased_before_anything_else_is_shown(lab):
    both = Stream(is_tty=True)
    clock = SettableClock(100.0)
    terminal = Terminal(7, out=both, err=both, clock=clock)
    unit = lab.add('running')
    terminal.added()
    terminal.started(unit)

    def draw():
        clock.now += 1
        terminal.tick()
        both.take()

    draw()
    lab.write_log(unit, b'line\n')
    terminal.tick()
    assert both.take().startswith(f'{ERASED}[1 train] line\n')
    draw()
    terminal.say('hello')
    assert both.take() == f'{ERASED}hello\n'
    terminal.say('again')
    assert both.take() == 'again\n'
    draw()
    terminal.ended(lab.move(unit, 'completed'))
    assert both.take().startswith(f'{ERASED}unit 1 ')
    draw()
    terminal.close()
    terminal.close()
    assert both.take() == ERASED


# The summary.


def test_the_summary_counts_units_by_state(lab, screen):
    for state in ('completed', 'failed', 'completed', 'stopped', 'lost'):
        screen.terminal.ended(lab.add(state))
    screen.clock.now += 3725
    screen.terminal.summary()
    last = screen.err.getvalue().splitlines()[-1]
    assert last == 'experiment 7: 2 completed, 1 failed, 1 stopped, 1 lost in 1h 02m'


def test_without_units_there_is_nothing_to_sum_up(screen):
    screen.terminal.summary()
    assert screen.err.getvalue() == ''


def test_the_summary_shows_the_last_lines_of_the_job_that_failed(lab, screen):
    unit = lab.add('running', tasks=(a_task('good'), a_task('bad')))
    lab.write_log(unit, b'all well\n')
    lab.write_log(unit, b''.join(b'line %d\n' % i for i in range(10)) + b'x' * 900, task=1)
    lab.move(unit, 'failed', tasks={'good': exited(0), 'bad': exited(1)})
    screen.terminal.ended(lab.store.unit(unit.id))
    screen.err.take()
    screen.terminal.summary()
    assert screen.err.getvalue().splitlines() == [
        'unit 1 bad, last lines:',
        '    line 6',
        '    line 7',
        '    line 8',
        '    line 9',
        '    ' + 'x' * 500,
        '    more: xmanager logs 7.1',
        'experiment 7: 1 failed in 0.0s',
    ]


def test_a_failed_unit_that_printed_nothing_has_no_last_lines(lab, screen):
    screen.terminal.ended(lab.add('failed'))
    screen.err.take()
    screen.terminal.summary()
    assert screen.err.getvalue() == 'experiment 7: 1 failed in 0.0s\n'


def test_of_many_failed_units_the_first_are_shown(lab, screen):
    for _ in range(7):
        unit = lab.add('failed')
        lab.write_log(unit, b'oh\n')
        screen.terminal.ended(unit)
    screen.err.take()
    screen.terminal.summary()
    text = screen.err.getvalue()
    assert text.count('last lines:') == 5
    assert '… and 2 more: xmanager show 7\n' in text


def exited(code):
    return TaskObservation('exited', exit_code=code)


def test_the_progress_line_is_never_wider_than_the_terminal(tty, monkeypatch):
    monkeypatch.setenv('COLUMNS', '12')
    tty.terminal.added(8)
    tty.clock.now += 60
    tty.terminal.tick()
    assert '8 queued · \x1b[0m' in tty.err.getvalue()


def test_no_progress_is_drawn_while_the_terminal_is_the_scripts(tty):
    tty.terminal.shows_progress = False
    tty.terminal.added(8)
    tty.clock.now += 60
    tty.terminal.tick()
    assert tty.err.getvalue() == ''


# What units of engines that queue by themselves wait for.


def a_wait(reason, count, is_taken=True):
    return Wait('slurm', 'starting', is_taken, reason, count, 1, 0.0)


def drawn(tty):
    tty.clock.now += 1
    tty.terminal.tick()
    return tty.err.take().rpartition('\x1b[2m')[2].removesuffix('\x1b[0m')


def test_progress_tells_for_what_units_wait(lab, tty):
    tty.terminal.added(1003)
    tty.terminal.started(lab.add('running'))
    tty.terminal.waits([a_wait('Priority', 950), a_wait('', 1), a_wait('', 2, is_taken=False)])
    assert drawn(tty) == '51 queued · 950 wait: Priority · 1 waits in Slurm · 1 running · 1.0s'
    tty.terminal.waits([a_wait('Priority', 1002)])
    assert drawn(tty) == '1,002 wait: Priority · 1 running · 2.0s'
    tty.terminal.waits([])
    assert drawn(tty) == '1002 queued · 1 running · 3.0s'


def test_progress_tells_the_commonest_reasons(tty):
    tty.terminal.added(15)
    tty.terminal.waits(
        [a_wait(name, count) for name, count in zip('abcde', (5, 4, 3, 2, 1), strict=True)]
    )
    assert drawn(tty).startswith(
        '5 wait: a · 4 wait: b · 3 wait: c · 3 wait for other things · 0 running'
    )


def test_that_an_engine_takes_no_units_is_told_once_even_where_nobody_sees_progress(screen):
    for count in (3, 2):
        waits = [a_wait('slurmctld does not answer', count, is_taken=False)]
        screen.terminal.waits(waits)
    screen.terminal.waits([a_wait('Priority', 1)])
    assert screen.err.getvalue() == '3 units wait: slurmctld does not answer\n'


def test_a_unit_that_its_engine_has_requeued_does_not_run(lab, tty):
    unit = lab.add('running')
    tty.terminal.added()
    tty.terminal.started(unit)
    for state in ('restarting', 'queued', 'starting'):
        unit = lab.move(unit, state)
    tty.terminal.tried(unit, 'attempt 1: was preempted; restart 1 of 2')
    assert '1 queued · 0 running' in drawn(tty)
