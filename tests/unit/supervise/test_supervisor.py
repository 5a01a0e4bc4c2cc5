from __future__ import annotations

from xmanager.backend import Task
from xmanager.store import CREATING, Change, NewUnit
from xmanager.store.presence import Presence
from xmanager.testing.fake_backend import Outcome

from .conftest import World


def test_a_unit_is_started_watched_and_recorded(world: World):
    unit = world.add('run 5')
    world.settle()
    assert world.unit(unit).state == 'running'
    world.later(5)
    record = world.unit(unit)
    assert (record.state, record.tasks[0].exit_code) == ('completed', 0)
    assert [event.to_state for event in world.store.events(unit_id=unit)] == [
        'queued',
        'starting',
        'running',
        'completed',
    ]


def test_no_more_units_run_than_fit(world: World):
    units = [world.add('run 5') for _ in range(5)]
    world.settle()
    assert world.states(units) == ['running', 'running', 'queued', 'queued', 'queued']
    world.later(5)
    assert world.states(units) == ['completed', 'completed', 'running', 'running', 'queued']


def test_units_start_in_the_order_in_which_they_were_added(world: World):
    units = [world.add('exit 0') for _ in range(200)]
    world.settle()
    assert {world.unit(id).state for id in units} == {'completed'}
    order = [request.unit.label for request in world.engine.requests]
    assert order == [str(number) for number in range(1, 201)]


def test_an_important_unit_goes_first(world: World):
    world.add('run 5', requirements={'cpu': 2.0})
    world.settle()
    ordinary = world.add('run 5', requirements={'cpu': 2.0})
    important = world.add('run 5', requirements={'cpu': 2.0}, importance=1)
    world.later(5)
    assert world.states([ordinary, important]) == ['queued', 'running']


def test_a_unit_that_does_not_fit_holds_back_those_behind_it(world: World):
    world.add('run 5')
    big = world.add('run 5', requirements={'cpu': 2.0})
    small = world.add('run 5')
    world.settle()
    assert world.states([big, small]) == ['queued', 'queued']


def test_a_group_waits_until_all_its_jobs_fit(world: World):
    world.add('run 5')
    group = world.add('run 1', 'run 1')
    world.settle()
    assert world.unit(group).state == 'queued'
    world.later(5)
    assert world.unit(group).state == 'running'


def test_running_units_never_share_a_device(world: World):
    units = [world.add('run 5', requirements={'local_gpu': 1.0}) for _ in range(3)]
    world.settle()
    assert world.states(units) == ['running', 'running', 'queued']
    grants = [request.grant['job0']['local_gpu'] for request in world.engine.requests]
    assert sorted(grants) == [('0',), ('1',)]


def test_devices_that_an_adopted_unit_holds_are_not_given_away(world: World):
    first = world.add('run 5', requirements={'local_gpu': 1.0})
    world.settle()
    world.revive()
    world.add('run 5', requirements={'local_gpu': 1.0})
    world.settle()
    held = world.unit(first).grant['job0']['local_gpu']
    assert world.engine.requests[1].grant['job0']['local_gpu'] != held


def test_a_failed_job_stops_its_siblings_and_is_named(world: World):
    unit = world.add('exit 3', 'run')
    world.settle()
    record = world.unit(unit)
    assert (record.state, record.message) == ('failed', 'job job0 exited with code 3')
    assert record.tasks[1].signal == 15


def test_a_job_that_completes_leaves_its_siblings_alone(world: World):
    unit = world.add('exit 0', 'run 5')
    world.settle()
    assert world.unit(unit).state == 'running'
    world.later(5)
    assert world.unit(unit).state == 'completed'


def test_a_rejected_unit_fails_and_gives_back_what_it_took(world: World):
    rejected = [world.add('nonsense') for _ in range(3)]
    good = world.add('run 5', requirements={'cpu': 2.0})
    world.settle()
    assert world.states([*rejected, good]) == ['failed', 'failed', 'failed', 'running']
    assert 'does not exist' in world.unit(rejected[0]).message


def test_a_stop_request_ends_running_and_queued_units(world: World):
    units = [world.add('run') for _ in range(3)]
    world.settle()
    world.store.request(world.experiment_id, None, 'stop', message='enough', actor='somebody')
    world.settle()
    assert world.states(units) == ['stopped'] * 3
    assert world.unit(units[0]).message == 'enough'
    assert world.store.requests(world.experiment_id) == []


