from __future__ import annotations

from xmanager.errors import UnreachableError
from xmanager.store.presence import Presence

from .conftest import World


def states_passed(world: World, unit_id: int) -> list[str]:
    return [event.to_state for event in world.store.events(unit_id=unit_id)]


def test_units_that_were_added_together_are_handed_over_in_one_call(cluster: World):
    units = [cluster.add('wait 5 exit 0') for _ in range(300)]
    cluster.settle()
    assert cluster.engine.submissions == [300]
    assert {cluster.unit(id).state for id in units} == {'starting'}


def test_while_units_are_being_added_their_engine_is_not_called(cluster: World):
    launching = Presence(cluster.store.home.experiment_folder(cluster.experiment_id)).launch()
    assert launching is not None
    for _ in range(5):
        cluster.add('wait 5 exit 0')
        cluster.later(0.06)
    assert cluster.engine.submissions == []
    assert 0 < cluster.supervisor.patience() < 0.11
    cluster.later(0.11)
    assert cluster.engine.submissions == [5]
    launching.release()


def test_a_script_that_adds_on_and_on_does_not_hold_up_what_it_added(cluster: World):
    launching = Presence(cluster.store.home.experiment_folder(cluster.experiment_id)).launch()
    assert launching is not None
    for _ in range(30):
        cluster.add('wait 5 exit 0')
        cluster.later(0.05)
    assert cluster.engine.submissions
    launching.release()


def test_a_unit_waits_in_its_engine_then_runs_there_then_ends(cluster: World):
    unit = cluster.add('wait 5 run 5')
    cluster.settle()
    waiting = cluster.unit(unit)
    assert (waiting.state, waiting.message, waiting.reference) == (
        'starting',
        'waits: Priority',
        'fake-1',
    )
    cluster.later(7)
    running = cluster.unit(unit)
    assert (running.state, running.message) == ('running', 'on machine')
    assert running.started_at == 1005.0
    cluster.later(5)
    assert cluster.unit(unit).state == 'completed'
    assert states_passed(cluster, unit) == ['queued', 'starting', 'running', 'completed']


def test_a_unit_that_waits_in_its_engine_can_be_stopped(cluster: World):
    unit = cluster.add('wait 50 run 5')
    cluster.settle()
    cluster.store.request(cluster.experiment_id, None, 'stop', message='enough', actor='somebody')
    cluster.settle()
    assert (cluster.unit(unit).state, cluster.unit(unit).message) == ('stopped', 'enough')


def test_what_the_engine_takes_not_now_is_queued_and_tried_again_little_by_little(cluster: World):
    cluster.backend.room = 2
    units = [cluster.add('wait 500 exit 0') for _ in range(20)]
    cluster.settle()
    assert cluster.states(units).count('starting') == 2
    assert cluster.unit(units[5]).message == 'waits: QOSMaxSubmitJobPerUserLimit'
    cluster.later(5)
    assert cluster.engine.submissions == [20]
    cluster.later(6)
    assert cluster.engine.submissions == [20, 1]
    cluster.backend.room = 100
    cluster.later(100)
    assert cluster.engine.submissions == [20, 1, 1, 8, 9]
    assert set(cluster.states(units)) == {'starting'}
    assert cluster.unit(units[5]).message == 'waits: Priority'


def test_a_supervisor_goes_on_with_what_another_one_submitted(cluster: World):
    waiting, running = cluster.add('wait 50 exit 0'), cluster.add('wait 5 run 100')
    cluster.settle()
    cluster.later(10)
    cluster.revive()
    cluster.settle()
    assert cluster.states([waiting, running]) == ['starting', 'running']
    cluster.later(200)
    assert cluster.states([waiting, running]) == ['completed', 'completed']
    assert len(cluster.engine.requests) == 2


