"""What containers print is taken apart and kept byte for byte, also by one who comes after a killed one."""

import os

import pytest

from xmanager.containers.frames import Log, split


def frame(stream, data):
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, 'big') + data


@pytest.fixture
def make_log(tmp_path):
    def make():
        descriptor = os.open(tmp_path / 'log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return Log(descriptor, str(tmp_path / 'progress'))

    return make


@pytest.mark.parametrize('size', [1, 3, 8, 9, 1000])
def test_frames_are_found_however_they_are_cut(size):
    stream = frame(1, b'out') + frame(2, b'error\n') + frame(1, b'') + frame(1, b'\xff\0')
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    parts = list(split(pieces, raw=False))
    assert b''.join(data for number, data in parts if number == 1) == b'out\xff\0'
    assert b''.join(data for number, data in parts if number == 2) == b'error\n'


def test_what_broke_off_is_given_as_far_as_it_came():
    assert list(split([frame(1, b'whole'), frame(2, b'half')[:10]], raw=False)) == [
        (1, b'whole'),
        (2, b'ha'),
    ]


def test_a_terminal_has_no_frames():
    assert list(split([b'a\r\n', b'', b'b'], raw=True)) == [(1, b'a\r\n'), (1, b'b')]


def test_a_successor_knows_what_was_written_of_each_stream(make_log, tmp_path):
    log = make_log()
    log.write(1, b'one\n')
    log.write(2, b'two\n')
    log.write(1, b'three\n')
    assert make_log().written == {1: 10, 2: 4}
    # Killed after half of a write:
    with (tmp_path / 'log').open('ab') as file:
        os.pwrite(os.open(tmp_path / 'progress', os.O_WRONLY), b'10 4 14 2' + b' ' * 80, 0)
        file.write(b'fo')
    assert make_log().written == {1: 10, 2: 6}


def test_a_successor_appends_only_what_is_missing(make_log, tmp_path):
    log = make_log()
    log.write(1, b'one\n')
    log.write(2, b'err')
    successor = make_log()
    # The engine kept the streams in another order.
    successor.append_rest([(2, b'error\n'), (1, b'one\n'), (1, b'two\n')])
    assert (tmp_path / 'log').read_bytes() == b'one\nerror\ntwo\n'


def test_the_newline_that_an_engine_adds_at_the_end_is_left_out(make_log, tmp_path):
    log = make_log()
    log.write(1, b'no newline')
    make_log().append_rest([(1, b'no newline\n')])
    assert (tmp_path / 'log').read_bytes() == b'no newline'


def test_what_a_full_disk_does_not_take_is_counted(make_log, tmp_path):
    log = Log(os.open('/dev/full', os.O_WRONLY), str(tmp_path / 'progress'))
    log.write(1, b'lost')
    assert (log.lost, log.trouble) == (4, 'No space left on device')
