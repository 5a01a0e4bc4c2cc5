"""A status file is read as far as it goes, whatever is in it."""

import os

import pytest

from xmanager.runner.record import Ending, read_record


@pytest.fixture
def status(tmp_path):
    return tmp_path / 'status'


def test_a_start_without_an_end(status):
    status.write_text('started 3 1234\n')
    os.utime(status, (5, 5))
    record = read_record(status)
    assert record is not None
    assert (record.attempt, record.pid, record.written_at, record.ending) == (3, 1234, 5.0, None)


@pytest.mark.parametrize(
    ('code', 'ending'),
    [
        (0, Ending(exit_code=0)),
        (127, Ending(exit_code=127)),
        (128, Ending(exit_code=128)),
        (137, Ending(signal=9)),
        (143, Ending(signal=15)),
        (255, Ending(exit_code=255)),
    ],
)
def test_an_end_by_exit_code_or_signal(status, code, ending):
    status.write_text(f'started 1 1234\nexited {code}\n')
    record = read_record(status)
    assert record is not None
    assert record.ending == ending


def test_a_line_that_is_still_being_written_does_not_count(status):
    status.write_text('started 1 1234\nexited 1')
    record = read_record(status)
    assert record is not None
    assert record.ending is None
    status.write_text('started 1 12')
    assert read_record(status) is None


@pytest.mark.parametrize(
    'content', [b'', b'\n', b'\xff\xfe\0', b'started x y\n', b'exited 0\n', b'started 1\n']
)
def test_what_no_runner_wrote_is_no_record(status, content):
    status.write_bytes(content)
    assert read_record(status) is None


def test_no_file_is_no_record(status):
    assert read_record(status) is None
