"""Real supervisors, of experiments that have nothing to do or whose supervisor can't even begin."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xmanager.errors import StoreError
from xmanager.launch.wake import Guard, wake
from xmanager.store.presence import Presence
from xmanager.testing.store_fixtures import a_task, a_unit, add


@pytest.fixture
def presence(lab):
    return Presence(lab.experiment.folder)


@pytest.fixture
def started(monkeypatch):
    """The supervisors that this test has started; they have ended when it ends."""
    started: dict[Path, subprocess.Popen[bytes]] = {}
    monkeypatch.setattr(sys.modules[wake.__module__], '_started', started)
    yield started
    for process in started.values():
        process.kill()
        process.wait()


def until(condition, seconds=60.0):
    """Waits for the condition, not for a time."""
    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest, 'not in time'
        time.sleep(0.01)


def test_without_a_supervisor_one_is_started_and_does_what_was_written(lab, started):
    [unit] = add(lab.store, lab.experiment, a_unit(tasks=(a_task(argv=('/bin/true',)),)))
    wake(lab.home, lab.experiment.id)
    until(lambda: not lab.store.unit(unit.id).is_active)
    assert lab.store.unit(unit.id).state == 'completed'
    [process] = started.values()
    assert process.wait(60) == 0


def test_one_that_is_starting_or_at_work_is_not_joined_by_a_second(lab, presence, started):
    lock = presence.launch()  # Keeps the supervisor.
    wake(lab.home, lab.experiment.id)
    [process] = started.values()
    wake(lab.home, lab.experiment.id)
    until(presence.is_supervised)
    wake(lab.home, lab.experiment.id)
    assert [*started.values()] == [process]
    lock.release()
    wake(lab.home, lab.experiment.id)
    assert process.wait(60) == 0


def test_one_that_was_killed_is_replaced(lab, presence, started):
    lock = presence.launch()
    wake(lab.home, lab.experiment.id)
    until(presence.is_supervised)
    [first] = started.values()
    first.kill()
    first.wait()
    wake(lab.home, lab.experiment.id)
    [second] = started.values()
    assert second is not first
    until(presence.is_supervised)
    lock.release()


def test_a_supervisor_of_another_process_is_woken_by_its_pipe(lab, presence, started):
    lock, pipe = presence.supervise(), presence.open_wake_pipe()
    wake(lab.home, lab.experiment.id)
    assert os.read(pipe, 10) == b'.'
    assert not started
    lock.release()
    os.close(pipe)


def test_a_supervisor_has_a_session_of_its_own_and_nothing_of_the_job_it_was_started_in(
    lab, presence, started, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XM_JOB_NAME', 'launcher')
    monkeypatch.setenv('XM_OUTPUT_DIR', '/out')
    monkeypatch.setenv('XM_KEY', 'of the job')
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'cpu=1')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(['lib', '/abs']))
    lock = presence.launch()
    wake(lab.home, lab.experiment.id)
    until(presence.is_supervised)
    [process] = started.values()
    environ = environ_of(process.pid)
    assert os.getsid(process.pid) == process.pid
    assert not {'XM_JOB_NAME', 'XM_OUTPUT_DIR'} & environ.keys()
    assert environ['XM_HOME'] == str(lab.home.path)
    assert environ['XM_KEY'] == 'supervisor'
    assert environ['XM_LOCAL_RESOURCES'] == 'cpu=1'
    assert environ['PYTHONPATH'] == os.pathsep.join([str(tmp_path / 'lib'), '/abs'])
    lock.release()


def environ_of(pid):
    text = Path(f'/proc/{pid}/environ').read_bytes().decode().rstrip('\0')
    return dict(line.split('=', 1) for line in text.split('\0'))


def test_what_a_supervisor_complains_of_is_in_its_log(lab, started):
    (lab.home.path / 'xmanager.db').write_bytes(b'not a database')
    wake(lab.home, lab.experiment.id)
    log = lab.experiment.folder / 'supervisor.log'
    until(lambda: log.exists() and log.read_text())


def test_a_guard_lets_a_living_supervisor_be(lab, presence, started):
    lock = presence.supervise()
    guard = Guard(lab.home, lab.experiment.id)
    for _ in range(20):
        guard.look()
    assert not started
    lock.release()


def test_a_guard_replaces_a_supervisor_that_was_killed(lab, presence, started):
    lock = presence.launch()
    wake(lab.home, lab.experiment.id)
    until(presence.is_supervised)
    [first] = started.values()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    Guard(lab.home, lab.experiment.id).look()
    until(presence.is_supervised)
    lock.release()


def test_a_guard_gives_up_when_each_one_ends_at_once(lab, started, monkeypatch):
    monkeypatch.setattr(sys, 'executable', '/bin/false')
    guard = Guard(lab.home, lab.experiment.id)
    for _ in range(5):
        guard.look()
        [process] = started.values()
        process.wait()
    with pytest.raises(StoreError, match='has ended 5 times') as caught:
        guard.look()
    assert f'xmanager supervise {lab.experiment.id}' in str(caught.value)
    assert str(lab.experiment.folder / 'supervisor.log') in str(caught.value)


def test_a_guard_is_patient_with_one_that_starts_slowly(lab, started, tmp_path, monkeypatch):
    slow = tmp_path / 'slow-python'
    slow.write_text('#!/bin/sh\nexec sleep 1000\n')
    slow.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(slow))
    guard = Guard(lab.home, lab.experiment.id)
    for _ in range(20):
        guard.look()
    assert len(started) == 1


def test_an_experiment_of_another_machine_is_not_supervised_here(lab, started):
    lab.experiment.folder.rmdir()
    with pytest.raises(StoreError, match='was launched on another machine or from another home'):
        wake(lab.home, lab.experiment.id)
    with pytest.raises(StoreError, match='was launched on another machine or from another home'):
        Guard(lab.home, lab.experiment.id).look()
    lab.home.database.rename(lab.home.path / 'on a server')
    Guard(lab.home, lab.experiment.id).look()
    assert not lab.experiment.folder.exists()
