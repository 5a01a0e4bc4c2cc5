import pytest

from xmanager.store.presence import Presence
from xmanager.supervise.on_demand import OnDemand, is_needed
from xmanager.testing.store_fixtures import SettableClock


@pytest.fixture
def presence(tmp_path):
    presence = Presence(tmp_path)
    presence.let_come_on_demand(True)
    return presence


@pytest.fixture
def clock():
    return SettableClock(100.0)


@pytest.fixture
def on_demand(presence, clock):
    return OnDemand(presence, clock)


@pytest.fixture
def may_leave(on_demand, clock):
    """`may_leave(seconds, rests)`: whether it may so long after it began."""

    def ask(seconds, rests=True):
        clock.now = 100.0 + seconds
        return on_demand.may_leave(lambda: rests)

    return ask


def test_it_leaves_some_seconds_after_the_last_call(may_leave, on_demand):
    assert not may_leave(5)
    on_demand.called()
    assert not may_leave(14)
    assert may_leave(16)


def test_it_stays_while_there_is_something_to_do(may_leave):
    assert not may_leave(60, rests=False)
    assert may_leave(60)


def test_it_tells_that_it_has_looked_once_all_engines_had_time_to_answer(may_leave, presence):
    may_leave(0.5)
    assert presence.looked_at() == 0.0
    may_leave(1.5)
    assert presence.looked_at() > 0.0


def test_it_stays_where_it_was_not_told_to_come_on_demand(may_leave, presence):
    presence.let_come_on_demand(False)
    assert not may_leave(3600)
    assert presence.looked_at() == 0.0


# When nothing is left to do but to look again.


def test_units_that_wait_or_run_in_an_engine_of_its_own_may_be_left(cluster):
    cluster.add('wait 5 run 50')
    assert not cluster.supervisor.rests()
    cluster.settle()
    assert cluster.supervisor.rests()
    cluster.later(7)
    assert cluster.supervisor.rests()


def test_a_unit_that_was_not_taken_yet_may_not_be_left(cluster):
    cluster.backend.room = 1
    cluster.add('wait 5 run 50')
    cluster.add('wait 5 run 50')
    cluster.settle()
    assert not cluster.supervisor.rests()


def test_a_unit_that_was_asked_to_stop_may_not_be_left(cluster):
    unit = cluster.add('ignore-term')
    cluster.settle()
    cluster.store.request(cluster.experiment_id, [unit], 'stop', actor='test')
    assert not cluster.supervisor.rests()
    cluster.settle()
    assert not cluster.supervisor.rests()


def test_while_a_launcher_may_add_units_none_may_be_left(cluster):
    cluster.add('wait 5 run 50')
    cluster.settle()
    launching = Presence(cluster.store.home.experiment_folder(cluster.experiment_id)).launch()
    assert not cluster.supervisor.rests()
    launching.release()
    assert cluster.supervisor.rests()


def test_local_units_may_not_be_left(world):
    world.add('run 50')
    world.settle()
    assert not world.supervisor.rests()


def test_a_unit_that_came_while_a_supervisor_was_leaving_needs_another_one(cluster):
    presence = Presence(cluster.store.home.experiment_folder(cluster.experiment_id))
    cluster.add('wait 5 run 50')
    cluster.settle()
    assert cluster.supervisor.rests()
    assert not is_needed(cluster.store, cluster.experiment_id, presence)
    cluster.add('wait 5 run 50')
    assert is_needed(cluster.store, cluster.experiment_id, presence)
    cluster.settle()
    cluster.store.request(cluster.experiment_id, None, 'stop', actor='somebody')
    assert is_needed(cluster.store, cluster.experiment_id, presence)
