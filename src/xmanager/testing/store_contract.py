"""What every store must do, whatever database is beneath it: a suite to subclass, `open_store` being yours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xmanager.backend import Task, TaskObservation
from xmanager.store import (
    AUXILIARY,
    COMPLETED,
    CREATING,
    FAILED,
    LEGAL_MOVES,
    LOST,
    QUEUED,
    RESTARTING,
    RUNNING,
    STARTING,
    STATES,
    STOPPED,
    WORK,
    Change,
    ExperimentRecord,
    Home,
    NewExperiment,
    NewUnit,
    Store,
    UnitRecord,
)
from xmanager.xm.errors import NotFoundError

# Every way from the first state to each other one.
_WAYS = {
    CREATING: (),
    QUEUED: (QUEUED,),
    STARTING: (QUEUED, STARTING),
    RUNNING: (QUEUED, STARTING, RUNNING),
    RESTARTING: (FAILED, RESTARTING),
    COMPLETED: (COMPLETED,),
    FAILED: (FAILED,),
    STOPPED: (STOPPED,),
    LOST: (QUEUED, STARTING, LOST),
}


class SettableClock:
    """Stands still until it is set."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def a_task(name: str = 'train', **fields: Any) -> Task:
    """A task as `add` would write it."""
    return Task(**{'name': name, 'full_name': '', 'argv': ('/bin/true',), 'cwd': '/', **fields})


def a_unit(kind: str = WORK, **fields: Any) -> NewUnit:
    """A queued unit of one task."""
    return NewUnit(**{'kind': kind, 'backend': 'local', 'tasks': (a_task(),), **fields})


