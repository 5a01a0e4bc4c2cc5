"""What the units of an experiment hold, in agreement with others on the host."""

import attrs
import pytest

from xmanager.backend import Capacity
from xmanager.ledger import Entry, Ledger, Reader, Want, place
from xmanager.supervise.account import Account

HOST = Capacity({'cpu': 1.0, 'local_gpu': 2.0}, {'local_gpu': ('0', '1')})
ONE_CPU = {'job': {'cpu': 1.0}}


@pytest.fixture
def here(tmp_path):
    return place.prepare(tmp_path / 'ledger', named=True)


def entry(owner, **facts):
    return attrs.evolve(Entry(owner, 'ada', '/home', 1, 1, '', capacity=HOST), **facts)


def account(here, owner, strangers=lambda: {}):
    return Account(HOST, owner, Ledger(here, entry(owner)), strangers, clock=lambda: 100.0)


@pytest.mark.parametrize('pipe', ['\0', '/etc/passwd/wake', '/' + 'x' * 5000, '/none', ''])
def test_an_entry_with_a_path_that_makes_no_sense_harms_nobody(here, pipe):
    other = Ledger(here, entry('b', wake_pipe=pipe))
    with other.turn():
        other.write([], [Want('b', 1, '1', 0, 50.0, ONE_CPU)])
    mine = account(here, 'a')
    [start] = mine.admit([Want('a', 1, '1', 1, 60.0, ONE_CPU)], lambda _: 'key')
    mine.give_back(start.want.id)
    assert mine.admit([], lambda _: 'key') == []
    mine.leave()
    mine.close()
    other.close()


def test_devices_that_are_left_alone_are_told_to_those_who_look_on(here):
    mine = account(here, 'a', lambda: {'local_gpu': {'1'}})
    two = {'job': {'local_gpu': 2.0}}
    assert mine.admit([Want('a', 1, '1', 0, 50.0, two)], lambda _: 'key') == []
    reader = Reader(here)
    [seen] = reader.entries()
    assert (seen.strangers, seen.capacity) == ({'local_gpu': ('1',)}, HOST)
    reader.close()
    mine.close()


def test_what_a_predecessor_held_is_not_told_any_longer_than_it_takes_to_say_so(here):
    first = account(here, 'a')
    assert first.admit([Want('a', 1, '1', 0, 50.0, ONE_CPU)], lambda _: 'key')
    first.close()
    successor = account(here, 'a')
    assert not successor.is_settled
    successor.admit([], lambda _: 'key')
    assert successor.is_settled
    reader = Reader(here)
    assert [seen.holds for seen in reader.entries()] == [()]
    reader.close()
    successor.close()
