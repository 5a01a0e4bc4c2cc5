"""The contract of a store, continued: one supervisor at a time holds an experiment, and a late one writes nothing."""

from __future__ import annotations

import pytest

from xmanager.errors import FencedError
from xmanager.store import (
    QUEUED,
    STARTING,
    STOPPED,
    Change,
    ExperimentRecord,
    Home,
    Lease,
    NewExperiment,
    Store,
    UnitRecord,
)
from xmanager.testing.store_fixtures import SettableClock, StoreFixtures, a_unit, add

_LONG = 3600.0
_OVER = 0.0


def _claimed(store: Store, experiment: ExperimentRecord, holder: str, seconds: float) -> Lease:
    lease = store.claim(experiment.id, holder, seconds)
    assert lease is not None
    return lease


class LeasesContract(StoreFixtures):
    """Claiming, holding on, letting go, and being shut out."""

    def test_one_holder_at_a_time(
        self, store: Store, home: Home, clock: SettableClock, experiment: ExperimentRecord
    ) -> None:
        lease = _claimed(store, experiment, 'ada 1', _LONG)
        with self.open_store(home, clock) as other:
            assert other.claim(experiment.id, 'bob 2', _LONG) is None
            store.release(lease)
            assert other.claim(experiment.id, 'bob 2', _LONG) is not None
        assert store.claim(experiment.id, 'ada 1', _LONG) is None

    def test_a_lease_that_has_run_out_is_free(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        _claimed(store, experiment, 'ada 1', _OVER)
        assert store.claim(experiment.id, 'bob 2', _LONG) is not None

    def test_a_holder_may_claim_anew_and_voids_what_it_held(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        first = _claimed(store, experiment, 'ada 1', _LONG)
        second = _claimed(store, experiment, 'ada 1', _LONG)
        assert second.fence == first.fence + 1
        assert not store.renew(first, _LONG)
        store.release(first)
        assert store.renew(second, _LONG)

    def test_a_lease_is_held_on_to_until_somebody_else_has_it(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        lease = _claimed(store, experiment, 'ada 1', _OVER)
        assert store.renew(lease, _OVER)  # Late, but nobody has claimed it.
        theirs = _claimed(store, experiment, 'bob 2', _LONG)
        assert not store.renew(lease, _LONG)
        store.release(lease)
        assert store.renew(theirs, _LONG)

    def test_leases_are_those_of_one_experiment(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        other = store.create_experiment(NewExperiment('t', 'u', 'h'))
        _claimed(store, experiment, 'ada 1', _LONG)
        _claimed(store, other, 'bob 2', _LONG)
        assert store.claim(99, 'eve 3', _LONG) is None

    def test_readers_do_not_look_again_because_a_lease_was_renewed(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        before = store.change_token(experiment.id)
        lease = _claimed(store, experiment, 'ada 1', _LONG)
        store.renew(lease, _LONG)
        store.release(lease)
        assert store.change_token(experiment.id) == before

    def test_the_holder_moves_units(
        self, store: Store, experiment: ExperimentRecord, unit: UnitRecord
    ) -> None:
        lease = _claimed(store, experiment, 'ada 1', _LONG)
        store.request(experiment.id, None, 'stop', actor='test')
        token = store.foreign_token(experiment.id)
        assert store.move([Change(unit.id, STARTING)], actor='ada', lease=lease)
        store.finish_requests([1], lease=lease)
        assert store.unit(unit.id).state == STARTING
        assert store.requests(experiment.id) == []
        assert store.foreign_token(experiment.id) == token

    def test_who_was_shut_out_writes_nothing(
        self, store: Store, experiment: ExperimentRecord, unit: UnitRecord
    ) -> None:
        late = _claimed(store, experiment, 'ada 1', _OVER)
        _claimed(store, experiment, 'bob 2', _LONG)
        store.request(experiment.id, None, 'stop', actor='test')
        token = store.change_token(experiment.id), store.foreign_token(experiment.id)
        said = rf'experiment {experiment.id} has another supervisor by now; this one \(ada 1\)'
        with pytest.raises(FencedError, match=said):
            store.move([Change(unit.id, STOPPED)], actor='ada', lease=late)
        with pytest.raises(FencedError):
            store.finish_requests([1], lease=late)
        assert store.unit(unit.id) == unit
        assert len(store.requests(experiment.id)) == 1
        assert (store.change_token(experiment.id), store.foreign_token(experiment.id)) == token

    def test_a_lease_moves_no_unit_of_another_experiment(
        self, store: Store, experiment: ExperimentRecord
    ) -> None:
        (theirs,) = add(store, store.create_experiment(NewExperiment('t', 'u', 'h')), a_unit())
        lease = _claimed(store, experiment, 'ada 1', _LONG)
        assert store.move([Change(theirs.id, STARTING)], actor='ada', lease=lease) == []
        assert store.unit(theirs.id).state == QUEUED