def test_what_was_submitted_but_not_recorded_is_found_by_its_key(cluster: World):
    unit = cluster.add('wait 5 exit 0')
    submit = cluster.backend.submit

    def submit_and_die(requests):
        submit(requests)
        raise KeyboardInterrupt

    cluster.backend.submit = submit_and_die  # type: ignore[method-assign]
    try:
        cluster.settle()
    except KeyboardInterrupt:
        cluster.revive()
    cluster.settle()
    assert cluster.unit(unit).reference == 'fake-1'
    cluster.later(6)
    assert cluster.unit(unit).state == 'completed'
    assert len(cluster.engine.requests) == 1


def test_nothing_is_concluded_from_an_engine_that_can_not_be_asked(cluster: World):
    unit, stopped = cluster.add('wait 5 exit 0'), cluster.add('wait 5 exit 0')
    cluster.backend.faults['submit'] = [KeyboardInterrupt()]  # type: ignore[list-item]
    try:
        cluster.settle()
    except KeyboardInterrupt:
        cluster.supervisor.rest()
    cluster.engine.requests.clear()
    fresh = type(cluster.backend)(engine=cluster.engine, clock=cluster.clock)
    fresh.faults['find'] = [UnreachableError('slurmctld does not answer')] * 2
    cluster.adopt_with(fresh)
    cluster.settle()
    assert cluster.states([unit, stopped]) == ['starting', 'starting']
    cluster.store.request(cluster.experiment_id, [stopped], 'stop', actor='somebody')
    cluster.later(6)
    assert cluster.states([unit, stopped]) == ['starting', 'starting']
    cluster.later(8)
    assert cluster.states([unit, stopped]) == ['starting', 'stopped']
    assert cluster.unit(unit).reference


def test_a_unit_that_its_engine_began_anew_is_at_its_next_attempt(cluster: World):
    unit = cluster.add('wait 5 run 10', options={'max_restarts': 2})
    cluster.settle()
    cluster.later(6)
    cluster.engine.requeue('fake-1', cluster.clock.now)
    cluster.later(1)
    record = cluster.unit(unit)
    assert (record.state, record.attempt, record.restarts) == ('starting', 2, 1)
    assert 'was requeued by Fake; restart 1 of 2' in [
        event.why.partition(': ')[2] for event in cluster.store.events(unit_id=unit)
    ]
    cluster.revive()
    cluster.later(5)
    record = cluster.unit(unit)
    assert (record.state, record.attempt, record.message) == ('running', 2, 'on machine')
    cluster.later(20)
    assert (cluster.unit(unit).state, cluster.unit(unit).attempt) == ('completed', 2)
    assert len(cluster.engine.requests) == 1


def test_a_unit_that_is_begun_anew_too_often_is_stopped(cluster: World):
    unit = cluster.add('wait 1 run 10', options={'max_restarts': 1})
    cluster.settle()
    for _ in range(2):
        cluster.later(2)
        cluster.engine.requeue('fake-1', cluster.clock.now)
    cluster.settle()
    record = cluster.unit(unit)
    assert record.state == 'failed'
    assert record.message == 'Fake has requeued it more often than max_restarts=1 allows'


def test_a_unit_that_failed_is_submitted_anew_by_the_supervisor(cluster: World):
    unit = cluster.add('wait 1 exit 3', options={'max_restarts': 1, 'backoff': 5.0})
    cluster.settle()
    cluster.later(2)
    assert cluster.unit(unit).state == 'restarting'
    cluster.later(6)
    assert (cluster.unit(unit).state, cluster.unit(unit).reference) == ('starting', 'fake-2')
    cluster.later(2)
    assert (cluster.unit(unit).state, cluster.unit(unit).attempt) == ('failed', 2)


def test_a_paused_experiment_hands_nothing_over(cluster: World):
    cluster.store.set_paused(cluster.experiment_id, True, actor='somebody')
    unit = cluster.add('wait 1 exit 0')
    cluster.later(5)
    assert (cluster.unit(unit).state, cluster.engine.submissions) == ('queued', [])
