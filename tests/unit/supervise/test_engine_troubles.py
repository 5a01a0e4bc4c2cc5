"""Engines that raise in place of answering: nothing is concluded, and nobody else is held up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from xmanager.backend import Backend, TaskObservation
from xmanager.errors import ExecutorError, UnreachableError, UsageError
from xmanager.store.presence import Presence
from xmanager.supervise.supervisor import Supervisor
from xmanager.testing.fake_backend import FakeBackend

from .conftest import World, new_world

_DOWN = UnreachableError('slurmctld does not answer')


@attrs.define
class Mixed:
    """An experiment of a cluster's units ('fake') and of this machine's ('host')."""

    world: World
    host: FakeBackend

    def begin(self, trouble: Exception | None = None) -> Supervisor:
        """Another supervisor; `trouble` is what loading the cluster's back end raises."""

        def load(name: str) -> Backend:
            if name == 'fake' and trouble is not None:
                raise trouble
            return {'fake': self.world.backend, 'host': self.host}[name]

        world = self.world
        supervisor = Supervisor(world.its_store, world.experiment_id, load, clock=world.clock)
        world.supervisor = supervisor
        return supervisor


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Mixed]:
    for world in new_world(tmp_path, None):
        mixed = Mixed(world, FakeBackend(clock=world.clock, amounts={'cpu': 2.0}))
        mixed.begin()
        yield mixed


def test_units_of_this_machine_go_on_while_the_other_engine_can_not_be_used(mixed: Mixed):
    world = mixed.world
    far = world.add('wait 5 run 50')
    world.settle()
    mixed.begin(UsageError('--xm_slurm_qos=!: makes no sense')).adopt()
    near = world.add('exit 0', backend='host')
    world.settle()
    assert world.states([far, near]) == ['starting', 'completed']
    mixed.begin().adopt()
    world.later(60)
    assert world.unit(far).state == 'completed'


def test_a_supervisor_of_units_of_an_engine_that_can_not_be_used_says_so_and_ends(mixed: Mixed):
    far = mixed.world.add('wait 5 run 50')
    mixed.world.settle()
    mixed.begin(UsageError('--xm_slurm_qos=!: makes no sense')).adopt()
    with pytest.raises(ExecutorError, match='xm_slurm_qos'):
        mixed.world.supervisor.has_work()
    assert mixed.world.unit(far).state == 'starting'


def test_what_may_have_been_submitted_is_looked_for_before_it_is_submitted_again(cluster: World):
    units = [cluster.add('wait 500 exit 0') for _ in range(2)]
    submit = cluster.backend.submit

    def submit_and_doubt(requests):
        cluster.backend.submit = submit  # type: ignore[method-assign]
        submit(requests[:1])
        raise _DOWN

    cluster.backend.submit = submit_and_doubt  # type: ignore[method-assign]
    cluster.backend.faults['find'] = [_DOWN]
    cluster.settle()
    assert cluster.states(units) == ['starting', 'starting']
    assert cluster.unit(units[0]).message == 'waits: slurmctld does not answer'
    cluster.later(30)
    cluster.later(30)
    assert cluster.states(units) == ['starting', 'starting']
    assert [len({r.unit.key}) for r in cluster.engine.requests] == [1, 1]
    assert all(cluster.unit(id).reference for id in units)


def test_what_is_found_after_all_is_not_said_to_wait_for_its_engine(cluster: World):
    unit = cluster.add('wait 500 exit 0')
    submit = cluster.backend.submit

    def submit_and_doubt(requests):
        submit(requests)
        raise _DOWN

    def observe_without_a_reason(refs):
        return {ref: {'job0': TaskObservation('waiting')} for ref in refs}

    cluster.backend.submit = submit_and_doubt  # type: ignore[method-assign]
    cluster.backend.observe = observe_without_a_reason  # type: ignore[method-assign]
    cluster.settle()
    assert cluster.unit(unit).message == 'waits: slurmctld does not answer'
    cluster.later(30)
    assert (cluster.unit(unit).state, cluster.unit(unit).message) == ('starting', '')


