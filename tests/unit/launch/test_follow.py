import asyncio
import itertools

import pytest
from tests.unit.launch.conftest import in_time

from xmanager.errors import NotFoundError, StoreError
from xmanager.launch import follow
from xmanager.launch.follow import Follower
from xmanager.store import Change, Store


class Watcher:
    """Writes down what it is told."""

    def __init__(self):
        self.told = []
        self.ticks = 0
        self.waited = []

    def started(self, unit):
        assert unit.tasks
        self.told.append(('started', unit.number))

    def tried(self, unit, why):
        self.told.append((why, unit.number))

    def ended(self, unit):
        assert unit.tasks or unit.state not in ('failed', 'lost')
        self.told.append((unit.state, unit.number))

    def waits(self, waits):
        self.waited.append([(wait.reason, wait.count) for wait in waits])

    def tick(self):
        self.ticks += 1


class BrokenWatcher(Watcher):
    def tick(self):
        raise OSError('the terminal is gone')


@pytest.fixture
def watcher():
    return Watcher()


@pytest.fixture
def follower(lab, watcher):
    return Follower(lab.store, lab.experiment.id, watcher)


async def looked(watcher, times=2):
    """Returns once the follower has looked again."""
    enough = watcher.ticks + times
    async with asyncio.timeout(60):
        while watcher.ticks < enough:
            await asyncio.sleep(0)


def test_a_unit_that_has_ended_before_it_is_watched_is_told(lab, follower, watcher):
    async def main():
        unit = lab.add('completed')
        follower.watch(unit.id)
        await in_time(follower.all_ended([unit.id]))

    asyncio.run(main())
    assert watcher.told == [('started', 1), ('completed', 1)]


def test_a_unit_that_runs_already_when_it_is_watched_is_told_to_have_started(
    lab, follower, watcher
):
    async def main():
        unit = lab.add('running')
        follower.watch(unit.id)
        await looked(watcher)
        assert watcher.told == [('started', 1)]
        lab.move(unit, 'failed')
        await in_time(follower.all_ended([unit.id]))

    asyncio.run(main())
    assert watcher.told == [('started', 1), ('failed', 1)]


def test_each_end_is_told_once_however_often_one_looks(lab, follower, watcher):
    async def main():
        units = [lab.add() for _ in range(20)]
        for unit in units:
            follower.watch(unit.id)
        for unit in units:
            for state in ('starting', 'running', 'completed'):
                lab.move(unit, state)
            follower.look()
        await in_time(follower.all_ended([unit.id for unit in units]))
        follower.look()

    asyncio.run(main())
    ends = [number for what, number in watcher.told if what == 'completed']
    assert ends == [*range(1, 21)]


def test_what_ends_between_two_looks_is_told_in_the_order_in_which_it_was_added(
    lab, follower, watcher
):
    async def main():
        units = [lab.add(state) for state in ('running', 'queued', 'running', 'queued')]
        for unit in units:
            follower.watch(unit.id)
        follower.look()
        for unit, state in zip(units, ('completed', 'stopped', 'lost', 'stopped'), strict=True):
            lab.move(unit, state)
        await in_time(follower.all_ended([unit.id for unit in units]))

    asyncio.run(main())
    ends = [told for told in watcher.told if told[0] != 'started']
    assert ends == [('completed', 1), ('stopped', 2), ('lost', 3), ('stopped', 4)]


@pytest.mark.parametrize(
    ('ended', 'left', 'waited_for', 'pause'),
    [(1, 100, 0, 0.01), (100, 100, 1, 0.1), (100, 1, 0, 0.01), (100, 100, 2, 0.01)],
)
def test_looks_are_rare_while_very_many_units_end(
    lab, follower, watcher, monkeypatch, ended, left, waited_for, pause
):
    async def main():
        units = [lab.add() for _ in range(ended + left)]
        for unit in units:
            follower.watch(unit.id)
        waiting = [asyncio.ensure_future(follower.ended(u.id)) for u in units[ended:][:waited_for]]
        await sleep(0)
        lab.store.move([Change(unit.id, 'stopped') for unit in units[:ended]], actor='test')
        pauses.clear()
        while not pauses:
            await sleep(0)
        follower.stop()
        for task in waiting:
            task.cancel()

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    pauses: list[float] = []
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, 'sleep', note)
    asyncio.run(main())
    assert len(watcher.told) == ended
    assert pauses[0] == pause