class StoreContract:
    """Subclass it in a test module and say how a store is opened."""

    def open_store(self, home: Home, clock: SettableClock) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> SettableClock:
        return SettableClock()

    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        return Home(tmp_path / 'home')

    @pytest.fixture
    def store(self, home: Home, clock: SettableClock) -> Iterator[Store]:
        with self.open_store(home, clock) as store:
            yield store

    @pytest.fixture
    def experiment(self, store: Store) -> ExperimentRecord:
        return store.create_experiment(NewExperiment('cifar10', 'ada', 'host'))

    @pytest.fixture
    def unit(self, store: Store, experiment: ExperimentRecord) -> UnitRecord:
        return add(store, experiment, a_unit())[0]

    # Experiments

    def test_an_experiment_is_read_as_it_was_written(self, store, clock):
        new = NewExperiment(
            title='cifar10 β',
            user='ada',
            host='lovelace',
            script='/src/launch.py',
            argv=('launch.py', '--lr=0.1', 'a b\n\udc80'),
            cwd='/src',
            python='/venv/bin/python',
        )
        made = store.create_experiment(new)
        assert (made.id, made.created_at, made.state) == (1, clock.now, 'empty')
        assert (made.title, made.user, made.host) == (new.title, new.user, new.host)
        assert (made.script, made.argv, made.cwd, made.python) == (
            new.script,
            new.argv,
            new.cwd,
            new.python,
        )
        assert store.experiment(1) == made
        assert store.experiments() == [made]

    def test_an_experiments_folder_is_its_users_alone(self, store, home):
        made = store.create_experiment(NewExperiment('t', 'u', 'h'))
        assert made.folder == home.experiment_folder(made.id)
        assert made.folder.stat().st_mode & 0o777 == 0o700

    def test_ids_are_sequential_and_never_used_again(self, store):
        ids = [store.create_experiment(NewExperiment('t', 'u', 'h')).id for _ in range(3)]
        store.delete_experiment(3)
        assert ids == [1, 2, 3]
        assert store.create_experiment(NewExperiment('t', 'u', 'h')).id == 4

    def test_a_folder_that_is_there_already_is_left_to_whoever_made_it(self, store, home):
        home.experiment_folder(1).mkdir(parents=True)
        assert store.create_experiment(NewExperiment('t', 'u', 'h')).id == 2
        assert [e.id for e in store.experiments()] == [2]

    def test_a_deleted_experiment_leaves_nothing_behind(self, store, experiment, unit, home):
        (experiment.folder / '1' / 'train').mkdir(parents=True)
        store.request(experiment.id, [unit.id], 'stop', actor='test')
        store.delete_experiment(experiment.id)
        assert list(home.experiments_folder.iterdir()) == []
        assert store.experiments() == []
        assert store.units_by_id([unit.id]) == []
        assert store.events() == []
        assert store.requests(experiment.id) == []

    def test_an_experiment_whose_folder_is_gone_can_be_deleted(self, store, experiment):
        experiment.folder.rmdir()
        store.delete_experiment(experiment.id)
        assert store.experiments() == []

    @pytest.mark.parametrize('id', [0, -1, 2, 10**30])
    def test_an_unknown_experiment_is_not_found(self, store, experiment, id):
        with pytest.raises(NotFoundError, match=f'no experiment {id} '):
            store.experiment(id)
        with pytest.raises(NotFoundError):
            store.delete_experiment(id)
        with pytest.raises(NotFoundError):
            store.add_units(id, [a_unit()], actor='test')
        with pytest.raises(NotFoundError):
            store.request(id, None, 'stop', actor='test')

    def test_experiments_are_listed_newest_first_up_to_a_limit(self, store):
        for title in 'abc':
            store.create_experiment(NewExperiment(title, 'u', 'h'))
        assert [e.title for e in store.experiments()] == ['c', 'b', 'a']
        assert [e.title for e in store.experiments(limit=2)] == ['c', 'b']

    def test_experiments_are_found_by_user_title_and_state(self, store):
        for title, user in [('Lernrate GRÖẞE', 'ada'), ('größe 2', 'bob'), ('100%', 'ada')]:
            add(store, store.create_experiment(NewExperiment(title, user, 'h')), a_unit())
        (unit,) = store.units(2)
        walk(store, unit, STOPPED)
        found = {
            'by user': store.experiments(user='ada'),
            'by title in any case': store.experiments(title='GRÖSSE'),
            'by title as it stands': store.experiments(title='%'),
            'by state': store.experiments(status=STOPPED),
            'by all': store.experiments(user='ada', title='größe', status=QUEUED, limit=1),
            'nothing': store.experiments(user='eve'),
        }
        assert {how: [e.id for e in experiments] for how, experiments in found.items()} == {
            'by user': [3, 1],
            'by title in any case': [2, 1],
            'by title as it stands': [3],
            'by state': [2],
            'by all': [1],
            'nothing': [],
        }

    def test_an_experiment_ends_with_its_last_unit(self, store, experiment, clock):
        first, second = add(store, experiment, a_unit(), a_unit())
        clock.now += 10
        walk(store, second, COMPLETED)
        assert store.experiment(experiment.id).counts == {QUEUED: 1, COMPLETED: 1}
        assert store.experiment(experiment.id).ended_at is None
        clock.now += 10
        walk(store, first, FAILED)
        ended = store.experiment(experiment.id)
        assert (ended.state, ended.ended_at) == (FAILED, clock.now)

    # Adding units

    def test_a_unit_is_read_as_it_was_written(self, store, experiment, clock):
        task = a_task(
            argv=('/bin/echo', 'a b', '', 'ü\n', 'stray \udcff byte'),
            cwd='/tmp/\udcff',
            env={'LR': '0.1'},
            secrets={'WANDB_API_KEY': 'MY_KEY'},
            requirements={'cpu': 2.0, 'ram': 1024.0},
            options={'grace': 5.0, 'nested': {'list': [1, None, True]}},
            executable={'digest': 'abc'},
        )
        new = a_unit(
            tasks=(task, a_task('eval')),
            args={'lr': 0.1, 'layers': [1, 2], 'name': 'π'},
            identity='lr=0.1',
            importance=-3,
            tags=('a', 'b'),
            termination_delay=2.5,
        )
        ((unit, is_new),) = store.add_units(experiment.id, [new], actor='test')
        assert is_new
        assert (unit.kind, unit.number, unit.label) == (WORK, 1, '1')
        assert (unit.state, unit.message, unit.attempt) == (QUEUED, '', 1)
        assert (unit.backend, unit.reference, unit.grant) == ('local', '', {})
        assert (unit.args, unit.identity, unit.importance) == (new.args, 'lr=0.1', -3)
        assert (unit.tags, unit.termination_delay) == (('a', 'b'), 2.5)
        assert (unit.created_at, unit.started_at, unit.ended_at) == (clock.now, None, None)
        assert unit.folder == experiment.folder / '1'
        assert unit.key == f'{store.home_id}.{experiment.id}.1.1'
        assert [record.folder.name for record in unit.tasks] == ['train', 'eval']
        full_name = f'{experiment.id}_1_train'
        assert unit.tasks[0].task == Task(
            'train',
            full_name,
            task.argv,
            task.cwd,
            task.env,
            task.secrets,
            task.requirements,
            task.options,
            task.executable,
        )
        assert store.unit(unit.id) == unit
        assert store.unit_by_label(experiment.id, '1') == unit
        assert store.units(experiment.id) == [unit]

    def test_work_and_auxiliary_units_are_numbered_apart(self, store, experiment):
        add(store, experiment, a_unit(), a_unit(AUXILIARY), a_unit())
        units = add(store, experiment, a_unit(AUXILIARY), a_unit())
        assert [unit.label for unit in units] == ['a2', '3']
        assert units[0].tasks[0].task.full_name == f'{experiment.id}_auxiliary_train'
        assert [unit.label for unit in store.units(experiment.id)] == ['1', 'a1', '2', 'a2', '3']
        assert [unit.number for unit in store.units(experiment.id, kind=AUXILIARY)] == [1, 2]

    def test_a_unit_whose_identity_is_there_is_not_added_again(self, store, experiment):
        (first,) = add(store, experiment, a_unit(identity='a'))
        wanted = [
            a_unit(identity='b'),
            a_unit(identity='a', args={'x': 1}),
            a_unit(),
            a_unit(identity='b'),
            a_unit(),
        ]
        added = store.add_units(experiment.id, wanted, actor='test')
        assert [unit.number for unit, _ in added] == [2, 1, 3, 2, 4]
        assert [is_new for _, is_new in added] == [True, False, True, False, True]
        assert added[1][0] == first

    def test_identities_are_those_of_one_experiment(self, store, experiment):
        other = store.create_experiment(NewExperiment('t', 'u', 'h'))
        add(store, experiment, a_unit(identity='a'))
        assert [new for _, new in store.add_units(other.id, [a_unit(identity='a')], actor='t')] == [
            True
        ]

    def test_hundreds_of_units_are_added_at_once(self, store, experiment):
        units = add(store, experiment, *[a_unit(args={'seed': seed}) for seed in range(700)])
        assert [unit.args['seed'] for unit in units] == list(range(700))
        assert [unit.number for unit in units] == list(range(1, 701))
        assert store.counts(experiment.id) == {QUEUED: 700}
        assert store.units(experiment.id) == units

    def test_adding_nothing_is_no_error(self, store, experiment):
        assert store.add_units(experiment.id, [], actor='test') == []

    def test_the_tasks_of_a_generators_unit_come_later(self, store, experiment, clock):
        (unit,) = add(store, experiment, a_unit(tasks=(), backend='', state=CREATING))
        clock.now += 1
        queued = store.set_tasks(unit.id, [a_task('b')], 'local', state=QUEUED, actor='test')
        assert (queued.state, queued.backend) == (QUEUED, 'local')
        assert [record.task.full_name for record in queued.tasks] == [f'{experiment.id}_1_b']

    def test_a_generators_unit_may_end_without_tasks(self, store, experiment, clock):
        (unit,) = add(store, experiment, a_unit(tasks=(), backend='', state=CREATING))
        ended = store.set_tasks(unit.id, [], '', state=FAILED, actor='test', message='it raised')
        assert (ended.state, ended.message, ended.ended_at) == (FAILED, 'it raised', clock.now)

    def test_a_generators_unit_that_was_stopped_stays_stopped(self, store, experiment):
        (unit,) = add(store, experiment, a_unit(tasks=(), state=CREATING))
        walk(store, unit, STOPPED)
        left = store.set_tasks(unit.id, [a_task()], 'local', state=QUEUED, actor='test')
        assert (left.state, left.tasks) == (STOPPED, ())

    # Moving units

    @pytest.mark.parametrize('start', STATES)
    @pytest.mark.parametrize('end', STATES)
    def test_only_legal_moves_are_made(self, store, experiment, start, end):
        (unit,) = add(store, experiment, a_unit(state=CREATING))
        walk(store, unit, *_WAYS[start])
        before = store.unit(unit.id)
        last = store.last_event_id(experiment.id)
        moved = store.move([Change(unit.id, end, why='to see')], actor='test')
        events = store.events(experiment.id, after_id=last)
        if end in LEGAL_MOVES[start]:
            assert [unit.state for unit in moved] == [end]
            assert [(e.from_state, e.to_state, e.why) for e in events] == [(start, end, 'to see')]
        else:
            assert (moved, events) == ([], [])
            assert store.unit(unit.id) == before

    def test_a_state_that_does_not_exist_is_an_error(self, store, unit):
        with pytest.raises(ValueError, match="'done' is no state of a unit"):
            store.move([Change(unit.id, 'done')], actor='test')

    def test_a_unit_in_another_state_or_attempt_than_expected_is_left_alone(self, store, unit):
        changes = [
            Change(unit.id, STARTING, expect=(CREATING, RUNNING)),
            Change(unit.id, STARTING, attempt=2),
            Change(unit.id + 1, STARTING),
        ]
        assert store.move(changes, actor='test') == []
        assert store.unit(unit.id) == unit

    def test_a_life_is_recorded_with_its_times(self, store, unit, clock):
        walk(store, unit, STARTING)
        clock.now += 1
        grant = {'train': {'local_gpu': ('0', '1')}}
        change = Change(unit.id, RUNNING, reference='pid 7', grant=grant, message='on GPU 0, 1')
        (running,) = store.move([change], actor='supervisor')
        assert (running.reference, running.grant) == ('pid 7', grant)
        assert store.unit(unit.id).tasks[0].state == 'running'
        assert store.unit(unit.id).tasks[0].started_at == clock.now
        seen = TaskObservation('exited', 3, None, clock.now + 5, 4096, 1.5, 0.5)
        change = Change(
            unit.id,
            FAILED,
            message='train: exit code 3',
            at=clock.now + 6,
            tasks={'train': seen},
            task_messages={'train': 'exit code 3'},
        )
        store.move([change], actor='supervisor')
        failed = store.unit(unit.id)
        assert (failed.state, failed.message) == (FAILED, 'train: exit code 3')
        assert (failed.started_at, failed.ended_at) == (clock.now, clock.now + 6)
        assert (failed.reference, failed.grant) == ('pid 7', grant)
        (task,) = failed.tasks
        assert (task.state, task.exit_code, task.signal) == ('exited', 3, None)
        assert (task.started_at, task.ended_at) == (clock.now, clock.now + 5)
        assert (task.max_rss, task.user_seconds, task.system_seconds) == (4096, 1.5, 0.5)
        assert task.message == 'exit code 3'

    def test_several_moves_of_one_unit_are_made_in_order(self, store, experiment, unit):
        changes = [Change(unit.id, state) for state in (STARTING, RUNNING, QUEUED, COMPLETED)]
        (moved,) = store.move(changes, actor='test')
        assert moved.state == COMPLETED
        states = [event.to_state for event in store.events(experiment.id)]
        assert states == [QUEUED, STARTING, RUNNING, COMPLETED]

    def test_facts_of_an_active_unit_are_recorded_without_a_move(self, store, experiment, unit):
        walk(store, unit, STARTING)
        last = store.last_event_id(experiment.id)
        change = Change(
            unit.id, STARTING, reference='job 5', tasks={'train': TaskObservation('running')}
        )
        assert store.move([change], actor='test') == []
        noted = store.unit(unit.id)
        assert (noted.reference, noted.tasks[0].state) == ('job 5', 'running')
        assert store.last_event_id(experiment.id) == last

    def test_the_next_attempt_begins_with_a_clean_slate(self, store, unit):
        change = Change(
            unit.id,
            FAILED,
            message='exit code 1',
            tasks={'train': TaskObservation('exited', 1, None, 5.0, 1, 1.0, 1.0)},
            task_messages={'train': 'exit code 1'},
        )
        start = Change(
            unit.id, RUNNING, reference='pid 7', grant={'train': {'local_gpu': ('0',)}}
        )
        store.move([Change(unit.id, STARTING), start, change], actor='test')
        walk(store, unit, RESTARTING, QUEUED)
        again = store.unit(unit.id)
        assert again.attempt == 2
        assert again.key == f'{store.home_id}.{unit.experiment_id}.1.2'
        assert (again.message, again.reference, again.grant) == ('', '', {})
        assert (again.started_at, again.ended_at) == (None, None)
        assert again.tasks == unit.tasks

    def test_a_unit_that_was_never_spawned_gives_its_devices_back(self, store, unit):
        grant = {'train': {'local_gpu': ('0',)}}
        store.move([Change(unit.id, STARTING, grant=grant)], actor='test')
        assert store.unit(unit.id).grant == grant
        walk(store, unit, QUEUED)
        assert (store.unit(unit.id).grant, store.unit(unit.id).attempt) == ({}, 1)

    def test_hundreds_of_units_are_moved_at_once(self, store, experiment):
        units = add(store, experiment, *[a_unit() for _ in range(600)])
        moved = store.move([Change(unit.id, STARTING) for unit in units], actor='test')
        assert [unit.id for unit in moved] == [unit.id for unit in units]
        assert store.counts(experiment.id) == {STARTING: 600}

    def test_an_event_says_who_when_and_why(self, store, experiment, unit, clock):
        clock.now += 1
        store.move([Change(unit.id, STARTING, why='2 CPUs are free')], actor='supervisor@host')
        added, started = store.events(unit_id=unit.id)
        assert (added.actor, added.from_state, added.to_state) == ('test', '', QUEUED)
        assert (started.at, started.actor, started.why) == (
            clock.now,
            'supervisor@host',
            '2 CPUs are free',
        )
        assert store.events(experiment.id, after_id=added.id) == [started]
        assert store.last_event_id(experiment.id) == started.id

    # Reading units

    def test_the_queue_is_ordered_by_importance_then_age(self, store, experiment):
        add(store, experiment, *[a_unit(importance=n) for n in (0, 5, -1, 5, 0)])
        queue = store.units(experiment.id, order='queue', states=(QUEUED,), limit=4)
        assert [unit.number for unit in queue] == [2, 4, 1, 5]

    def test_units_are_read_by_state_and_page(self, store, experiment):
        units = add(store, experiment, *[a_unit() for _ in range(5)])
        store.move([Change(units[i].id, STARTING) for i in (1, 3)], actor='test')
        numbers = [unit.number for unit in store.units(experiment.id, states=[STARTING, RUNNING])]
        assert numbers == [2, 4]
        page = store.units(experiment.id, after_id=units[1].id, limit=2, with_tasks=False)
        assert [(unit.number, unit.tasks) for unit in page] == [(3, ()), (4, ())]
        assert store.units(experiment.id, states=()) == []
        assert [u.number for u in store.units_by_id([units[4].id, 999, units[0].id])] == [5, 1]

    def test_units_are_counted_by_state_and_kind(self, store, experiment):
        units = add(store, experiment, a_unit(), a_unit(), a_unit(AUXILIARY))
        walk(store, units[0], STOPPED)
        assert store.counts(experiment.id) == {STOPPED: 1, QUEUED: 2}
        assert store.counts(experiment.id, AUXILIARY) == {QUEUED: 1}
        assert store.counts(99) == {}

    @pytest.mark.parametrize(
        'label', ['0', '2', 'a1', '', '01', '1.x', '-1', '+1', '１', ' 1', '../..', '9' * 40]
    )
    def test_a_label_of_no_unit_is_not_found(self, store, experiment, unit, label):
        with pytest.raises(NotFoundError, match=f'experiment {experiment.id} has no unit'):
            store.unit_by_label(experiment.id, label)

    def test_a_label_in_an_unknown_experiment_blames_the_experiment(self, store):
        with pytest.raises(NotFoundError, match='no experiment 7'):
            store.unit_by_label(7, '1')

    def test_an_unknown_unit_is_not_found(self, store):
        with pytest.raises(NotFoundError):
            store.unit(1)

    def test_an_order_that_does_not_exist_is_an_error(self, store, experiment):
        with pytest.raises(ValueError, match="order='age'"):
            store.units(experiment.id, order='age')

    # Requests and changes

    def test_a_request_is_open_until_it_is_finished(self, store, experiment, unit, clock):
        store.request(experiment.id, None, 'restart', actor='ada')
        store.request(experiment.id, [unit.id], 'stop', message='dull', outcome=FAILED, actor='bob')
        restart, stop = store.requests(experiment.id)
        assert (restart.unit_id, restart.verb, restart.outcome) == (None, 'restart', STOPPED)
        assert (stop.unit_id, stop.verb, stop.message) == (unit.id, 'stop', 'dull')
        assert (stop.outcome, stop.actor, stop.at) == (FAILED, 'bob', clock.now)
        store.finish_requests([restart.id])
        assert store.requests(experiment.id) == [stop]

    def test_the_change_token_tells_when_somebody_wrote(self, store, home, clock, experiment):
        before = store.change_token()
        store.experiments()
        assert store.change_token() == before
        with self.open_store(home, clock) as other:
            other.request(experiment.id, None, 'stop', actor='test')
        after = store.change_token()
        assert after != before
        store.finish_requests([1])
        assert store.change_token() != after

    def test_a_home_keeps_its_name(self, store, home, clock):
        with self.open_store(home, clock) as other:
            assert other.home_id == store.home_id
        assert len(store.home_id) == 12


def add(store: Store, experiment: ExperimentRecord, *units: NewUnit) -> list[UnitRecord]:
    """Adds units and returns them as they were recorded."""
    return [unit for unit, _ in store.add_units(experiment.id, units, actor='test')]


def walk(store: Store, unit: UnitRecord, *states: str) -> None:
    """Moves a unit through these states."""
    for state in states:
        assert store.move([Change(unit.id, state)], actor='test'), f'{unit.state} to {state}'