def test_an_engine_of_which_it_is_not_known_what_it_has_is_given_nothing(cluster: World):
    cluster.add('wait 500 exit 0')
    cluster.backend.faults = {'submit': [_DOWN], 'find': [_DOWN] * 2}
    cluster.settle()
    cluster.add('wait 500 exit 0')
    cluster.later(4)
    assert cluster.engine.submissions == []
    assert 0 < cluster.supervisor.patience() <= 1
    for _ in range(3):
        cluster.later(30)
    assert sum(cluster.engine.submissions) == 2
    assert len(cluster.engine.requests) == 2


def test_what_may_have_been_submitted_is_stopped_once_it_is_found(cluster: World):
    units = [cluster.add('wait 500 exit 0') for _ in range(2)]
    submit = cluster.backend.submit

    def submit_and_doubt(requests):
        submit(requests[:1])
        raise _DOWN

    cluster.backend.submit = submit_and_doubt  # type: ignore[method-assign]
    cluster.backend.faults['find'] = [_DOWN] * 2
    cluster.settle()
    cluster.store.request(cluster.experiment_id, None, 'stop', actor='somebody')
    cluster.settle()
    assert cluster.states(units) == ['starting', 'starting']
    for _ in range(4):
        cluster.later(30)
    assert cluster.states(units) == ['stopped', 'stopped']
    assert [ref for ref, _ in cluster.engine.stops][:1] == ['fake-1']
    assert len(cluster.engine.requests) == 1


@pytest.mark.parametrize('error', [_DOWN, OSError('No space left on device')])
@pytest.mark.parametrize('verb', ['submit', 'observe', 'find'])
def test_an_engine_that_raises_is_asked_again(cluster: World, verb: str, error: Exception):
    unit = cluster.add('wait 1 run 5')
    cluster.backend.faults[verb] = [error] * 3
    for _ in range(8):
        cluster.later(30)
    assert cluster.unit(unit).state == 'completed'
    assert len(cluster.engine.requests) == 1


def test_an_engine_that_could_not_be_told_to_stop_is_told_again(cluster: World):
    unit = cluster.add('run')
    cluster.settle()
    cluster.backend.faults['stop'] = [_DOWN] * 2
    cluster.store.request(cluster.experiment_id, [unit], 'stop', actor='somebody')
    cluster.settle()
    cluster.settle()
    assert cluster.unit(unit).state == 'stopped'


@pytest.mark.parametrize(
    ('error', 'state'), [(_DOWN, 'queued'), (ExecutorError('has no program'), 'failed')]
)
def test_a_unit_that_can_not_be_rendered_holds_up_no_other(
    cluster: World, error: Exception, state: str
):
    render = cluster.backend.render

    def render_all_but_one(unit, grant):
        if unit.label == '1':
            raise error
        return render(unit, grant)

    cluster.backend.render = render_all_but_one  # type: ignore[method-assign]
    units = [cluster.add('wait 5 exit 0') for _ in range(2)]
    cluster.settle()
    assert cluster.states(units) == [state, 'starting']
    assert str(error) in cluster.unit(units[0]).message


def test_an_auxiliary_unit_of_which_nothing_is_known_is_ended_once_it_is_found(cluster: World):
    launching = Presence(cluster.store.home.experiment_folder(cluster.experiment_id)).launch()
    auxiliary = cluster.add('run', kind='auxiliary')
    submit = cluster.backend.submit

    def submit_and_doubt(requests):
        cluster.backend.submit = submit  # type: ignore[method-assign]
        submit(requests)
        raise _DOWN

    cluster.backend.submit = submit_and_doubt  # type: ignore[method-assign]
    cluster.backend.faults['find'] = [_DOWN] * 2
    cluster.settle()
    cluster.later(1)
    launching.release()
    cluster.settle()
    assert cluster.unit(auxiliary).state == 'starting'
    for _ in range(3):
        cluster.later(30)
    assert cluster.unit(auxiliary).state == 'completed'
    assert [ref for ref, _ in cluster.engine.stops] == ['fake-1']