def test_a_stop_request_outlives_its_supervisor(world: World):
    unit = world.add('ignore-term')
    world.settle()
    world.store.request(world.experiment_id, [unit], 'stop', actor='somebody')
    world.settle()
    assert world.unit(unit).state == 'running'
    world.revive()
    world.settle()
    world.later(30)
    assert world.unit(unit).state == 'stopped'


def test_what_was_asked_to_stop_ends_stopped_though_its_supervisor_died(world: World):
    unit = world.add('run 5')
    world.settle()
    world.engine.tasks[world.unit(unit).reference]['job0'].outcome = Outcome(ignores_term=True)
    world.store.request(world.experiment_id, [unit], 'stop', message='enough', actor='somebody')
    world.settle()
    assert world.store.requests(world.experiment_id) == []
    world.clock.now += 5  # It ends by itself, with exit code 0, while nobody looks.
    world.revive()
    world.settle()
    assert (world.unit(unit).state, world.unit(unit).message) == ('stopped', 'enough')


def test_a_stop_concerns_the_units_of_its_moment_only(world: World):
    slow = world.add('ignore-term')
    ended = world.add('exit 1')
    world.settle()
    world.store.request(world.experiment_id, None, 'stop', actor='me')
    world.settle()
    world.store.request(world.experiment_id, [ended], 'restart', actor='me')
    later = world.add('exit 0')
    world.settle()
    assert world.unit(slow).state == 'running'
    assert (world.unit(ended).state, world.unit(ended).attempt) == ('failed', 2)
    assert world.unit(later).state == 'completed'


def test_a_unit_whose_generator_failed_cannot_be_restarted_and_harms_no_other(world: World):
    broken = world.add(state=CREATING)
    world.settle()
    other = world.add('exit 1')
    world.settle()
    world.store.request(world.experiment_id, None, 'restart', actor='me')
    world.settle()
    assert world.states([broken, other]) == ['failed', 'failed']
    assert [world.unit(id).attempt for id in (broken, other)] == [1, 2]


def test_a_unit_that_fits_here_no_more_fails_and_lets_the_others_through(world: World):
    big = world.add('exit 0', requirements={'cpu': 3.0})
    small = world.add('exit 0')
    world.settle()
    assert world.states([big, small]) == ['failed', 'completed']
    assert 'Ask for at most 2' in world.unit(big).message


def test_a_unit_of_a_back_end_that_cannot_be_loaded_fails_alone(world: World):
    [(record, _)] = world.store.add_units(
        world.experiment_id,
        [NewUnit(kind='work', backend='gone', tasks=(Task('a', '', ('exit', '0'), '/'),))],
        actor='test',
    )
    other = world.add('exit 0')
    world.settle()
    assert world.states([record.id, other]) == ['failed', 'completed']
    assert 'gone' in world.unit(record.id).message


def test_the_job_that_vanished_is_named_not_the_one_that_was_stopped_for_it(world: World):
    unit = world.add('vanish', 'run')
    world.settle()
    record = world.unit(unit)
    assert record.state == 'lost'
    assert record.message.startswith('job job0')


def test_a_unit_can_be_stopped_into_another_final_state(world: World):
    unit = world.add('run')
    world.settle()
    world.store.request(
        world.experiment_id, [unit], 'stop', outcome='completed', message='good enough', actor='me'
    )
    world.settle()
    assert (world.unit(unit).state, world.unit(unit).message) == ('completed', 'good enough')


def test_stopping_what_has_ended_changes_nothing(world: World):
    unit = world.add('exit 1')
    world.settle()
    world.store.request(world.experiment_id, [unit], 'stop', actor='me')
    world.settle()
    assert world.unit(unit).state == 'failed'
    assert world.store.requests(world.experiment_id) == []


def test_a_restarted_unit_runs_again_as_the_next_attempt(world: World):
    unit = world.add('exit 1')
    world.settle()
    world.store.request(world.experiment_id, [unit], 'restart', actor='me')
    world.settle()
    assert [request.unit.attempt for request in world.engine.requests] == [1, 2]
    assert (world.unit(unit).state, world.unit(unit).attempt) == ('failed', 2)


def test_what_still_runs_is_adopted_and_nothing_runs_twice(world: World):
    units = [world.add('run 5') for _ in range(3)]
    world.settle()
    world.revive()
    world.settle()
    assert world.states(units) == ['running', 'running', 'queued']
    world.later(5)
    world.later(5)
    assert world.states(units) == ['completed'] * 3
    assert len(world.engine.requests) == 3


