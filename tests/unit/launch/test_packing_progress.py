import io

import pytest

from xmanager.launch.packing_progress import PackingProgress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '40')
    return Terminal()


def drawn(screen):
    text = screen.getvalue().rpartition('\x1b[J')[2]
    return text.replace('\x1b[2m', '').replace('\x1b[0m', '').splitlines()


def test_each_executable_at_work_has_a_line(screen, clock):
    progress = PackingProgress(screen, clock)
    progress.tell('a', 'packaging')
    clock.now += 2
    progress.tell('longer', 'pulling python:3.11')
    clock.now += 3
    progress.draw()
    assert drawn(screen) == ['a         5.0s  packaging', 'longer    3.0s  pulling python:3.11']
    progress.tell('a', '')
    progress.draw()
    assert '\x1b[2F\x1b[J' in screen.getvalue()
    assert drawn(screen) == ['longer    3.0s  pulling python:3.11']


def test_nothing_is_shown_of_what_is_done_within_a_second(screen, clock):
    with PackingProgress(screen, clock) as progress:
        progress.tell('a', 'packaging')
        progress.draw()
    assert screen.getvalue() == ''


def test_in_the_end_all_is_erased(screen, clock):
    with PackingProgress(screen, clock) as progress:
        progress.tell('a', 'packaging')
        clock.now += 2
        progress.draw()
    assert screen.getvalue().endswith('\x1b[1F\x1b[J')
    progress.tell('a', 'late')
    progress.draw()
    assert screen.getvalue().endswith('\x1b[1F\x1b[J')


def test_a_line_fits_the_terminal_and_controls_nothing(screen, clock):
    progress = PackingProgress(screen, clock)
    progress.tell('a', 'building \x1b[31m' + 'x' * 100)
    clock.now += 2
    progress.draw()
    [line] = drawn(screen)
    assert len(line) == 39
    assert '\x1b' not in line


def test_very_many_take_a_few_lines(screen, clock):
    progress = PackingProgress(screen, clock)
    for number in range(30):
        progress.tell(f'p{number}', 'packaging')
    clock.now += 2
    progress.draw()
    assert drawn(screen)[-2:] == ['p7    2.0s  packaging', '… and 22 more']


def test_elsewhere_only_what_takes_long_is_said_and_once(clock):
    err = io.StringIO()
    with PackingProgress(err, clock) as progress:
        progress.tell('a', 'packaging')
        progress.tell('a', 'building (step 1 of 2)')
        progress.tell('a', 'building (step 2 of 2)')
        progress.tell('b', 'pulling python:3.11')
        progress.tell('b', '')
    assert err.getvalue() == 'a: building (step 1 of 2)\nb: pulling python:3.11\n'


def test_a_dumb_terminal_is_not_drawn_on(screen, clock, monkeypatch):
    monkeypatch.setenv('TERM', 'dumb')
    with PackingProgress(screen, clock) as progress:
        progress.tell('a', 'pulling x')
    assert screen.getvalue() == 'a: pulling x\n'


def test_a_terminal_that_has_gone_stops_nothing(clock):
    class Gone(Terminal):
        def write(self, text):
            raise OSError

    with PackingProgress(Gone(), clock) as progress:
        progress.tell('a', 'packaging')
        clock.now += 2
        progress.draw()