def test_what_another_process_writes_is_seen(lab, watcher, follower):
    async def main():
        unit = lab.add()
        follower.watch(unit.id)
        await looked(watcher)
        lab.move(unit, 'stopped', message='enough')
        return await in_time(follower.ended(unit.id))

    with Store.open(lab.home, clock=lab.clock) as theirs:
        lab.store, ours = theirs, lab.store
        record = asyncio.run(main())
        lab.store = ours
    assert (record.state, record.message) == ('stopped', 'enough')


def test_units_that_nobody_watches_are_not_told_of(lab, follower, watcher):
    async def main():
        watched, other = lab.add(), lab.add()
        follower.watch(watched.id)
        lab.move(other, 'stopped')
        lab.move(watched, 'stopped')
        await in_time(follower.all_ended([watched.id]))

    asyncio.run(main())
    assert watcher.told == [('stopped', 1)]


def test_one_may_wait_for_units_that_are_not_watched(lab, follower, watcher):
    async def main():
        ended, coming = lab.add('completed'), lab.add('running')
        waiting = asyncio.ensure_future(follower.ended(coming.id))
        assert (await in_time(follower.ended(ended.id))).state == 'completed'
        await looked(watcher)
        lab.move(coming, 'failed')
        return await in_time(waiting)

    assert asyncio.run(main()).state == 'failed'
    assert watcher.told == []


