"""Units that are tried again by themselves: when, how often, and what is remembered of it."""

import pytest
from tests.unit.supervise.conftest import World


def options(**facts: object) -> dict[str, object]:
    return {'max_restarts': 2, 'restart_on': ['failure', 'lost'], 'backoff': 10.0, **facts}


def test_a_unit_that_fails_is_tried_again_after_its_back_off(world: World):
    unit = world.add('exit 3', options=options())
    world.settle()
    record = world.unit(unit)
    assert (record.state, record.attempt, record.restarts) == ('restarting', 2, 1)
    assert record.message == 'attempt 1: job job0 exited with code 3; restart 1 of 2 in 10 s'
    assert record.not_before == world.clock.now + 10
    assert world.supervisor.patience() == 1.0
    world.later(9.5)
    assert world.supervisor.patience() == pytest.approx(0.5)
    world.later(0.5)
    assert world.unit(unit).attempt == 3
    world.later(20)
    record = world.unit(unit)
    assert (record.state, record.attempt, record.restarts) == ('failed', 3, 2)
    assert record.message == 'job job0 exited with code 3'


def test_each_attempt_stands_in_the_history(world: World):
    unit = world.add('exit 3', options=options(max_restarts=1, backoff=0.0))
    world.settle()
    world.later(0)
    moves = [(e.to_state, e.why) for e in world.store.events(unit_id=unit)]
    assert [state for state, _ in moves] == [
        *('queued', 'starting', 'running', 'restarting'),
        *('queued', 'starting', 'running', 'failed'),
    ]
    assert moves[3][1] == 'attempt 1: job job0 exited with code 3; restart 1 of 1 at once'


def test_what_no_rule_names_is_final(world: World):
    unit = world.add('exit 3', options=options(restart_on=[75, 'SIGKILL']))
    other = world.add('kill 9', options=options(restart_on=[75, 'SIGKILL']))
    world.settle()
    assert world.states([unit, other]) == ['failed', 'restarting']


def test_the_job_that_went_wrong_first_decides_for_its_unit(world: World):
    unit = world.add('run', 'exit 3', requirements={'cpu': 0.5}, options=options())
    world.settle()
    world.later(1)
    assert world.unit(unit).state == 'restarting'
    assert 'job job1 exited with code 3' in world.unit(unit).message


def test_a_unit_that_was_asked_to_stop_is_not_tried_again(world: World):
    unit = world.add('run', options=options())
    world.settle()
    world.store.request(world.experiment_id, [unit], 'stop', actor='test')
    world.settle()
    assert world.unit(unit).state == 'stopped'


def test_a_unit_that_waits_for_its_next_try_can_be_stopped(world: World):
    unit = world.add('exit 3', options=options())
    world.settle()
    world.store.request(world.experiment_id, [unit], 'stop', outcome='failed', actor='test')
    world.settle()
    assert world.unit(unit).state == 'failed'
    world.later(60)
    assert world.unit(unit).attempt == 2


def test_a_restart_by_hand_gives_it_all_its_tries_again(world: World):
    unit = world.add('exit 3', options=options(max_restarts=1, backoff=1.0))
    world.settle()
    world.later(1)
    assert world.unit(unit).state == 'failed'
    world.store.request(world.experiment_id, [unit], 'restart', actor='test')
    world.settle()
    assert (world.unit(unit).state, world.unit(unit).restarts) == ('restarting', 1)
    assert world.unit(unit).attempt == 4


def test_a_new_supervisor_remembers_when_the_next_try_is_due(world: World):
    unit = world.add('exit 3', options=options())
    world.settle()
    world.revive()
    world.settle()
    assert world.unit(unit).state == 'restarting'
    world.later(10)
    assert world.unit(unit).attempt == 3


def test_what_vanished_is_tried_again_if_that_is_wished(world: World):
    lost = world.add('vanish', options=options(max_restarts=1, backoff=1.0))
    world.settle()
    assert world.unit(lost).state == 'restarting'
    world.later(1)
    assert world.unit(lost).state == 'lost'


def test_what_left_no_trace_is_tried_again_if_that_is_wished(world: World):
    unit = world.add('run', options=options())
    world.settle()
    world.engine.units.clear()
    world.revive()
    assert world.unit(unit).state == 'restarting'


def test_an_experiment_with_a_unit_that_waits_for_its_next_try_needs_a_supervisor(world: World):
    world.add('exit 3', options=options())
    world.settle()
    assert world.supervisor.has_work()


def test_units_of_a_paused_experiment_wait(world: World):
    running, waiting = world.add('run 5', requirements={'cpu': 2.0}), world.add('exit 0')
    world.settle()
    world.store.set_paused(world.experiment_id, True, actor='test')
    world.later(10)
    assert world.states([running, waiting]) == ['completed', 'queued']
    assert world.supervisor.has_work()
    world.store.set_paused(world.experiment_id, False, actor='test')
    world.settle()
    assert world.states([waiting]) == ['completed']


def test_a_unit_that_is_moved_to_high_goes_before_those_that_wait(world: World):
    first = world.add('run', requirements={'cpu': 2.0})
    ids = [world.add('run', requirements={'cpu': 2.0}) for _ in range(3)]
    world.settle()
    world.store.set_importance([ids[2]], 1, actor='test')
    world.settle()
    world.store.request(world.experiment_id, [first], 'stop', actor='test')
    world.settle()
    assert world.states(ids) == ['queued', 'queued', 'running']
