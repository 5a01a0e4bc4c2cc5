"""What a host has is read from trees like /proc, /sys and /dev, and may be overridden by a setting."""

import os

import pytest

from xmanager.backends.local.machine import detect, parse_setting
from xmanager.errors import ExecutorError

GIB = 1024**3


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of 8 CPUs and 16 GiB without limits; call it with more files."""
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(8)))

    def add(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    add({'proc/meminfo': f'MemTotal: {16 * 1024**2} kB\nMemFree: 1 kB\n'})
    return add


def test_without_limits_it_has_what_the_kernel_says(host):
    machine = detect({}, host({}))
    assert (machine.cpus, machine.ram, machine.gpus) == (8.0, 16.0 * GIB, ())


def test_a_cgroup_of_version_2_limits_cpus_and_memory(host):
    root = host(
        {
            'proc/self/cgroup': '0::/slurm/job 1\n',
            'sys/fs/cgroup/slurm/job 1/cpu.max': '150000 100000\n',
            'sys/fs/cgroup/slurm/job 1/memory.max': 'max\n',
            'sys/fs/cgroup/slurm/memory.max': f'{2 * GIB}\n',
        }
    )
    machine = detect({}, root)
    assert (machine.cpus, machine.ram) == (1.5, 2.0 * GIB)


def test_a_cgroup_of_version_1_limits_cpus_and_memory(host):
    root = host(
        {
            'proc/self/cgroup': '4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/\n',
            'sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us': '-1\n',
            'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '300000\n',
            'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
            'sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes': f'{GIB}\n',
        }
    )
    machine = detect({}, root)
    assert (machine.cpus, machine.ram) == (3.0, 1.0 * GIB)


def test_a_cgroup_that_is_wider_than_the_host_limits_nothing(host):
    root = host(
        {
            'proc/self/cgroup': '0::/\n',
            'sys/fs/cgroup/cpu.max': '6400000 100000\n',
            'sys/fs/cgroup/memory.max': f'{999 * GIB}\n',
        }
    )
    machine = detect({}, root)
    assert (machine.cpus, machine.ram) == (8.0, 16.0 * GIB)


def test_gpus_are_counted_by_their_device_files(host):
    root = host({f'dev/nvidia{name}': '' for name in ('0', '1', 'ctl', '-uvm')})
    assert detect({}, root).gpus == ('0', '1')


@pytest.mark.parametrize(
    ('visible', 'gpus'),
    [
        ('1', ('1',)),
        ('2,0', ('2', '0')),
        ('', ()),
        ('-1', ()),
        ('0,7,1', ('0',)),
        ('GPU-ab12, GPU-cd34', ('GPU-ab12', 'GPU-cd34')),
    ],
)
def test_the_environment_may_limit_the_gpus(host, visible, gpus):
    root = host({f'dev/nvidia{index}': '' for index in range(3)})
    assert detect({'CUDA_VISIBLE_DEVICES': visible}, root).gpus == gpus


def test_a_setting_overrides_what_is_found(host):
    machine = detect({'XM_LOCAL_RESOURCES': 'local_gpu=4, cpu=32,ram=1.5GiB'}, host({}))
    assert (machine.cpus, machine.ram, machine.gpus) == (32.0, 1.5 * GIB, ('0', '1', '2', '3'))


def test_a_setting_of_fewer_gpus_keeps_the_names_of_those_found(host):
    root = host({f'dev/nvidia{index}': '' for index in range(3)})
    environ = {'XM_LOCAL_RESOURCES': 'local_gpu=1', 'CUDA_VISIBLE_DEVICES': '2,1'}
    assert detect(environ, root).gpus == ('2',)
    assert detect({'XM_LOCAL_RESOURCES': 'local_gpu=0'}, root).gpus == ()


@pytest.mark.parametrize(
    ('text', 'amounts'),
    [
        ('', {}),
        ('cpu=0.5', {'cpu': 0.5}),
        ('RAM=100', {'ram': 100.0}),
        ('ram=2GB', {'ram': 2e9}),
        ('ram = 3 kib ,', {'ram': 3072.0}),
    ],
)
def test_settings_that_can_be_read(text, amounts):
    assert parse_setting(text) == amounts


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('gpu=4', "'gpu' is not one of cpu, ram, local_gpu"),
        ('4', "'4' is not one of"),
        ('cpu=', "'' is no amount of cpu"),
        ('cpu=-1', "'-1' is no amount of cpu"),
        ('cpu=nan', "'nan' is no amount of cpu"),
        ('cpu=4GiB', "'4gib' is no amount of cpu"),
        ('ram=4XB', "'4xb' is no amount of ram"),
        ('cpu=0', 'cpu must be more than 0'),
        ('cpu=1,cpu=2', 'cpu stands there twice'),
        ('local_gpu=0.5', 'local_gpu is a whole number'),
    ],
)
def test_settings_that_can_not_be_read_are_explained(text, why):
    with pytest.raises(ExecutorError, match=f'^XM_LOCAL_RESOURCES=.*{why}.*Write, for example'):
        parse_setting(text)


def test_this_host_has_something():
    machine = detect({})
    assert machine.cpus > 0
    assert machine.ram > 0
