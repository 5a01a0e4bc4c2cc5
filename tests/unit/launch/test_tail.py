import os

import pytest

from xmanager.launch import tail as module
from xmanager.launch.tail import LogTail, last_lines, refresh


class Log:
    """A log that a job writes, and the tail that reads it."""

    def __init__(self, path):
        self.path = path
        self.tail = LogTail(path, b'[1] ')

    def write(self, data):
        with self.path.open('ab') as file:
            file.write(data)

    def read(self, rest=False):
        return b''.join(self.tail.read(rest=rest))


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / 'output.log')


def test_whole_lines_are_read_as_they_come_and_each_once(log):
    log.write(b'one\ntwo\n')
    assert log.read() == b'[1] one\n[1] two\n'
    assert log.read() == b''
    log.write(b'three\n')
    assert log.read() == b'[1] three\n'


def test_a_line_is_shown_when_it_is_whole(log):
    log.write(b'one\ntw')
    assert log.read() == b'[1] one\n'
    log.write(b'o')
    assert log.read() == b''
    log.write(b'\n')
    assert log.read() == b'[1] two\n'


def test_a_last_line_without_newline_is_shown_at_the_end(log):
    log.write(b'one\ntwo')
    assert log.read(rest=True) == b'[1] one\n[1] two\n'
    assert log.read(rest=True) == b''


def test_bytes_of_any_kind_pass_unchanged(log):
    data = bytes(byte for byte in range(256) if byte != 10)
    log.write(data + b'\n')
    assert log.read() == b'[1] ' + data + b'\n'


def test_empty_lines_are_lines(log):
    log.write(b'\n\n')
    assert log.read() == b'[1] \n[1] \n'


def test_a_character_that_is_written_in_two_parts_is_whole(log):
    first, second = '☃'.encode()[:1], '☃'.encode()[1:]
    log.write(first)
    assert log.read() == b''
    log.write(second + b'\n')
    assert log.read() == '[1] ☃\n'.encode()


def test_a_log_that_is_not_there_yet_is_waited_for(log):
    assert log.read() == b''
    assert log.read(rest=True) == b''
    log.write(b'late\n')
    assert log.read() == b'[1] late\n'


def test_a_log_that_can_not_be_read_has_no_lines(tmp_path):
    (tmp_path / 'file').touch()
    assert list(LogTail(tmp_path / 'file' / 'output.log', b'').read(rest=True)) == []
    assert list(LogTail(tmp_path, b'').read(rest=True)) == []


def test_a_very_long_line_is_shown_in_parts(log, monkeypatch):
    monkeypatch.setattr(module, '_CHUNK', 8)
    monkeypatch.setattr(module, '_LONGEST', 10)
    log.write(b'x' * 40 + b'end\nshort\n')
    lines = log.read().splitlines()
    assert all(line.startswith(b'[1] ') for line in lines)
    assert lines[-1] == b'[1] short'
    parts = [line.removeprefix(b'[1] ') for line in lines[:-1]]
    assert len(parts) > 1
    assert b''.join(parts) == b'x' * 40 + b'end'


def test_a_turn_ends_after_a_while_and_the_next_goes_on(log, monkeypatch):
    monkeypatch.setattr(module, '_CHUNK', 8)
    monkeypatch.setattr(module, '_TURN', 16)
    lines = [b'%06d' % number for number in range(100)]
    log.write(b''.join(line + b'\n' for line in lines))
    first = log.read()
    assert 0 < first.count(b'\n') <= 3
    shown = (first + log.read() + log.read(rest=True)).splitlines()
    assert shown == [b'[1] ' + line for line in lines]


def test_a_log_that_was_truncated_is_read_from_its_new_beginning(log):
    log.write(b'a long line of the first\n')
    log.read()
    os.truncate(log.path, 0)
    assert log.read() == b''
    log.write(b'second\n')
    assert log.read() == b'[1] second\n'


def test_a_log_that_was_deleted_and_written_anew_is_read_from_its_beginning(log):
    log.write(b'first\n')
    log.read()
    log.path.unlink()
    assert log.read() == b''
    log.write(b'again\n')
    assert log.read() == b'[1] again\n'


def test_the_log_of_the_next_attempt_is_read_however_long_it_is_already(log):
    log.write(b'first\n')
    log.read()
    log.path.rename(log.path.with_name('output.1.log'))
    log.write(b'the second attempt\nhas written more\n')
    assert log.read() == b'[1] the second attempt\n[1] has written more\n'


def test_a_line_that_was_begun_in_an_earlier_log_is_not_mixed_with_the_next(log):
    log.write(b'begun, but')
    log.read()
    log.path.rename(log.path.with_name('output.1.log'))
    log.write(b'new\n')
    assert log.read() == b'[1] begun, but\n[1] new\n'


def test_the_last_lines_of_a_log(log):
    log.write(b'1\n2\n3\n4')
    assert last_lines(log.path, 2) == ['3', '4']
    assert last_lines(log.path, 9) == ['1', '2', '3', '4']


def test_the_last_lines_of_a_large_log_are_read_without_the_rest(log):
    log.write(b'x' * 100_000 + b'\nlast\n')
    assert last_lines(log.path, 5)[-1] == 'last'
    assert len(''.join(last_lines(log.path, 5))) < 2000


def test_the_last_lines_show_what_is_no_text_somehow(log):
    log.write(b'caf\xe9\n')
    assert last_lines(log.path, 1) == ['caf�']


def test_a_log_that_is_not_there_has_no_last_lines(log):
    assert last_lines(log.path, 5) == []


def test_a_log_that_is_no_file_or_is_gone_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    refresh(tmp_path / 'pipe')
    refresh(tmp_path / 'none')