def test_what_was_submitted_but_not_recorded_is_found_by_its_key(world: World):
    unit = world.add('run 5')
    record = world.unit(unit)
    world.store.move([Change(unit, 'starting')], actor='supervisor')
    world.backend.submit([world.backend.render(record.as_unit(), {})])
    world.revive()
    assert world.unit(unit).state == 'running'
    world.later(5)
    assert world.unit(unit).state == 'completed'
    assert len(world.engine.requests) == 1


def test_what_was_meant_but_not_submitted_is_started(world: World):
    unit = world.add('run 5')
    world.store.move([Change(unit, 'starting')], actor='supervisor')
    world.revive()
    world.settle()
    assert world.unit(unit).state == 'running'
    assert len(world.engine.requests) == 1


def test_a_running_unit_without_a_trace_is_lost(world: World):
    unit = world.add('run')
    world.settle()
    world.engine.units.clear()
    world.revive()
    assert world.unit(unit).state == 'lost'


def test_what_vanished_is_lost_and_said_so(world: World):
    unit = world.add('vanish')
    world.settle()
    assert world.unit(unit).state == 'lost'
    assert 'nobody saw how' in world.unit(unit).message


def test_an_auxiliary_unit_ends_its_delay_after_the_last_work_unit(world: World):
    work = world.add('run 5')
    auxiliary = world.add('run', kind='auxiliary', termination_delay=10.0)
    world.settle()
    world.later(5)
    world.later(9)
    assert world.states([work, auxiliary]) == ['completed', 'running']
    world.later(1)
    assert world.unit(auxiliary).state == 'completed'
    assert not world.supervisor.has_work()


def test_an_auxiliary_unit_goes_on_while_a_launcher_may_add_more_work(world: World):
    launcher = Presence(world.store.home.experiment_folder(world.experiment_id)).launch()
    world.add('exit 0')
    auxiliary = world.add('run', kind='auxiliary', termination_delay=0.0)
    world.settle()
    world.later(100)
    assert world.unit(auxiliary).state == 'running'
    launcher.release()
    world.later(1)
    assert world.unit(auxiliary).state == 'completed'


def test_a_unit_whose_generator_died_with_its_launcher_fails(world: World):
    launcher = Presence(world.store.home.experiment_folder(world.experiment_id)).launch()
    unit = world.add(state=CREATING)
    world.settle()
    assert world.unit(unit).state == 'creating'
    launcher.release()
    world.later(1)
    assert world.unit(unit).state == 'failed'
    assert 'launch script ended' in world.unit(unit).message


def test_a_unit_of_a_generator_starts_once_it_has_its_tasks(world: World):
    launcher = Presence(world.store.home.experiment_folder(world.experiment_id)).launch()
    unit = world.add(state=CREATING)
    world.settle()
    task = Task(name='train', full_name='', argv=('exit', '0'), cwd='/')
    world.store.set_tasks(unit, [task], 'fake', state='queued', actor='launcher')
    world.settle()
    assert world.unit(unit).state == 'completed'
    launcher.release()


def test_a_supervisor_is_needed_while_a_launcher_is_there(world: World):
    assert not world.supervisor.has_work()
    launcher = Presence(world.store.home.experiment_folder(world.experiment_id)).launch()
    assert world.supervisor.has_work()
    launcher.release()
    assert not world.supervisor.has_work()


def test_an_auxiliary_unit_need_not_wait_for_the_many_before_it(world: World):
    world.add('run', requirements={'cpu': 2.0})
    for _ in range(100):
        world.add('run', requirements={'cpu': 2.0})
    auxiliary = world.add('run', kind='auxiliary', requirements={'cpu': 0.0})
    world.settle()
    assert world.unit(auxiliary).state == 'running'


def test_many_requests_are_obeyed_in_their_order(world: World):
    units = [world.add('run 5') for _ in range(300)]
    world.settle()
    for unit in units:
        world.store.request(world.experiment_id, [unit], 'stop', actor='test')
    for unit in units[:10]:
        world.store.request(world.experiment_id, [unit], 'restart', actor='test')
    world.settle()
    states = world.states(units)
    assert states[:2] == ['running', 'running']
    assert states[2:10] == ['queued'] * 8
    assert set(states[10:]) == {'stopped'}
