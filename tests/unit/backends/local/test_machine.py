"""What a host has is read from trees like /proc, /sys and /dev, and may be overridden by a setting."""

import os

import pytest

from xmanager.backends.local.machine import Machine, detect, parse_setting
from xmanager.errors import ExecutorError
from xmanager.testing import nvml

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


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Plays devices on a host without any; returns the environment in which they are found."""

    def seen(*devices, error='', **environ):
        nvml.put(tmp_path / 'gpus.json', devices, error=error)
        monkeypatch.setenv(nvml.FILE, str(tmp_path / 'gpus.json'))
        return {'XM_NVML_MODULE': 'xmanager.testing.nvml', **environ}

    return seen


THREE = ({'uuid': 'GPU-a1b2'}, {'uuid': 'GPU-a1c3'}, {'uuid': 'GPU-d4e5'})


def test_gpus_that_nvml_knows_are_called_by_their_index(host, seen):
    assert detect(seen(*THREE), host({})) == Machine(8.0, 16.0 * GIB, ('0', '1', '2'))


@pytest.mark.parametrize(
    ('visible', 'gpus'),
    [
        ('GPU-d4e5,0', ('2', '0')),
        ('GPU-a1c, GPU-d', ('1', '2')),
        ('GPU-a1,0', ()),
        ('0,GPU-ffff,1', ('0',)),
        ('1,GPU-a1c3', ('1',)),
        ('MIG-77/1/0,MIG-78', ('MIG-77/1/0', 'MIG-78')),
        ('3,0', ()),
        ('-1', ()),
    ],
)
def test_the_environment_may_call_a_gpu_by_its_uuid_or_the_beginning_of_it(
    host, seen, visible, gpus
):
    assert detect(seen(*THREE, CUDA_VISIBLE_DEVICES=visible), host({})).gpus == gpus


def test_a_lost_gpu_is_left_out_and_cuda_is_told_of_the_others_by_uuid(host, seen):
    lost = {'uuid': 'GPU-lost', 'error': 'GPU_IS_LOST'}
    machine = detect(seen(THREE[0], lost, THREE[2]), host({}))
    assert machine.gpus == ('0', '2')
    assert machine.visible(('2', '0')) == 'GPU-d4e5,GPU-a1b2'
    # CUDA does not count a device that it can't use: its 1 is NVML's 2.
    assert detect(seen(THREE[0], lost, THREE[2], CUDA_VISIBLE_DEVICES='1'), host({})).gpus == ('2',)


def test_without_a_driver_the_device_files_are_counted(host, seen):
    root = host({'dev/nvidia0': ''})
    assert detect(seen(error='DRIVER_NOT_LOADED'), root).gpus == ('0',)
    assert detect({'XM_NVML_MODULE': 'no.such.module'}, root).gpus == ('0',)


def test_cuda_is_told_of_a_device_by_the_name_it_has():
    assert Machine(1.0, 1.0, ('0', '1', 'MIG-7')).visible(('1', 'MIG-7')) == '1,MIG-7'


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
