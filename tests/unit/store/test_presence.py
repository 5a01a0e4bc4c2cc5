"""The locks are the kernel's and hold between processes; so other processes hold them here."""

import os
import select
import subprocess
import sys
import threading
import warnings

import pytest

from xmanager.store.presence import Presence

HOLDER = """
import sys
from pathlib import Path
from xmanager.store.presence import Presence

lock = getattr(Presence(Path(sys.argv[1])), sys.argv[2])()
print('none' if lock is None else 'held', flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that takes a lock, and keeps it until it ends."""

    def __init__(self, folder, verb):
        self.process = subprocess.Popen(
            [sys.executable, '-c', HOLDER, str(folder), verb],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.answer = self.process.stdout.readline().strip()

    def leave(self):
        self.process.communicate()

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def presence(tmp_path):
    return Presence(tmp_path)


@pytest.fixture
def holder(tmp_path):
    holders = []

    def start(verb):
        holders.append(Holder(tmp_path, verb))
        return holders[-1]

    yield start
    for each in holders:
        if each.process.returncode is None:
            each.kill()


@pytest.fixture
def pipe(presence):
    descriptor = presence.open_wake_pipe()
    yield descriptor
    os.close(descriptor)


def is_readable(descriptor):
    return bool(select.select([descriptor], [], [], 0)[0])


def test_there_is_one_supervisor_among_all_processes(presence, holder):
    other = holder('supervise')
    assert other.answer == 'held'
    assert presence.supervise() is None
    assert presence.is_supervised()
    assert holder('supervise').answer == 'none'


def test_there_is_one_supervisor_within_a_process_too(presence):
    lock = presence.supervise()
    assert presence.supervise() is None
    assert presence.is_supervised()
    lock.release()
    assert not presence.is_supervised()
    presence.supervise().release()


@pytest.mark.parametrize('ending', ['leave', 'kill'])
def test_the_lock_of_a_supervisor_ends_with_its_process(presence, holder, ending):
    getattr(holder('supervise'), ending)()
    assert not presence.is_supervised()
    lock = presence.supervise()
    assert lock is not None
    lock.release()


def test_a_program_that_the_supervisor_starts_does_not_inherit_its_lock(presence):
    lock = presence.supervise()
    with subprocess.Popen(['cat'], stdin=subprocess.PIPE, close_fds=False):
        lock.release()
        assert not presence.is_supervised()


@pytest.fixture
def forked():
    """Forks a child that runs a function and stays until the end of the test; returns what it has answered."""
    children = []

    def fork(function):
        answers, tell = os.pipe()
        stay, leave = os.pipe()
        with warnings.catch_warnings():
            # pytest-xdist has threads; this child needs none of their locks.
            warnings.simplefilter('ignore', DeprecationWarning)
            child = os.fork()
        if child == 0:
            os.close(leave)
            os.write(tell, b'%d' % bool(function()))
            os.read(stay, 1)
            os._exit(0)
        os.close(tell)
        os.close(stay)
        children.append((child, leave))
        with open(answers, 'rb', buffering=0) as file:
            return file.read(1) == b'1'

    yield fork
    for child, leave in children:
        os.close(leave)
        os.waitpid(child, 0)


@pytest.mark.parametrize('verb', ['supervise', 'launch'])
def test_a_lock_ends_with_its_release_though_a_forked_child_lives(presence, forked, verb):
    lock = getattr(presence, verb)()
    forked(lambda: True)
    lock.release()
    assert not presence.is_supervised()
    assert not presence.is_launching()


def test_a_forked_child_neither_holds_nor_ends_the_lock_of_its_parent(presence, forked):
    lock = presence.launch()
    assert forked(lambda: lock.release() or presence.is_launching())
    assert presence.is_launching()
    lock.release()


def test_a_lock_ends_with_its_process_though_a_forked_child_lives(presence):
    script = """
import os, sys
from pathlib import Path
from xmanager.store.presence import Presence

lock = Presence(Path(sys.argv[1])).launch()
if os.fork() == 0:
    print('forked', flush=True)
    sys.stdin.read()
    os._exit(0)
"""
    with subprocess.Popen(
        [sys.executable, '-c', script, str(presence.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b'forked\n'
        assert process.wait(60) == 0
        assert not presence.is_launching()
        process.stdin.close()


def test_releasing_again_does_not_close_what_others_opened(presence):
    lock = presence.supervise()
    lock.release()
    other = presence.supervise()
    lock.release()
    assert presence.is_supervised()
    other.release()


def test_launchers_hold_their_lock_in_common(presence, holder):
    first, second = holder('launch'), holder('launch')
    assert (first.answer, second.answer) == ('held', 'held')
    first.leave()
    assert presence.is_launching()
    second.kill()
    assert not presence.is_launching()


def test_launchers_and_supervisors_do_not_hinder_each_other(presence, holder):
    assert holder('launch').answer == 'held'
    assert not presence.is_supervised()
    assert holder('supervise').answer == 'held'
    presence.launch().release()


def test_looking_at_an_experiment_that_nobody_touched_makes_no_file(presence, tmp_path):
    assert not presence.is_supervised()
    assert not presence.is_launching()
    assert presence.wake() is False
    assert list(tmp_path.iterdir()) == []


def test_files_of_presence_are_for_their_user_alone(presence, pipe, tmp_path):
    presence.supervise().release()
    presence.launch().release()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_call_wakes_the_supervisor(presence, pipe):
    assert not is_readable(pipe)
    assert presence.wake() is True
    assert is_readable(pipe)
    os.read(pipe, 100)
    assert not is_readable(pipe)


def test_a_sleeping_supervisor_is_woken_from_another_thread(presence, pipe):
    caller = threading.Thread(target=presence.wake)
    caller.start()
    assert select.select([pipe], [], [], 60)[0] == [pipe]
    caller.join()


def test_many_calls_do_not_block_and_wake_all_the_same(presence, pipe):
    calls = 0
    while calls < 100_000:  # A pipe of Linux holds 65,536 bytes.
        assert presence.wake() is True
        calls += 1
    assert is_readable(pipe)


def test_a_call_is_kept_for_a_supervisor_that_is_busy(presence, pipe):
    presence.wake()
    presence.wake()
    assert os.read(pipe, 100) == b'..'


def test_without_a_listener_nobody_is_woken(presence):
    os.close(presence.open_wake_pipe())
    assert presence.wake() is False


def test_the_next_supervisor_opens_the_same_pipe(presence, pipe):
    second = presence.open_wake_pipe()
    os.close(second)
    assert presence.wake() is True
    assert is_readable(pipe)
