import os
import threading
import time

import pytest
from tests.unit.launch.conftest import DEADLINE

from xmanager.launch import on_demand
from xmanager.launch.on_demand import look_after
from xmanager.launch.wake import is_supervised_elsewhere
from xmanager.store.presence import Presence


@pytest.fixture
def called(monkeypatch):
    """The experiments for which a supervisor was started. (Real ones: tests/acceptance/test_slurm.py.)"""
    called = []
    monkeypatch.setattr(on_demand, 'wake', lambda home, experiment_id: called.append(experiment_id))
    return called


@pytest.fixture
def presence(lab):
    presence = Presence(lab.experiment.folder)
    presence.let_come_on_demand(True)
    return presence


def look(lab):
    return look_after(lab.store, [lab.store.experiment(lab.experiment.id)])


def test_who_reads_waits_until_a_supervisor_has_looked(lab, called, presence):
    lab.add('running', backend='slurm')

    def supervisor():
        deadline = time.monotonic() + DEADLINE
        while not called:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        presence.tell_looked()

    thread = threading.Thread(target=supervisor)
    thread.start()
    assert look(lab)
    thread.join(DEADLINE)
    assert called == [lab.experiment.id]


def test_what_was_looked_at_a_moment_ago_is_not_looked_at_again(lab, called, presence):
    lab.add('running', backend='slurm')
    presence.tell_looked()
    assert not look(lab)
    assert called == []


def test_a_supervisor_that_does_not_tell_is_not_waited_for_for_long(
    lab, called, presence, monkeypatch
):
    monkeypatch.setattr(on_demand, '_PATIENCE', 0.01)
    lab.add('running', backend='slurm')
    presence.tell_looked()
    os.utime(lab.experiment.folder / 'looked', (1.0, 1.0))
    assert look(lab)
    assert called == [lab.experiment.id]


@pytest.mark.parametrize('why', ['has ended', 'is supervised', 'is not on demand', 'is not ours'])
def test_nobody_is_called_where_nobody_is_needed(lab, called, presence, why):
    unit = lab.add('running', backend='slurm')
    lock = None
    if why == 'has ended':
        lab.move(unit, 'completed')
    elif why == 'is supervised':
        lock = presence.supervise()
    elif why == 'is not on demand':
        presence.let_come_on_demand(False)
    else:
        lab.store.claim(lab.experiment.id, 'abc another-host /home', 30.0)
    assert not look(lab)
    assert called == []
    if lock is not None:
        lock.release()


def test_a_supervisor_of_another_host_is_known_by_its_lease(lab):
    id = lab.experiment.id
    assert not is_supervised_elsewhere(lab.store, id)
    lease = lab.store.claim(id, 'abc another-host /home', 30.0)
    assert is_supervised_elsewhere(lab.store, id)
    lab.store.release(lease)
    assert not is_supervised_elsewhere(lab.store, id)
    lab.store.claim(id, f'abc {os.uname().nodename} /home', 30.0)
    assert not is_supervised_elsewhere(lab.store, id)
