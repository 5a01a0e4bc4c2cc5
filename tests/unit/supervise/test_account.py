"""What the units of an experiment hold, in agreement with others on the host."""

import errno
import os
import shutil

import attrs
import pytest

from xmanager.backend import Capacity
from xmanager.errors import LedgerError
from xmanager.ledger import Entry, Hold, Ledger, Reader, Want, place
from xmanager.supervise.account import Account

HOST = Capacity({'cpu': 1.0, 'local_gpu': 2.0}, {'local_gpu': ('0', '1')})
ONE_CPU = {'job': {'cpu': 1.0}}


@pytest.fixture
def here(tmp_path):
    return place.prepare(tmp_path / 'ledger')


def entry(owner, **facts):
    return attrs.evolve(Entry(owner, 'ada', '/home', 1, 1, '', capacity=HOST), **facts)


class Waiting:
    """Units that wait, one for each want."""

    def __init__(self, *wants):
        self._wants = list(wants)

    def wants(self):
        return list(self._wants)

    def take(self, want):
        self._wants.remove(want)
        return want.id, want.unit, f'key of {want.id}'


def account(here, owner, strangers=lambda: {}):
    return Account(HOST, owner, Ledger(here, entry(owner)), strangers, clock=lambda: 100.0)


@pytest.mark.parametrize('pipe', ['\0', '/etc/passwd/wake', '/' + 'x' * 5000, '/none', ''])
def test_an_entry_with_a_path_that_makes_no_sense_harms_nobody(here, pipe):
    other = Ledger(here, entry('b', wake_pipe=pipe))
    with other.turn():
        other.write([], [Want('b', 1, '1', 0, 50.0, ONE_CPU)])
    mine = account(here, 'a')
    [start] = mine.admit(Waiting(Want('a', 1, '1', 1, 60.0, ONE_CPU)))
    mine.give_back(start.want.id)
    assert mine.admit(Waiting()) == []
    mine.leave()
    mine.close()
    other.close()


def test_devices_that_are_left_alone_are_told_to_those_who_look_on(here):
    mine = account(here, 'a', lambda: {'local_gpu': {'1'}})
    two = {'job': {'local_gpu': 2.0}}
    assert mine.admit(Waiting(Want('a', 1, '1', 0, 50.0, two))) == []
    reader = Reader(here)
    [seen] = reader.entries()
    assert (seen.strangers, seen.capacity) == ({'local_gpu': ('1',)}, HOST)
    reader.close()
    mine.close()


def test_what_a_predecessor_held_is_not_told_any_longer_than_it_takes_to_say_so(here):
    first = account(here, 'a')
    assert first.admit(Waiting(Want('a', 1, '1', 0, 50.0, ONE_CPU)))
    first.close()
    successor = account(here, 'a')
    assert not successor.is_settled
    successor.admit(Waiting())
    assert successor.is_settled
    reader = Reader(here)
    assert [seen.holds for seen in reader.entries()] == [()]
    reader.close()
    successor.close()


def told(here):
    reader = Reader(here)
    try:
        return {one.owner: (len(one.holds), len(one.wants)) for one in reader.entries()}
    finally:
        reader.close()


def test_who_waits_no_longer_says_so_and_those_behind_are_woken(here, tmp_path):
    gang = {'job': {'cpu': 1.0, 'local_gpu': 2.0}}
    pipe = tmp_path / 'wake'
    os.mkfifo(pipe)
    listener = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    holder = account(here, 'h')
    assert holder.admit(Waiting(Want('h', 1, '1', 0, 1.0, {'job': {'local_gpu': 1.0}})))
    mine = account(here, 'a')
    assert mine.admit(Waiting(Want('a', 1, '1', 0, 50.0, gang))) == []
    other = Ledger(here, entry('b', wake_pipe=str(pipe)))
    with other.turn():
        other.write([], [Want('b', 1, '1', 0, 60.0, {'job': {'local_gpu': 1.0}})])
    assert not mine.is_settled
    assert mine.admit(Waiting()) == []
    assert mine.is_settled
    assert told(here) == {'h': (1, 0), 'a': (0, 0), 'b': (0, 1)}
    assert os.read(listener, 10) == b'.'
    os.close(listener)
    for one in (holder, mine, other):
        one.close()


def test_what_could_not_be_written_is_not_held(here, monkeypatch):
    mine = account(here, 'a')
    wants = [Want('a', 1, '1', 0, 50.0, ONE_CPU)]

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, '_replace', full)
        with pytest.raises(LedgerError, match='cannot be used: No space left on device'):
            mine.admit(Waiting(*wants))
    assert [start.want.id for start in mine.admit(Waiting(*wants))] == [1]
    mine.close()


def test_what_is_held_is_told_again_where_the_ledger_was_removed(here):
    now = [100.0]
    mine = Account(HOST, 'a', Ledger(here, entry('a')), lambda: {}, clock=lambda: now[0])
    mine.admit(Waiting(Want('a', 1, '1', 0, 50.0, ONE_CPU)))
    assert mine.is_settled
    shutil.rmtree(here.folder)
    now[0] += 6
    mine.admit(Waiting())
    assert told(here) == {'a': (1, 0)}
    mine.close()


def test_nothing_is_kept_for_who_may_not_take_it(here):
    two = Capacity({'cpu': 2.0})
    limited = Ledger(here, entry('b', capacity=Capacity({'cpu': 1.0})))
    with limited.turn():
        limited.write(
            [Hold('of-b', '1', ONE_CPU, {}, 1.0)],
            [Want('b', 2, '2', 0, 10.0, ONE_CPU, count=5)],
        )
    mine = Account(two, 'a', Ledger(here, entry('a')), lambda: {}, clock=lambda: 100.0)
    assert len(mine.admit(Waiting(Want('a', 1, '1', 0, 50.0, ONE_CPU)))) == 1
    mine.close()
    limited.close()


def test_what_another_may_take_is_left_to_him_if_he_came_first(here):
    two = Capacity({'cpu': 2.0})
    limited = Ledger(here, entry('b', capacity=Capacity({'cpu': 1.0})))
    with limited.turn():
        limited.write([], [Want('b', 2, '2', 0, 10.0, ONE_CPU, count=5)])
    mine = Account(two, 'a', Ledger(here, entry('a')), lambda: {}, clock=lambda: 100.0)
    wants = [Want('a', n, str(n), 0, 50.0 + n, ONE_CPU) for n in (1, 2)]
    assert len(mine.admit(Waiting(*wants))) == 1
    mine.close()
    limited.close()