def test_all_who_wait_for_one_unit_are_told(lab, follower):
    async def main():
        unit = lab.add('running')
        waiting = [asyncio.ensure_future(follower.ended(unit.id)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        lab.move(unit, 'completed')
        return await in_time(asyncio.gather(*waiting[1:]))

    assert [record.state for record in asyncio.run(main())] == ['completed'] * 2


def test_all_ended_returns_only_after_the_watcher_was_told_of_all(lab, follower, watcher):
    async def main():
        units = [lab.add(state) for state in ('completed', 'failed', 'lost', 'stopped')]
        for unit in units:
            follower.watch(unit.id)
        records = await in_time(follower.all_ended([unit.id for unit in units]))
        return [record.state for record in records], len(watcher.told)

    states, told = asyncio.run(main())
    assert states == ['failed', 'lost', 'stopped']  # Of the completed one there is nothing to say.
    assert told == 4 + 3  # The stopped one never started.


def test_waiting_for_a_unit_that_is_not_there_raises_each_time(lab, follower):
    async def main():
        for _ in range(2):
            with pytest.raises(NotFoundError):
                await in_time(follower.ended(99))

    asyncio.run(main())


def test_an_error_reaches_all_who_wait(lab, follower):
    async def main():
        units = [lab.add('running') for _ in range(3)]
        lab.store.faults['events'] = [StoreError('the disk is full')]
        waiting = (follower.ended(unit.id) for unit in units)
        return await in_time(asyncio.gather(*waiting, return_exceptions=True))

    assert [str(error) for error in asyncio.run(main())] == ['the disk is full'] * 3


def test_an_error_of_the_watcher_reaches_whoever_waits(lab):
    async def main():
        unit = lab.add('running')
        follower = Follower(lab.store, lab.experiment.id, BrokenWatcher())
        with pytest.raises(OSError, match='the terminal is gone'):
            await in_time(follower.ended(unit.id))

    asyncio.run(main())


@pytest.mark.parametrize('method', ['events', 'standing', 'units_by_id'])
def test_nothing_is_missed_when_one_look_fails(lab, follower, watcher, method):
    async def main():
        fresh, watched = lab.add(), lab.add()
        follower.watch(watched.id)
        follower.look()
        follower.watch(fresh.id)
        for unit in (fresh, watched):
            lab.move(unit, 'stopped')
        lab.store.faults[method] = [StoreError('locked')]
        with pytest.raises(StoreError, match='locked'):
            follower.look()
        await in_time(follower.all_ended([fresh.id, watched.id]))

    asyncio.run(main())
    assert sorted(watcher.told) == [('stopped', 1), ('stopped', 2)]


def test_one_can_wait_again_after_an_error(lab, follower):
    async def main():
        unit = lab.add('running')
        lab.store.faults['events'] = [StoreError('locked')]
        with pytest.raises(StoreError, match='locked'):
            await in_time(follower.ended(unit.id))
        lab.store.faults['unit'] = [StoreError('locked still')]
        with pytest.raises(StoreError, match='locked still'):
            await in_time(follower.ended(unit.id))
        lab.move(unit, 'completed')
        return await in_time(follower.ended(unit.id))

    assert asyncio.run(main()).state == 'completed'


def test_somebody_is_asked_to_look_after_the_supervisor_when_it_is_silent(lab, monkeypatch):
    async def main():
        unit = lab.add()
        revived = asyncio.Event()
        follower = Follower(lab.store, lab.experiment.id, revive=revived.set)
        waiting = asyncio.ensure_future(follower.ended(unit.id))
        await in_time(revived.wait())
        lab.move(unit, 'stopped')
        await in_time(waiting)

    monkeypatch.setattr(follow, '_SILENCE', 0.0)
    asyncio.run(main())


def test_what_keeps_the_supervisor_from_being_revived_is_told(lab, monkeypatch):
    def revive():
        raise StoreError('it ends at once, each time')

    async def main():
        unit = lab.add()
        follower = Follower(lab.store, lab.experiment.id, revive=revive)
        with pytest.raises(StoreError, match='it ends at once'):
            await in_time(follower.ended(unit.id))

    monkeypatch.setattr(follow, '_SILENCE', 0.0)
    asyncio.run(main())


def test_nobody_looks_when_nobody_waits(lab, follower, watcher):
    async def main():
        unit = lab.add('completed')
        follower.watch(unit.id)
        await in_time(follower.all_ended([unit.id]))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await in_time(asyncio.gather(*others))

    asyncio.run(main())


def test_a_follower_that_was_stopped_tells_no_more(lab, follower, watcher):
    async def main():
        unit = lab.add()
        follower.watch(unit.id)
        await looked(watcher)
        follower.stop()
        lab.move(unit, 'stopped')
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await in_time(asyncio.gather(*others, return_exceptions=True))

    asyncio.run(main())
    assert watcher.told == []


# Units of engines that queue by themselves.


def hand_over(lab, unit, reason='Priority'):
    """As a supervisor does once the engine has taken it: no event tells of that."""
    if unit.state == 'queued':
        lab.move(unit, 'starting')
    change = Change(unit.id, 'starting', reference='4711', message=f'waits: {reason}')
    lab.store.move([change], actor='test')
    return lab.store.unit(unit.id)


def test_units_are_taken_once_their_engine_has_them_or_they_have_ended(lab, follower, watcher):
    async def main():
        units = [lab.add(backend='slurm') for _ in range(600)]
        early = hand_over(lab, lab.add(backend='slurm'))
        for unit in [*units, early]:
            follower.watch(unit.id, queues_itself=True)
        taken = asyncio.create_task(follower.all_taken([unit.id for unit in [*units, early]]))
        for unit in units[2:]:
            hand_over(lab, unit)
        await looked(watcher)
        lab.move(units[0], 'starting')
        await looked(watcher)
        assert not taken.done()
        lab.move(units[1], 'failed', message='sbatch: error: invalid partition')
        lab.move(units[0], 'queued')
        await looked(watcher)
        assert not taken.done()
        hand_over(lab, lab.store.unit(units[0].id))
        await in_time(taken)
        follower.stop()

    asyncio.run(main())
    assert watcher.told == [('failed', 2)]


def test_a_unit_that_is_to_be_tried_again_was_taken(lab, follower):
    async def main():
        unit = hand_over(lab, lab.add(backend='slurm'))
        lab.move(unit, 'restarting')
        await in_time(follower.all_taken([unit.id]))

    asyncio.run(main())


def test_whoever_waits_for_submission_raises_what_keeps_from_looking(lab, follower):
    async def main():
        unit = lab.add(backend='slurm')
        lab.store.faults['standing'] = [StoreError('the disk is full')]
        with pytest.raises(StoreError, match='the disk is full'):
            await in_time(follower.all_taken([unit.id]))

    asyncio.run(main())


def test_what_units_wait_for_is_told_when_it_changes(lab, follower, watcher):
    async def main():
        units = [lab.add(backend='slurm') for _ in range(3)]
        for unit in units:
            hand_over(lab, unit)
            follower.watch(unit.id, queues_itself=True)
        async with asyncio.timeout(60):
            while [('Priority', 3)] not in watcher.waited:
                await asyncio.sleep(0.01)
            hand_over(lab, lab.store.unit(units[0].id), 'Resources')
            while [('Priority', 2), ('Resources', 1)] not in watcher.waited:
                await asyncio.sleep(0.01)
        follower.stop()

    asyncio.run(main())
    assert all(a != b for a, b in itertools.pairwise(watcher.waited))


def test_of_local_units_nothing_is_told_of_what_they_wait_for(lab, follower, watcher):
    async def main():
        unit = lab.add()
        follower.watch(unit.id)
        lab.move(unit, 'stopped')
        await in_time(follower.all_ended([unit.id]))

    asyncio.run(main())
    assert watcher.waited == []
