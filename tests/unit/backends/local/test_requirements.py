"""What tasks take out of a machine, and what is refused for ever."""

import pytest

from xmanager.backend import Capacity, Task
from xmanager.backends.local.requirements import check, demand
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
            {'local_gpu': 0.5},
            'Local(requirements=xm.JobRequirements(local_gpu=0.5)): a GPU is given whole. '
            'Ask for a whole number of GPUs.',
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
