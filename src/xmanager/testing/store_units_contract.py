"""The contract of a store, continued: units are added and read."""

from __future__ import annotations

from typing import Any

import pytest

from xmanager.backend import Task
from xmanager.errors import NotFoundError
from xmanager.store import (
    AUXILIARY,
    CREATING,
    FAILED,
    QUEUED,
    RUNNING,
    STARTING,
    STOPPED,
    WORK,
    Change,
    ExperimentRecord,
    NewExperiment,
    Store,
    UnitRecord,
    Wait,
)
from xmanager.testing.store_fixtures import SettableClock, StoreFixtures, a_task, a_unit, add, walk


class UnitsContract(StoreFixtures):
    """Units and their tasks."""

    # What was packaged

    def test_what_was_packaged_is_told_for_every_task(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        tasks = (a_task(executable={'snapshot': 'abc'}), a_task('eval', executable={'kept': ['π']}))
        store.add_units(experiment.id, [a_unit(tasks=tasks), a_unit(tasks=())], actor='test')
        assert [(id, dict(what)) for id, what in store.executables()] == [
            (experiment.id, {'snapshot': 'abc'}),
            (experiment.id, {'kept': ['π']}),
        ]

    # Adding units

    def test_a_unit_is_read_as_it_was_written(
        self, store: Store, experiment: ExperimentRecord, clock: SettableClock
    ) -> None:
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

    def test_work_and_auxiliary_units_are_numbered_apart(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        add(store, experiment, a_unit(), a_unit(AUXILIARY), a_unit())
        units = add(store, experiment, a_unit(AUXILIARY), a_unit())
        assert [unit.label for unit in units] == ['a2', '3']
        assert units[0].tasks[0].task.full_name == f'{experiment.id}_auxiliary_train'
        assert [unit.label for unit in store.units(experiment.id)] == ['1', 'a1', '2', 'a2', '3']
        assert [unit.number for unit in store.units(experiment.id, kind=AUXILIARY)] == [1, 2]

    def test_a_unit_whose_identity_is_there_is_not_added_again(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
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

    def test_identities_are_those_of_one_experiment(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        other = store.create_experiment(NewExperiment('t', 'u', 'h'))
        add(store, experiment, a_unit(identity='a'))
        assert [new for _, new in store.add_units(other.id, [a_unit(identity='a')], actor='t')] == [
            True
        ]

    def test_identities_that_differ_in_case_or_blanks_are_different(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        names = ['a', 'A', 'a ', 'ä', 'a\u0308', 'ae', '🙂', '🙃']
        add(store, experiment, *[a_unit(identity=name) for name in names])
        again = store.add_units(experiment.id, [a_unit(identity='A')], actor='test')
        assert [(unit.number, is_new) for unit, is_new in again] == [(2, False)]
        assert [unit.identity for unit in store.units(experiment.id)] == names

    def test_long_and_odd_texts_are_kept(self, store: Store, experiment: ExperimentRecord) -> None:
        text = 'a%s%%(b)s:c \'"\\n{} 🙂\n' * 10_000
        task = a_task(argv=('/bin/echo', text), env={'TEXT': text})
        new = a_unit(tasks=(task,), args={'text': text})
        (unit,) = add(store, experiment, new)
        assert (unit.args, unit.tasks[0].task.env) == ({'text': text}, {'TEXT': text})
        store.move([Change(unit.id, FAILED, message=text, why=text)], actor='test')
        assert store.unit(unit.id).message == text
        assert store.events(unit_id=unit.id)[-1].why == text

    def test_hundreds_of_units_are_added_at_once(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        units = add(store, experiment, *[a_unit(args={'seed': seed}) for seed in range(700)])
        assert [unit.args['seed'] for unit in units] == list(range(700))
        assert [unit.number for unit in units] == list(range(1, 701))
        assert store.counts(experiment.id) == {QUEUED: 700}
        assert store.units(experiment.id) == units

    def test_adding_nothing_is_no_error(self, store: Store, experiment: ExperimentRecord) -> None:
        assert store.add_units(experiment.id, [], actor='test') == []

    def test_the_tasks_of_a_generators_unit_come_later(
        self, store: Store, experiment: ExperimentRecord, clock: SettableClock
    ) -> None:
        (unit,) = add(store, experiment, a_unit(tasks=(), backend='', state=CREATING))
        clock.now += 1
        queued = store.set_tasks(unit.id, [a_task('b')], 'local', state=QUEUED, actor='test')
        assert (queued.state, queued.backend) == (QUEUED, 'local')
        assert [record.task.full_name for record in queued.tasks] == [f'{experiment.id}_1_b']

    def test_a_generators_unit_may_end_without_tasks(
        self, store: Store, experiment: ExperimentRecord, clock: SettableClock
    ) -> None:
        (unit,) = add(store, experiment, a_unit(tasks=(), backend='', state=CREATING))
        ended = store.set_tasks(unit.id, [], '', state=FAILED, actor='test', message='it raised')
        assert (ended.state, ended.message, ended.ended_at) == (FAILED, 'it raised', clock.now)

    def test_a_generators_unit_that_was_stopped_stays_stopped(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        (unit,) = add(store, experiment, a_unit(tasks=(), state=CREATING))
        walk(store, unit, STOPPED)
        left = store.set_tasks(unit.id, [a_task()], 'local', state=QUEUED, actor='test')
        assert (left.state, left.tasks) == (STOPPED, ())

    # Reading units

    def test_the_queue_is_ordered_by_importance_then_age(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        add(store, experiment, *[a_unit(importance=n) for n in (0, 5, -1, 5, 0)])
        queue = store.units(experiment.id, order='queue', states=(QUEUED,), limit=4)
        assert [unit.number for unit in queue] == [2, 4, 1, 5]

    def test_the_queue_of_one_back_end_holds_its_units_only(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        names = ('local', 'slurm', 'local', 'slurm')
        units = add(store, experiment, *[a_unit(backend=name) for name in names])
        add(store, experiment, a_unit(AUXILIARY, backend='slurm'))
        ids = [unit.id for unit in units]

        def queue(**which: Any) -> list[int]:
            return [id for id, _ in store.queue(experiment.id, limit=2, **which) if id in ids]

        assert queue(only='slurm') == [ids[1], ids[3]]
        assert queue(without=('slurm',)) == [ids[0], ids[2]]
        assert queue(without=('slurm', 'local')) == []
        assert len(store.queue(experiment.id, limit=2, without=('slurm',))) == 2

    def test_the_back_ends_of_new_units_are_told(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        assert store.backends(experiment.id, 0) == (frozenset(), 0)
        (unit,) = add(store, experiment, a_unit())
        assert store.backends(experiment.id, 0) == (frozenset({'local'}), unit.id)
        generated, last = add(
            store, experiment, a_unit(backend='', tasks=(), state=CREATING), a_unit()
        )
        assert store.backends(experiment.id, unit.id) == (frozenset({'local'}), generated.id - 1)
        store.set_tasks(generated.id, [a_task()], 'slurm', state=QUEUED, actor='test')
        assert store.backends(experiment.id, generated.id - 1) == (
            frozenset({'local', 'slurm'}),
            last.id,
        )
        assert store.backends(experiment.id, last.id) == (frozenset(), last.id)

    def test_what_units_wait_for_is_told_group_by_group(
        self, store: Store, experiment: ExperimentRecord, clock: SettableClock
    ) -> None:
        names = ('slurm', 'slurm', 'slurm', 'slurm', 'local', 'local', 'local')
        units = add(store, experiment, *[a_unit(backend=name) for name in names])
        for unit in [*units[:3], units[6]]:
            walk(store, unit, STARTING)
        for unit, reason in zip(units, ('Priority', 'Priority', ''), strict=False):
            message = f'waits: {reason}' if reason else 'attempt 1: exited with code 1'
            change = Change(unit.id, STARTING, reference='4711', message=message)
            store.move([change], actor='test')
        walk(store, units[6], RUNNING)
        change = Change(units[3].id, QUEUED, message='waits: slurmctld does not answer')
        store.move([change], actor='test')
        since = clock.now
        assert store.waits(experiment.id) == [
            Wait('slurm', STARTING, True, 'Priority', 2, units[0].id, since),
            Wait('local', QUEUED, False, '', 2, units[4].id, since),
            Wait('slurm', STARTING, True, '', 1, units[2].id, since),
            Wait('slurm', QUEUED, False, 'slurmctld does not answer', 1, units[3].id, since),
        ]
        assert store.waits(experiment.id + 1) == []

    def test_units_are_read_by_state_and_page(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        units = add(store, experiment, *[a_unit() for _ in range(5)])
        store.move([Change(units[i].id, STARTING) for i in (1, 3)], actor='test')
        numbers = [unit.number for unit in store.units(experiment.id, states=[STARTING, RUNNING])]
        assert numbers == [2, 4]
        page = store.units(experiment.id, after_id=units[1].id, limit=2, with_tasks=False)
        assert [(unit.number, unit.tasks) for unit in page] == [(3, ()), (4, ())]
        assert store.units(experiment.id, states=()) == []
        assert [u.number for u in store.units_by_id([units[4].id, 999, units[0].id])] == [5, 1]

    def test_units_are_counted_by_state_and_kind(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        units = add(store, experiment, a_unit(), a_unit(), a_unit(AUXILIARY))
        walk(store, units[0], STOPPED)
        assert store.counts(experiment.id) == {STOPPED: 1, QUEUED: 2}
        assert store.counts(experiment.id, AUXILIARY) == {QUEUED: 1}
        assert store.counts(99) == {}

    @pytest.mark.parametrize(
        'label', ['0', '2', 'a1', '', '01', '1.x', '-1', '+1', '１', ' 1', '../..', '9' * 40]
    )
    def test_a_label_of_no_unit_is_not_found(
        self, store: Store, experiment: ExperimentRecord, unit: UnitRecord, label: str
    ) -> None:
        with pytest.raises(NotFoundError, match=f'experiment {experiment.id} has no unit'):
            store.unit_by_label(experiment.id, label)

    def test_a_label_in_an_unknown_experiment_blames_the_experiment(self, store: Store) -> None:
        with pytest.raises(NotFoundError, match='no experiment 7'):
            store.unit_by_label(7, '1')

    def test_an_unknown_unit_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFoundError):
            store.unit(1)

    def test_an_order_that_does_not_exist_is_an_error(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        with pytest.raises(ValueError, match="order='age'"):
            store.units(experiment.id, order='age')
