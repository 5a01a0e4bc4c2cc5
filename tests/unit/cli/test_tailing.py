import io
import os

import pytest

from xmanager.cli import tailing
from xmanager.cli.tailing import Follower, Prefixer, tail_offset


def tail(content: bytes, count: int) -> bytes:
    return content[tail_offset(io.BytesIO(content), count) :]


@pytest.mark.parametrize(
    ('content', 'count', 'last'),
    [
        (b'', 3, b''),
        (b'a\nb\nc\n', 0, b''),
        (b'a\nb\nc\n', 1, b'c\n'),
        (b'a\nb\nc', 1, b'c'),
        (b'a\nb\nc\n', 2, b'b\nc\n'),
        (b'a\nb\nc\n', 3, b'a\nb\nc\n'),
        (b'a\nb\nc\n', 9, b'a\nb\nc\n'),
        (b'\n\n\n', 2, b'\n\n'),
        (b'\xff\n\x00\xfe', 1, b'\x00\xfe'),
    ],
)
@pytest.mark.parametrize('chunk', [1, 2, 3, 1024])
def test_the_tail_is_the_last_lines(content, count, last, chunk, monkeypatch):
    monkeypatch.setattr(tailing, '_CHUNK', chunk)
    assert tail(content, count) == last


def test_the_tail_of_a_huge_file_is_read_from_its_end(tmp_path):
    path = tmp_path / 'huge.log'
    with path.open('wb') as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b'\nthe end\n')
    with path.open('rb') as file:
        file.seek(tail_offset(file, 1))
        assert file.read() == b'the end\n'


@pytest.fixture
def log(tmp_path):
    return tmp_path / 'output.log'


def append(path, content: bytes) -> None:
    with path.open('ab') as file:
        file.write(content)


def read(follower) -> bytes:
    return b''.join(follower.read())


def test_a_follower_waits_for_a_file_and_reads_what_comes(log):
    follower = Follower(log)
    assert read(follower) == b''
    append(log, b'one\xff')
    assert read(follower) == b'one\xff'
    append(log, b'two')
    assert read(follower) == b'two'
    follower.close()


def test_a_follower_begins_at_the_tail_of_what_is_there(log):
    append(log, b'1\n2\n3\n')
    follower = Follower(log, tail=1)
    assert read(follower) == b'3\n'
    append(log, b'4\n')
    assert read(follower) == b'4\n'
    follower.close()


def test_a_closed_follower_goes_on_where_it_ended_unless_the_file_is_another(log):
    append(log, b'one ')
    follower = Follower(log)
    assert read(follower) == b'one '
    follower.close()
    append(log, b'two ')
    assert read(follower) == b'two '
    follower.close()
    log.rename(log.with_name('output.1.log'))
    append(log, b'another')
    assert read(follower) == b'another'
    follower.close()


def test_a_follower_begins_anew_when_the_file_is_truncated(log):
    append(log, b'a long line\n')
    follower = Follower(log, tail=1)
    read(follower)
    log.write_bytes(b'short\n')
    assert read(follower) == b'short\n'
    follower.close()


def test_a_follower_reads_on_when_the_file_is_deleted_and_takes_up_the_new_one(log):
    with log.open('wb', buffering=0) as writer:
        follower = Follower(log)
        writer.write(b'before ')
        assert read(follower) == b'before '
        log.unlink()
        writer.write(b'after ')
        assert read(follower) == b'after '
        writer.write(b'last ')
    append(log, b'new')
    assert read(follower) == b'last new'
    follower.close()


def test_prefixed_lines_are_whole():
    prefixer = Prefixer(b'[1 a] ')
    assert prefixer.lines(b'one\ntw') == b'[1 a] one\n'
    assert prefixer.lines(b'o') == b''
    assert prefixer.lines(b'\n\nthr') == b'[1 a] two\n[1 a] \n'
    assert prefixer.rest() == b'[1 a] thr\n'
    assert prefixer.rest() == b''


def test_progress_bars_are_shown_while_they_go_on():
    prefixer = Prefixer(b'> ')
    assert prefixer.lines(b'10%\r20%\r') == b'> 10%\r'
    assert prefixer.lines(b'30%\r\ndone\n') == b'> 20%\r> 30%\r\n> done\n'
