"""Manifests and records are read as far as they go, whatever is in them."""

import pytest

from xmanager.backends.slurm.batch import read_manifest
from xmanager.backends.slurm.node.element import Begun, End, read_begun, read_end

WHOLE = 'exited 3\nat 1700000000.5\ntimes\n0m0.01s 0m0.02s\n1m2.50s 0m0.25s\n'


@pytest.mark.parametrize(
    'data', [b'', b'{', b'[]', b'{}', b'null', b'{"format": 2}', b'{"format": 1, "id": "b"}']
)
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(ValueError, match=r'manifest|format|Expecting'):
        read_manifest(data)


def test_a_beginning_is_read():
    assert read_begun(b'job 4711\nnode n1,n2\nat 1700000000.25\n') == Begun(
        '4711', 'n1,n2', 1700000000.25
    )


@pytest.mark.parametrize(
    'data', [b'', b'job 4711\n', b'job 4711\nnode n1\nat 17000', b'\xff\xfe\n']
)
def test_a_beginning_that_is_half_written_is_none(data):
    assert read_begun(data) is None


@pytest.mark.parametrize(
    'data', [b'', b'exited 3', b'at 1\n', b'exited x\n', b'refused for it\n', b'\xff\n']
)
def test_an_end_that_is_half_written_is_none(data):
    assert read_end(data) is None


def test_an_end_tells_code_time_and_what_the_program_used():
    assert read_end(WHOLE.encode()) == End(
        exit_code=3, at=1700000000.5, user_seconds=62.5, system_seconds=0.25
    )


@pytest.mark.parametrize(
    ('code', 'ending'),
    [
        (0, (0, None)),
        (127, (127, None)),
        (128, (128, None)),
        (137, (None, 9)),
        (143, (None, 15)),
        (255, (255, None)),
    ],
)
def test_a_shells_code_is_an_exit_code_or_a_signal(code, ending):
    end = read_end(f'exited {code}\n'.encode())
    assert end is not None
    assert (end.exit_code, end.signal) == ending


def test_marks_and_reasons_are_read():
    end = read_end(b'refused no room\nexited 126\nat 5.%N\ntimed out\nwarned\nterminated\ntimes\n')
    assert end == End(126, at=5.0, timed_out=True, warned=True, terminated=True, refused='no room')


def section(number, code, at, *marks):
    told = ''.join(f'{mark}\n' for mark in marks)
    return f'replica {number}\nexited {code}\nat {at}\n{told}times\n0m0s 0m0s\n0m1.0s 0m0.5s\n'


def test_of_replicas_the_one_that_failed_first_by_itself_is_told():
    text = WHOLE.replace('exited 3', 'exited 143')
    text += section(0, 143, 8, 'terminated') + section(1, 7, 10) + section(2, 9, 11)
    assert read_end(text.encode()) == End(
        exit_code=7, at=1700000000.5, user_seconds=3.0, system_seconds=1.5, replica=1
    )


def test_replicas_that_all_ended_well_are_one_end():
    text = 'exited 0\nat 5\ntimes\n' + section(0, 0, 1) + section(1, 0, 2)
    assert read_end(text.encode()) == End(exit_code=0, at=5.0, user_seconds=2.0, system_seconds=1.0)


def test_a_replica_of_which_nothing_is_known_leaves_what_srun_said():
    end = read_end(b'exited 137\nat 5\nterminated\ntimes\nreplica 0\nexited 0\n')
    assert end is not None
    assert (end.signal, end.terminated, end.replica) == (9, True, None)


def test_a_timeout_of_one_replica_is_one_of_the_job():
    text = (
        'exited 143\nat 5\ntimes\n'
        + section(0, 143, 1, 'terminated')
        + section(1, 143, 2, 'timed out')
    )
    end = read_end(text.encode())
    assert end is not None
    assert (end.signal, end.timed_out, end.terminated, end.replica) == (15, True, False, 1)


def test_replicas_that_left_no_record_were_killed_whatever_srun_says():
    text = 'exited 0\nat 5\nterminated\ntimes\nreplicas 2\n' + section(0, 0, 1)
    end = read_end(text.encode())
    assert end is not None
    assert (end.exit_code, end.signal, end.terminated) == (None, 9, True)
