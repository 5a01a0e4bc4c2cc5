import asyncio
import threading
from typing import Any

import pytest
from tests.unit.launch.conftest import in_time

from xmanager.errors import StoreError
from xmanager.launch.writer import UnitWriter
from xmanager.testing.store_fixtures import a_unit


@pytest.fixture
def written():
    """Grows by one for each transaction."""
    return []


@pytest.fixture
def writer(lab, written):
    return UnitWriter(lab.store, lab.experiment.id, lambda: written.append(1))


def test_what_is_added_together_is_written_in_a_handful_of_transactions(lab, writer, written):
    async def main():
        return await in_time(asyncio.gather(*(writer.add(a_unit()) for _ in range(200))))

    added = asyncio.run(main())
    assert len(written) <= 4
    assert all(is_new for _, is_new in added)
    assert len(lab.store.units(lab.experiment.id)) == 200


def test_units_are_numbered_in_the_order_in_which_they_were_added(writer):
    async def main():
        first = await in_time(writer.add(a_unit(args={'i': 0})))
        rest = (writer.add(a_unit(args={'i': i})) for i in range(1, 50))
        return [first, *await in_time(asyncio.gather(*rest))]

    added = asyncio.run(main())
    assert [(unit.number, unit.args['i']) for unit, _ in added] == [(i + 1, i) for i in range(50)]


def test_what_is_added_during_a_transaction_is_written_by_the_next(lab):
    async def main():
        waiting: list[asyncio.Future[Any]] = []

        def add_another() -> None:
            if len(waiting) < 3:
                waiting.append(asyncio.ensure_future(ours.add(a_unit())))

        ours = UnitWriter(lab.store, lab.experiment.id, add_another)
        add_another()
        while not all(future.done() for future in waiting):
            await in_time(asyncio.gather(*waiting))
        return [future.result()[0].number for future in waiting]

    assert asyncio.run(main()) == [1, 2, 3]
    assert [method for method, _ in lab.store.calls].count('add_units') == 3


def test_a_unit_that_was_added_before_is_returned_as_it_was(writer):
    async def main():
        both = (writer.add(a_unit(identity='x')), writer.add(a_unit(identity='x')))
        return [*await in_time(asyncio.gather(*both)), await in_time(writer.add(a_unit()))]

    first, again, other = asyncio.run(main())
    assert (first[1], again[1], other[1]) == (True, False, True)
    assert (first[0].number, again[0].number, other[0].number) == (1, 1, 2)


def test_whoever_is_told_of_a_transaction_sees_its_units(lab):
    seen = []
    store, id = lab.store, lab.experiment.id
    writer = UnitWriter(store, id, lambda: seen.append(len(store.units(id))))
    asyncio.run(in_time(writer.add(a_unit())))
    assert seen == [1]


def test_an_error_reaches_everyone_who_waits_and_the_next_add_works(lab, writer, written):
    async def main():
        lab.store.faults['add_units'] = [StoreError('no room')]
        adds = (writer.add(a_unit()) for _ in range(5))
        errors = await in_time(asyncio.gather(*adds, return_exceptions=True))
        assert [str(error) for error in errors] == ['no room'] * 5
        assert not written
        return await in_time(writer.add(a_unit()))

    unit, is_new = asyncio.run(main())
    assert (unit.number, is_new, len(written)) == (1, True, 1)


def test_a_supervisor_that_can_not_be_woken_is_no_failure_of_what_was_written(lab, caplog):
    def wake():
        raise StoreError('cannot wake')

    async def main():
        writer = UnitWriter(lab.store, lab.experiment.id, wake)
        return await in_time(asyncio.gather(*(writer.add(a_unit()) for _ in range(2))))

    assert [unit.number for unit, _ in asyncio.run(main())] == [1, 2]
    assert 'cannot wake' in caplog.text


def test_a_unit_that_can_not_be_written_leaves_the_others_be(lab, writer, written):
    async def main():
        bad = a_unit(identity=5)
        adds = (writer.add(unit) for unit in (a_unit(), bad, a_unit(), a_unit(identity='x')))
        return await in_time(asyncio.gather(*adds, return_exceptions=True))

    first, bad, second, third = asyncio.run(main())
    assert isinstance(bad, Exception)
    assert [unit.number for unit, _ in (first, second, third)] == [1, 2, 3]
    assert len(written) == 1


def test_nobody_is_told_of_a_unit_that_was_not_written(writer, written):
    async def main():
        return await asyncio.gather(writer.add(a_unit(identity=5)), return_exceptions=True)

    [error] = asyncio.run(main())
    assert isinstance(error, Exception)
    assert not written


def test_an_add_that_was_given_up_does_not_hinder_the_others(writer):
    async def main():
        first, second = (asyncio.ensure_future(writer.add(a_unit())) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        unit, _ = await in_time(second)
        assert first.cancelled()
        return unit.number

    assert asyncio.run(main()) == 2


def test_the_event_loop_goes_on_while_the_database_is_written(lab, writer):
    asyncio.run(in_time(writer.add(a_unit())))
    [thread] = [thread for method, thread in lab.store.calls if method == 'add_units']
    assert thread is not threading.main_thread()
