"""Processes are found by mark, session and descent, and named so that no other is ever signalled."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from xmanager.backends.local.processes import (
    Owner,
    Process,
    Session,
    members,
    read_mark,
    read_process,
    read_start,
    scan_processes,
)
from xmanager.backends.local.signals import Watch, send

TRAIN, OTHER = Owner('h.1.1.1', 'train'), Owner('h.1.2.1', 'train')
ALWAYS = float('inf')


def process(pid, parent=1, session=1, mark=None, start=50):
    return Process(pid, start, parent, session, session, mark)


@pytest.fixture
def sleeper():
    child = subprocess.Popen(
        ['/bin/sleep', '1000'],
        env={'A': '1', 'XM_KEY': TRAIN.key, 'XM_JOB_NAME': TRAIN.job},
    )
    yield child
    child.kill()
    child.wait()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- whose is it


def test_a_mark_counts_wherever_the_process_went():
    found = members([process(7, session=7, mark=TRAIN), process(8, mark=OTHER), process(9)], {})
    assert {owner: [p.pid for p in mine] for owner, mine in found.items()} == {
        TRAIN: [7],
        OTHER: [8],
    }


def test_the_runners_session_counts_without_a_mark():
    found = members([process(7, session=5), process(8, session=6)], {5: Session(TRAIN, 50, ALWAYS)})
    assert [p.pid for p in found[TRAIN]] == [7]


def test_a_session_counts_only_while_its_number_was_the_runners():
    session = Session(TRAIN, begin=50, end=60)
    processes = [process(pid, session=5, start=start) for pid, start in ((7, 49), (8, 60), (9, 61))]
    assert [p.pid for p in members(processes, {5: session})[TRAIN]] == [8]


def test_children_count_when_they_wiped_their_environment():
    processes = [
        process(9, parent=8, session=9),
        process(8, parent=7, session=8),
        process(7, mark=TRAIN),
    ]
    assert {p.pid for p in members(processes, {})[TRAIN]} == {7, 8, 9}


def test_a_mark_of_its_own_sets_a_process_free_of_its_parent_and_its_session():
    processes = [
        process(7, session=5, mark=TRAIN),
        process(8, parent=7, session=5, mark=OTHER),
        process(9, parent=8, session=9),
    ]
    found = members(processes, {5: Session(TRAIN, 0, ALWAYS)})
    assert {owner: {p.pid for p in mine} for owner, mine in found.items()} == {
        TRAIN: {7},
        OTHER: {8, 9},
    }


def test_a_circle_of_parents_ends():
    # Numbers may be reused while the list is being read.
    assert members([process(7, parent=8), process(8, parent=7), process(9, parent=9)], {}) == {}


def test_this_process_is_never_counted():
    assert members([process(os.getpid(), mark=TRAIN)], {}) == {}


# --- reading /proc


def fake_process(root: Path, pid, stat, environ=b''):
    (root / str(pid)).mkdir()
    (root / str(pid) / 'stat').write_text(stat)
    (root / str(pid) / 'environ').write_bytes(environ)


def stat(pid, name='sh', state='S', parent=1, group=2, session=3, threads=1, start=77):
    # proc(5), from field 7 (tty_nr) to 19 (nice): nothing that is read here.
    between = ' '.join(['0'] * 13)
    return f'{pid} ({name}) {state} {parent} {group} {session} {between} {threads} 0 {start} 0 0'


def test_a_process_is_read_whatever_its_name(tmp_path):
    fake_process(tmp_path, 7, stat(7, name='a) S 9 (b'))
    assert read_process(7, tmp_path) == Process(7, 77, 1, 2, 3)


def test_an_ended_process_is_none_unless_only_its_first_thread_ended(tmp_path):
    fake_process(tmp_path, 7, stat(7, state='Z'))
    fake_process(tmp_path, 8, stat(8, state='Z', threads=3))
    assert read_process(7, tmp_path) is None
    assert read_start(7, tmp_path) == 77
    assert read_process(8, tmp_path) is not None
    assert read_process(9, tmp_path) is None


def test_marks_are_read_from_the_environment(tmp_path):
    for pid, environ in enumerate(
        [
            b'XM_KEY=k\0XM_JOB_NAME=j\0',
            b'A=b\0XM_KEY=k\0',
            b'NOT_XM_KEY=k\0A=XM_KEY=k\0',
            b'',
            b'XM_KEY=\xff\0XM_JOB_NAME=j',
        ]
    ):
        fake_process(tmp_path, pid + 1, stat(pid + 1), environ)
    assert [read_mark(pid, tmp_path) for pid in range(1, 6)] == [
        Owner('k', 'j'),
        Owner('k', ''),
        None,
        None,
        Owner('\udcff', 'j'),
    ]
    assert read_mark(99, tmp_path) is None


def test_a_scan_skips_what_is_older_and_what_is_no_process(tmp_path):
    fake_process(tmp_path, 7, stat(7, start=10))
    fake_process(tmp_path, 8, stat(8, start=20))
    (tmp_path / 'self').mkdir()
    (tmp_path / '9').mkdir()
    assert [p.pid for p in scan_processes(20, tmp_path)] == [8]
    assert sorted(p.pid for p in scan_processes(0, tmp_path)) == [7, 8]


def test_a_real_process_is_found_by_its_mark(sleeper):
    wait_for(lambda: read_mark(sleeper.pid) == TRAIN)
    (found,) = [p for p in scan_processes() if p.mark == TRAIN]
    assert found.pid == sleeper.pid
    assert found.parent == os.getpid()
    assert found.start == read_start(sleeper.pid)


# --- signals


def test_a_signal_reaches_the_process_it_is_meant_for(sleeper):
    target = read_process(sleeper.pid)
    assert target is not None
    assert send(target, signal.SIGTERM)
    assert sleeper.wait(20) == -signal.SIGTERM
    assert not send(target, signal.SIGTERM)


@pytest.mark.parametrize('pidfd', [True, False])
def test_a_reused_number_is_never_signalled(sleeper, pidfd, monkeypatch):
    if not pidfd:
        monkeypatch.setattr(
            os, 'pidfd_open', lambda pid: (_ for _ in ()).throw(OSError(38, 'ENOSYS'))
        )
    target = read_process(sleeper.pid)
    assert target is not None
    earlier = Process(target.pid, target.start - 1, 1, target.group, target.session)
    assert not send(earlier, signal.SIGKILL)
    assert send(target, 0)
    assert sleeper.poll() is None


@pytest.mark.parametrize('pidfd', [True, False])
def test_a_watch_tells_once_who_has_ended(sleeper, pidfd, monkeypatch):
    if not pidfd:
        monkeypatch.setattr(
            os, 'pidfd_open', lambda pid: (_ for _ in ()).throw(OSError(38, 'ENOSYS'))
        )
    watch = Watch()
    watch.add(sleeper.pid, read_start(sleeper.pid))
    watch.add(os.getpid(), read_start(os.getpid()))
    assert watch.ended() == set()
    sleeper.kill()
    found: set[int] = set()
    wait_for(lambda: found.__ior__(watch.ended()))
    assert found == {sleeper.pid}
    assert watch.ended() == set()
    assert len(watch) == 1


def test_a_process_that_just_begins_is_marked_or_known_to_be_nascent():
    for number in range(20):
        key = f'begins.{os.getpid()}.{number}'
        pid = os.posix_spawn('/bin/sleep', ['sleep', '1000'], {'XM_KEY': key}, setsid=True)
        try:
            (process,) = [p for p in scan_processes() if p.pid == pid]
            assert process.nascent or process.mark == Owner(key, '')
            wait_for(lambda key=key: key in {p.mark.key for p in scan_processes() if p.mark})
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_a_process_without_environment_is_not_nascent():
    pid = os.posix_spawn('/bin/sleep', ['sleep', '1000'], {}, setsid=True)
    try:
        wait_for(lambda: not any(p.nascent for p in scan_processes() if p.pid == pid))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
