from __future__ import annotations

from xmanager.backend import Capacity
from xmanager.supervise.admission import Pool

HOST = Capacity({'cpu': 2.0, 'local_gpu': 2.0}, {'local_gpu': ('0', '1')})


def test_fractions_of_a_cpu_add_up():
    pool = Pool(HOST)
    tenth = {'a': {'cpu': 0.1}}
    for _ in range(20):
        assert pool.fits(tenth)
        pool.take(tenth)
    assert not pool.fits(tenth)


def test_what_is_not_there_never_fits():
    assert not Pool(HOST).fits({'a': {'tpu_v2': 1.0}})


def test_all_tasks_of_a_unit_must_fit_together():
    pool = Pool(HOST)
    assert pool.fits({'a': {'cpu': 1.0}, 'b': {'cpu': 1.0}})
    assert not pool.fits({'a': {'cpu': 1.0}, 'b': {'cpu': 1.5}})


def test_devices_come_back_in_their_order():
    pool = Pool(HOST)
    first = {'a': {'local_gpu': 1.0}}
    grant = pool.take(first)
    assert grant == {'a': {'local_gpu': ('0',)}}
    pool.take({'b': {'local_gpu': 1.0}})
    pool.give_back(first, grant)
    assert pool.take(first) == {'a': {'local_gpu': ('0',)}}


def test_an_engine_that_queues_by_itself_always_has_room():
    pool = Pool(None)
    assert pool.fits({'a': {'cpu': 1e9}})
    assert pool.take({'a': {'cpu': 1e9}}) == {}
