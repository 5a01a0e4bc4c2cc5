"""What tasks take out of a machine, and what is refused for ever."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager.backend import Capacity, Task
from xmanager.backends.local.requirements import check, demand, devices_needed
from xmanager.errors import ExecutorError

GIB = 1024**3
HOST = Capacity({'cpu': 4.0, 'ram': 8.0 * GIB, 'local_gpu': 2}, {'local_gpu': ('0', '1')})
BARE = Capacity({'cpu': 4.0, 'ram': 8.0 * GIB, 'local_gpu': 0})


def task(name='train', **requirements):
    return Task(name, f'1_1_{name}', ('true',), '/', requirements=requirements)


def group(*requirements):
    return [task(f'job{i}', **one) for i, one in enumerate(requirements)]


def test_a_task_that_states_nothing_takes_one_cpu():
    assert demand([task()], HOST) == {'train': {'cpu': 1.0}}


def test_what_is_stated_is_taken():
    assert demand([task(cpu=0.5, ram=GIB, local_gpu=1, disk=5)], HOST) == {
        'train': {'cpu': 0.5, 'ram': GIB, 'local_gpu': 1}
    }


def test_a_group_of_unstated_tasks_bigger_than_the_host_fits_alone():
    wanted = demand(group(*[{}] * 16), HOST)
    assert sum(amounts['cpu'] for amounts in wanted.values()) == 4.0


def test_unstated_tasks_share_what_the_stated_ones_leave():
    wanted = demand(group({'cpu': 3}, {}, {}), HOST)
    assert [amounts['cpu'] for amounts in wanted.values()] == [3, 0.5, 0.5]


def test_unstated_tasks_beside_one_that_takes_the_whole_host_still_run():
    wanted = demand(group({'cpu': 4}, {}), HOST)
    assert [amounts['cpu'] for amounts in wanted.values()] == [4, 0.0]


def test_one_task_fits_on_half_a_cpu():
    assert demand([task()], Capacity({'cpu': 0.5}))['train']['cpu'] == 0.5


def test_what_fits_exactly_is_accepted():
    check(group({'cpu': 2, 'local_gpu': 1}, {'cpu': 2, 'local_gpu': 1, 'ram': 8 * GIB}), HOST)
    check([task(disk=10**15, ephemeral_storage=1)], BARE)


@pytest.mark.parametrize(
    ('host', 'requirements', 'message'),
    [
        (
            HOST,
            {'local_gpu': 8},
            'Local(requirements=xm.JobRequirements(local_gpu=8)): this host has 2 GPUs. '
            'Ask for at most 2, or set --xm_local_resources.',
        ),
        (
            BARE,
            {'local_gpu': 1},
            'Local(requirements=xm.JobRequirements(local_gpu=1)): this host has no GPU. '
            'Leave local_gpu out, or set --xm_local_resources.',
        ),
        (
            HOST,
            {'cpu': 4.5},
            'Local(requirements=xm.JobRequirements(cpu=4.5)): this host has 4 CPUs. '
            'Ask for at most 4, or set --xm_local_resources.',
        ),
        (
            HOST,
            {'ram': 64 * GIB},
            'Local(requirements=xm.JobRequirements(ram=64 * xm.GiB)): this host has 8 GiB of memory. '
            'Ask for at most 8 * xm.GiB, or set --xm_local_resources.',
        ),
        (
            HOST,
            {'local_gpu': 1.5},
            'Local(requirements=xm.JobRequirements(local_gpu=1.5)): a job shares one GPU or has whole ones. '
            'Ask for a share from 0.01 to less than 1, or for a whole number.',
        ),
        (
            HOST,
            {'local_gpu': 1e-6},
            'Local(requirements=xm.JobRequirements(local_gpu=1e-06)): a job shares one GPU or has whole ones. '
            'Ask for a share from 0.01 to less than 1, or for a whole number.',
        ),
        (
            HOST,
            {'local_gpu': math.nan},
            'Local(requirements=xm.JobRequirements(local_gpu=nan)): expected a finite number that is not negative.',
        ),
        (
            HOST,
            {'local_gpu': -0.5},
            'Local(requirements=xm.JobRequirements(local_gpu=-0.5)): expected a finite number that is not negative.',
        ),
        (
            BARE,
            {'local_gpu': 0.5},
            'Local(requirements=xm.JobRequirements(local_gpu=0.5)): this host has no GPU. '
            'Leave local_gpu out, or set --xm_local_resources.',
        ),
        (
            HOST,
            {'v100': 2},
            'Local(requirements=xm.JobRequirements(v100=2)) (job train): Local has no V100 to give; '
            'the GPUs of this host are asked for by number. Write local_gpu=2.',
        ),
    ],
)
def test_what_can_never_fit_is_explained(host, requirements, message):
    with pytest.raises(ExecutorError) as raised:
        check([task(**requirements)], host)
    assert str(raised.value) == message


def test_a_group_that_can_never_fit_together_is_explained():
    with pytest.raises(ExecutorError) as raised:
        check(group({'local_gpu': 2}, {}, {'local_gpu': 1}), HOST)
    assert str(raised.value) == (
        'jobs job0, job2 start together and ask for 3 GPUs in all: this host has 2 GPUs. '
        'Ask for at most 2, or set --xm_local_resources.'
    )


def test_shares_of_a_gpu_are_accepted_as_long_as_they_fit_on_the_devices():
    check(group(*[{'local_gpu': 0.5}] * 4), HOST)
    check(group({'local_gpu': 1}, *[{'local_gpu': 0.1}] * 10), HOST)
    check(
        group({'local_gpu': 0.3}, {'local_gpu': 0.6}, {'local_gpu': 0.4}, {'local_gpu': 0.7}), HOST
    )


def test_shares_that_fit_by_their_sum_but_on_no_device_are_explained():
    with pytest.raises(ExecutorError) as raised:
        check(group({'local_gpu': 0.6}, {}, {'local_gpu': 0.6}, {'local_gpu': 0.6}), HOST)
    assert str(raised.value) == (
        'jobs job0, job2, job3 start together and ask for 3 GPUs in all (the shares of 0.6, 0.6, 0.6 packed as well as '
        'it goes): this host has 2 GPUs. Ask for at most 2, or set --xm_local_resources.'
    )


@pytest.mark.parametrize(
    ('amounts', 'devices'),
    [
        ((), 0),
        ((0.5,), 1),
        ((0.5, 0.5), 1),
        ((1 / 3, 1 / 3, 1 / 3), 1),
        ((0.1,) * 10, 1),
        ((0.5, 0.51), 2),
        ((0.3, 0.7, 0.6, 0.4), 2),
        ((2, 0.9, 1, 0.2), 5),
    ],
)
def test_fractions_are_packed_and_whole_numbers_have_devices_of_their_own(amounts, devices):
    assert {
        devices_needed(order) for order in itertools.islice(itertools.permutations(amounts), 24)
    } == {devices}


@given(st.lists(st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 1.0, 2.0]), max_size=12))
def test_no_packing_needs_less_than_the_sum_or_more_than_a_device_each(amounts):
    assert math.ceil(sum(amounts) - 1e-6) <= devices_needed(amounts)
    assert devices_needed(amounts) <= sum(max(1, amount) for amount in amounts)


def test_a_share_is_what_a_task_takes():
    assert demand([task(local_gpu=0.25)], HOST)['train'] == {'cpu': 1.0, 'local_gpu': 0.25}
