"""What every store must do, whatever database is beneath it: a suite to subclass, `open_store` being yours."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmanager.errors import NotFoundError
from xmanager.store import (
    COMPLETED,
    FAILED,
    QUEUED,
    STOPPED,
    Change,
    ExperimentRecord,
    Home,
    NewExperiment,
    Store,
    UnitRecord,
)
from xmanager.testing.store_fixtures import SettableClock, a_unit, add, walk
from xmanager.testing.store_leases_contract import LeasesContract
from xmanager.testing.store_moves_contract import MovesContract
from xmanager.testing.store_units_contract import UnitsContract

__all__ = ['SettableClock', 'StoreContract']


class StoreContract(UnitsContract, MovesContract, LeasesContract):
    """Subclass it in a test module and say, by `open_store`, how a store is opened."""

    # Experiments

    def test_an_experiment_is_read_as_it_was_written(
        self, store: Store, clock: SettableClock
    ) -> None:
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

    def test_an_experiments_folder_is_its_users_alone(self, store: Store, home: Home) -> None:
        made = store.create_experiment(NewExperiment('t', 'u', 'h'))
        assert made.folder == home.experiment_folder(made.id)
        assert made.folder.stat().st_mode & 0o777 == 0o700

    def test_ids_are_sequential_and_never_used_again(self, store: Store) -> None:
        ids = [store.create_experiment(NewExperiment('t', 'u', 'h')).id for _ in range(3)]
        store.delete_experiment(3)
        assert ids == [1, 2, 3]
        assert store.create_experiment(NewExperiment('t', 'u', 'h')).id == 4

    def test_a_folder_that_is_there_already_is_left_to_whoever_made_it(
        self, store: Store, home: Home
    ) -> None:
        home.experiment_folder(1).mkdir(parents=True)
        assert store.create_experiment(NewExperiment('t', 'u', 'h')).id == 2
        assert [e.id for e in store.experiments()] == [2]

    def test_a_deleted_experiment_leaves_nothing_behind(
        self, store: Store, experiment: ExperimentRecord, unit: UnitRecord, home: Home
    ) -> None:
        (experiment.folder / '1' / 'train').mkdir(parents=True)
        store.request(experiment.id, [unit.id], 'stop', actor='test')
        store.delete_experiment(experiment.id)
        assert list(home.experiments_folder.iterdir()) == []
        assert store.experiments() == []
        assert store.units_by_id([unit.id]) == []
        assert store.events() == []
        assert store.requests(experiment.id) == []

    def test_with_an_experiment_go_its_units_files_in_a_folder_that_other_machines_see(
        self, store: Store, experiment: ExperimentRecord, tmp_path: Path
    ) -> None:
        name = f'{store.home_id}-{experiment.id}'
        shared, foreign = tmp_path / 'shared' / name, tmp_path / 'data'
        for folder in (shared / '1' / 'train', foreign / 'kept'):
            folder.mkdir(parents=True)
        (experiment.folder / '1').symlink_to(shared / '1')
        (experiment.folder / '2').symlink_to(foreign / 'kept')
        store.delete_experiment(experiment.id)
        assert [*shared.parent.iterdir()] == []
        assert (foreign / 'kept').is_dir()

    def test_an_experiment_whose_folder_is_gone_can_be_deleted(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        experiment.folder.rmdir()
        store.delete_experiment(experiment.id)
        assert store.experiments() == []

    @pytest.mark.parametrize('id', [0, -1, 2, 10**30])
    def test_an_unknown_experiment_is_not_found(
        self, store: Store, experiment: ExperimentRecord, id: int
    ) -> None:
        with pytest.raises(NotFoundError, match=f'no experiment {id} '):
            store.experiment(id)
        with pytest.raises(NotFoundError):
            store.delete_experiment(id)
        with pytest.raises(NotFoundError):
            store.add_units(id, [a_unit()], actor='test')
        with pytest.raises(NotFoundError):
            store.request(id, None, 'stop', actor='test')

    def test_experiments_are_listed_newest_first_up_to_a_limit(self, store: Store) -> None:
        for title in 'abc':
            store.create_experiment(NewExperiment(title, 'u', 'h'))
        assert [e.title for e in store.experiments()] == ['c', 'b', 'a']
        assert [e.title for e in store.experiments(limit=2)] == ['c', 'b']

    def test_experiments_are_found_by_user_title_and_state(self, store: Store) -> None:
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

    def test_an_experiment_ends_with_its_last_unit(
        self, store: Store, experiment: ExperimentRecord, clock: SettableClock
    ) -> None:
        first, second = add(store, experiment, a_unit(), a_unit())
        clock.now += 10
        walk(store, second, COMPLETED)
        assert store.experiment(experiment.id).counts == {QUEUED: 1, COMPLETED: 1}
        assert store.experiment(experiment.id).ended_at is None
        clock.now += 10
        walk(store, first, FAILED)
        ended = store.experiment(experiment.id)
        assert (ended.state, ended.ended_at) == (FAILED, clock.now)

    # Requests and changes

    def test_a_request_is_open_until_it_is_finished(
        self, store: Store, experiment: ExperimentRecord, unit: UnitRecord, clock: SettableClock
    ) -> None:
        store.request(experiment.id, None, 'restart', actor='ada')
        store.request(experiment.id, [unit.id], 'stop', message='dull', outcome=FAILED, actor='bob')
        restart, stop = store.requests(experiment.id)
        assert (restart.unit_id, restart.verb, restart.outcome) == (None, 'restart', STOPPED)
        assert (stop.unit_id, stop.verb, stop.message) == (unit.id, 'stop', 'dull')
        assert (stop.outcome, stop.actor, stop.at) == (FAILED, 'bob', clock.now)
        store.finish_requests([restart.id])
        assert store.requests(experiment.id) == [stop]

    def test_the_change_token_tells_when_somebody_wrote(
        self, store: Store, home: Home, clock: SettableClock, experiment: ExperimentRecord
    ) -> None:
        before = store.change_token(experiment.id)
        store.experiments()
        assert store.change_token(experiment.id) == before
        with self.open_store(home, clock) as other:
            other.request(experiment.id, None, 'stop', actor='test')
        after = store.change_token(experiment.id)
        assert after != before
        store.finish_requests([1])
        assert store.change_token(experiment.id) != after

    def test_the_change_token_tells_only_of_its_experiment(
        self, store: Store, home: Home, clock: SettableClock, experiment: ExperimentRecord
    ) -> None:
        before = store.change_token(experiment.id), store.foreign_token(experiment.id)
        with self.open_store(home, clock) as other:
            add(other, other.create_experiment(NewExperiment('t', 'u', 'h')), a_unit())
        assert (store.change_token(experiment.id), store.foreign_token(experiment.id)) == before
        store.delete_experiment(experiment.id)
        assert store.change_token(experiment.id) != before[0]

    def test_the_foreign_token_tells_only_of_others(
        self, store: Store, home: Home, clock: SettableClock, experiment: ExperimentRecord
    ) -> None:
        before = store.foreign_token(experiment.id)
        store.request(experiment.id, None, 'stop', actor='test')
        (unit,) = add(store, experiment, a_unit())
        walk(store, unit, STOPPED)
        assert store.foreign_token(experiment.id) == before
        with self.open_store(home, clock) as other:
            other.finish_requests([1])
        assert store.foreign_token(experiment.id) != before

    def test_what_others_write_beside_ones_own_changes_is_not_hidden(
        self, store: Store, home: Home, clock: SettableClock, experiment: ExperimentRecord
    ) -> None:
        (unit,) = add(store, experiment, a_unit())
        token = store.foreign_token(experiment.id)
        with self.open_store(home, clock) as other:
            for _ in range(3):
                store.move([Change(unit.id, QUEUED)], actor='test')
                other.request(experiment.id, None, 'stop', actor='test')
                assert store.foreign_token(experiment.id) != token
                token = store.foreign_token(experiment.id)

    # Pausing

    def test_an_experiment_is_paused_until_it_is_resumed(
        self, store: Store, experiment: ExperimentRecord, clock: SettableClock
    ) -> None:
        paused_at = clock.now
        assert experiment.paused_at is None
        assert store.set_paused(experiment.id, True, actor='ada').paused_at == paused_at
        clock.now += 1
        assert store.set_paused(experiment.id, True, actor='bob').paused_at == paused_at
        assert store.experiment(experiment.id).paused_at == paused_at
        assert store.set_paused(experiment.id, False, actor='ada').paused_at is None
        assert store.set_paused(experiment.id, False, actor='ada').paused_at is None
        assert store.requests(experiment.id) == []

    def test_an_unknown_experiment_is_not_paused(self, store: Store) -> None:
        with pytest.raises(NotFoundError, match='no experiment 7'):
            store.set_paused(7, True, actor='test')

    def test_a_home_keeps_its_name(self, store: Store, home: Home, clock: SettableClock) -> None:
        with self.open_store(home, clock) as other:
            assert other.home_id == store.home_id
        assert len(store.home_id) == 12
