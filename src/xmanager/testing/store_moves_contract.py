"""The contract of a store, continued: units move through their states, and events tell of it."""

from __future__ import annotations

import pytest

from xmanager.backend import TaskObservation
from xmanager.store import (
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
    Change,
    ExperimentRecord,
    Store,
    UnitRecord,
)
from xmanager.testing.store_fixtures import SettableClock, StoreFixtures, a_unit, add, walk

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


class MovesContract(StoreFixtures):
    """States, attempts, tasks' outcomes and events."""

    @pytest.mark.parametrize('start', STATES)
    def test_only_legal_moves_are_made(
        self, store: Store, experiment: ExperimentRecord, start: str
    ) -> None:
        units = add(store, experiment, *[a_unit(state=CREATING) for _ in STATES])
        for unit, end in zip(units, STATES, strict=True):
            walk(store, unit, *_WAYS[start])
            before = store.unit(unit.id)
            last = store.last_event_id(experiment.id)
            moved = store.move([Change(unit.id, end, why='to see')], actor='test')
            events = store.events(experiment.id, after_id=last)
            if end in LEGAL_MOVES[start]:
                assert [unit.state for unit in moved] == [end]
                assert [(e.from_state, e.to_state, e.why) for e in events] == [
                    (start, end, 'to see')
                ]
            else:
                assert (moved, events) == ([], []), end
                assert store.unit(unit.id) == before

    def test_a_state_that_does_not_exist_is_an_error(self, store: Store, unit: UnitRecord) -> None:
        with pytest.raises(ValueError, match="'done' is no state of a unit"):
            store.move([Change(unit.id, 'done')], actor='test')

    def test_a_unit_in_another_state_or_attempt_than_expected_is_left_alone(
        self, store: Store, unit: UnitRecord
    ) -> None:
        changes = [
            Change(unit.id, STARTING, expect=(CREATING, RUNNING)),
            Change(unit.id, STARTING, attempt=2),
            Change(unit.id + 1, STARTING),
        ]
        assert store.move(changes, actor='test') == []
        assert store.unit(unit.id) == unit

    def test_a_life_is_recorded_with_its_times(
        self, store: Store, unit: UnitRecord, clock: SettableClock
    ) -> None:
        walk(store, unit, STARTING)
        clock.now += 1
        grant = {'train': {'local_gpu': ('0', '1')}}
        change = Change(unit.id, RUNNING, reference='pid 7', grant=grant, message='on GPU 0, 1')
        store.move([change], actor='supervisor')
        running = store.unit(unit.id)
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

    def test_several_moves_of_one_unit_are_made_in_order(
        self, store: Store, experiment: ExperimentRecord, unit: UnitRecord
    ) -> None:
        changes = [Change(unit.id, state) for state in (STARTING, RUNNING, QUEUED, COMPLETED)]
        (moved,) = store.move(changes, actor='test')
        assert moved.state == COMPLETED
        states = [event.to_state for event in store.events(experiment.id)]
        assert states == [QUEUED, STARTING, RUNNING, COMPLETED]

    def test_facts_of_an_active_unit_are_recorded_without_a_move(
        self, store: Store, experiment: ExperimentRecord, unit: UnitRecord
    ) -> None:
        walk(store, unit, STARTING)
        last = store.last_event_id(experiment.id)
        change = Change(
            unit.id, STARTING, reference='job 5', tasks={'train': TaskObservation('running')}
        )
        assert store.move([change], actor='test') == []
        noted = store.unit(unit.id)
        assert (noted.reference, noted.tasks[0].state) == ('job 5', 'running')
        assert store.last_event_id(experiment.id) == last

    def test_the_next_attempt_begins_with_a_clean_slate(
        self, store: Store, unit: UnitRecord
    ) -> None:
        change = Change(
            unit.id,
            FAILED,
            message='exit code 1',
            tasks={'train': TaskObservation('exited', 1, None, 5.0, 1, 1.0, 1.0)},
            task_messages={'train': 'exit code 1'},
        )
        start = Change(unit.id, RUNNING, reference='pid 7', grant={'train': {'local_gpu': ('0',)}})
        store.move([Change(unit.id, STARTING), start, change], actor='test')
        walk(store, unit, RESTARTING, QUEUED)
        again = store.unit(unit.id)
        assert again.attempt == 2
        assert again.key == f'{store.home_id}.{unit.experiment_id}.1.2'
        assert (again.message, again.reference, again.grant) == ('', '', {})
        assert (again.started_at, again.ended_at) == (None, None)
        assert again.tasks == unit.tasks

    def test_a_unit_remembers_when_it_was_queued(
        self, store: Store, experiment: ExperimentRecord, clock: SettableClock
    ) -> None:
        added_at = clock.now
        unit, creating = add(store, experiment, a_unit(), a_unit(state=CREATING))
        assert (unit.queued_at, creating.queued_at) == (added_at, None)
        clock.now += 1
        walk(store, creating, QUEUED)
        store.move([Change(unit.id, QUEUED, message='waits for 2 CPUs')], actor='test')
        assert store.unit(creating.id).queued_at == clock.now
        assert store.unit(unit.id).queued_at == added_at
        walk(store, unit, STARTING, RUNNING)
        clock.now += 1
        walk(store, unit, RESTARTING)
        assert store.unit(unit.id).queued_at == added_at
        walk(store, unit, QUEUED)
        assert store.unit(unit.id).queued_at == clock.now

    @pytest.mark.parametrize('from_state', [STARTING, RUNNING, LOST])
    def test_a_restart_waits_until_it_is_due_and_is_counted(
        self, store: Store, unit: UnitRecord, clock: SettableClock, from_state: str
    ) -> None:
        walk(store, unit, *_WAYS[from_state][1:])
        due = clock.now + 30.0
        tasks = {'train': TaskObservation('exited', 1, None, 5.0, 1, 1.0, 1.0)}
        change = Change(unit.id, RESTARTING, not_before=due, restarts=1, tasks=tasks)
        (restarting,) = store.move([change], actor='test')
        assert (restarting.attempt, restarting.not_before, restarting.restarts) == (2, due, 1)
        assert store.unit(unit.id).tasks == unit.tasks
        later = Change(unit.id, RESTARTING, not_before=due + 5)
        store.move([later], actor='test')
        assert store.unit(unit.id).not_before == due + 5
        walk(store, unit, QUEUED)
        assert (store.unit(unit.id).not_before, store.unit(unit.id).restarts) == (None, 1)
        walk(store, unit, STARTING, FAILED)
        store.move([Change(unit.id, RESTARTING, restarts=0)], actor='test')
        again = store.unit(unit.id)
        assert (again.attempt, again.not_before, again.restarts) == (3, None, 0)

    def test_a_restart_that_is_stopped_is_not_due_any_more(
        self, store: Store, unit: UnitRecord
    ) -> None:
        walk(store, unit, FAILED)
        store.move([Change(unit.id, RESTARTING, not_before=5.0)], actor='test')
        walk(store, unit, STOPPED)
        assert store.unit(unit.id).not_before is None

    def test_another_importance_is_told_in_the_history(
        self, store: Store, experiment: ExperimentRecord, clock: SettableClock
    ) -> None:
        queued, running, ended, alike = add(
            store, experiment, a_unit(), a_unit(importance=-1), a_unit(), a_unit(importance=1)
        )
        walk(store, running, STARTING, RUNNING)
        walk(store, ended, STOPPED)
        last = store.last_event_id(experiment.id)
        clock.now += 1
        ids = [running.id, queued.id, ended.id, alike.id, 999, queued.id]
        changed = store.set_importance(ids, 1, actor='ada')
        assert [(unit.id, unit.importance) for unit in changed] == [(running.id, 1), (queued.id, 1)]
        assert [unit.importance for unit in store.units(experiment.id)] == [1, 1, 0, 1]
        events = store.events(experiment.id, after_id=last)
        assert [(e.unit_id, e.at, e.actor, e.from_state, e.to_state, e.why) for e in events] == [
            (running.id, clock.now, 'ada', RUNNING, RUNNING, 'importance high, was low'),
            (queued.id, clock.now, 'ada', QUEUED, QUEUED, 'importance high, was normal'),
        ]

    def test_a_unit_that_was_never_spawned_gives_its_devices_back(
        self, store: Store, unit: UnitRecord
    ) -> None:
        grant = {'train': {'local_gpu': ('0',)}}
        store.move([Change(unit.id, STARTING, grant=grant)], actor='test')
        assert store.unit(unit.id).grant == grant
        walk(store, unit, QUEUED)
        assert (store.unit(unit.id).grant, store.unit(unit.id).attempt) == ({}, 1)

    def test_hundreds_of_units_are_moved_at_once(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        units = add(store, experiment, *[a_unit() for _ in range(600)])
        moved = store.move([Change(unit.id, STARTING) for unit in units], actor='test')
        assert [unit.id for unit in moved] == [unit.id for unit in units]
        assert store.counts(experiment.id) == {STARTING: 600}

    def test_an_event_says_who_when_and_why(
        self, store: Store, experiment: ExperimentRecord, unit: UnitRecord, clock: SettableClock
    ) -> None:
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
