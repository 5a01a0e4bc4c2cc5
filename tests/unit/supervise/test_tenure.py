"""Who supervises where one database serves several hosts."""

from __future__ import annotations

import pytest
from tests.unit.supervise.conftest import World

from xmanager.backend import Task
from xmanager.errors import FencedError, UsageError
from xmanager.store import NewUnit
from xmanager.supervise.supervisor import Supervisor
from xmanager.supervise.tenure import SECONDS, Tenure, holder_of

HERE, THERE = 'machine-a ada /home/xm', 'machine-b bob /home/xm'


def begin(world: World, me: str = HERE, wait=lambda seconds: None) -> Tenure | None:
    return Tenure.begin(world.its_store, world.experiment_id, wait, clock=world.clock, me=me)


def begin_and_expire(world: World, me: str = HERE) -> Tenure:
    """A supervisor that has not been heard of for longer than its lease."""
    tenure = begin(world, me)
    assert tenure is not None
    world.store.renew(tenure.lease, -1.0)
    return tenure


def add_local(world: World) -> int:
    task = Task(name='job', full_name='', argv=('true',), cwd='/')
    new = NewUnit(kind='work', backend='local', tasks=(task,))
    [(record, _)] = world.store.add_units(world.experiment_id, [new], actor='test')
    return record.id


def test_only_one_host_supervises_and_the_next_waits_until_it_lets_go(world: World):
    world.add('run')
    first = begin(world)
    assert first is not None
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            first.end()

    second = begin(world, THERE, wait)
    assert second is not None
    assert waits == [1.0] * 3


def test_who_waits_goes_when_nothing_is_left_to_do(world: World):
    assert begin(world) is not None
    assert begin(world, THERE) is None


def test_the_successor_on_the_same_machine_need_not_wait(world: World):
    world.add('run')
    assert begin(world) is not None
    assert begin(world) is not None


def test_a_lease_that_ran_out_is_taken_over_and_the_late_one_writes_nothing(world: World):
    unit = world.add('run')
    late = begin_and_expire(world)
    supervisor = Supervisor(
        world.its_store,
        world.experiment_id,
        lambda name: world.backend,
        lease=late.lease,
        clock=world.clock,
    )
    supervisor.step()
    supervisor.rest()
    assert world.unit(unit).state == 'running'
    world.clock.now += SECONDS
    assert begin(world, THERE) is not None
    world.store.request(world.experiment_id, None, 'stop', actor='test')
    with pytest.raises(FencedError, match='has another supervisor by now'):
        supervisor.step()
    assert world.unit(unit).state == 'running'
    with pytest.raises(FencedError):
        late.keep()


def test_a_lease_is_renewed_in_time(world: World):
    world.add('run')
    tenure = begin(world)
    assert tenure is not None
    for _ in range(10):
        world.clock.now += SECONDS / 2
        tenure.keep()
    assert world.store.holder(world.experiment_id).is_live


def test_local_units_are_not_taken_over_by_another_machine(world: World):
    add_local(world)
    begin_and_expire(world, THERE)
    with pytest.raises(
        UsageError, match=r'has local units on bob, .* `xmanager supervise --here 1`'
    ):
        begin(world)
    assert world.store.holder(world.experiment_id).name == THERE


def test_local_units_can_be_taken_over_on_purpose(world: World):
    add_local(world)
    begin_and_expire(world, THERE)
    assert world.store.claim(world.experiment_id, HERE, 0.0) is not None
    assert begin(world) is not None


def test_units_of_an_engine_elsewhere_can_be_supervised_from_any_machine(world: World):
    world.add('run')
    begin_and_expire(world, THERE)
    assert begin(world) is not None


def test_a_supervisor_is_called_by_its_machine_host_and_home(world: World):
    machine, host, home = holder_of(world.store.home).split(' ')
    assert machine
    assert host
    assert home == str(world.store.home.path.resolve())
