import platform

import pytest

from xmanager.launch import slurm_findings
from xmanager.launch.slurm_findings import inspect_slurm
from xmanager.store import Home

CONFIG = """Configuration data as of 2026-11-22T23:21:57
ClusterName             = c1
SLURM_VERSION           = 22.05.8
Slurmctld(primary) at head is UP"""
NODES = 'n1\nn2'
PARTITIONS = 'low*|4|gpu:a100:4|up|infinite\nlong|2|(null)|up|7-00:00:00'


@pytest.fixture
def program(tmp_path):
    """`program('sinfo', 'echo n1')`: a program on PATH."""
    folder = tmp_path / 'bin'
    folder.mkdir()

    def put(name, script='exit 0'):
        (folder / name).write_text(f'#!/bin/sh\n{script}\n')
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def slurm(program):
    """A cluster that answers; `slurm(nodes='n1')` makes it say something else."""

    def answer(nodes=NODES, partitions=PARTITIONS, sacct='exit 0'):
        program('sbatch')
        program('scontrol', f"echo '{CONFIG}'")
        says = f"case $* in *--Node*) echo '{nodes}' ;; *) echo '{partitions}' ;; esac"
        program('sinfo', says)
        program('sacct', sacct)

    answer()
    return answer


@pytest.fixture
def look(tmp_path):
    def inspect(**environ):
        environ = {'PATH': str(tmp_path / 'bin'), **environ}
        return {one.topic: one for one in inspect_slurm(Home(tmp_path / 'home'), environ)}

    return inspect


@pytest.fixture
def file_system(monkeypatch):
    """On what all files are."""
    return lambda kind: monkeypatch.setattr(slurm_findings, 'file_system_of', lambda path: kind)


def test_without_slurm_it_is_only_told_how_to_come_by_it(look):
    found = look()
    assert found.keys() == {'slurm'}
    assert found['slurm'].status == 'missing'
    assert "login='user@host'" in found['slurm'].advice


def test_the_cluster_is_told_with_its_gpus(look, slurm):
    found = look()['slurm']
    assert found.status == 'ok'
    assert found.detail.split('; ') == [
        '22.05.8, cluster c1',
        'GPUs: 16 a100 in low (default)',
        'sacct works',
        'for containers, this host has none of apptainer, singularity, podman, enroot',
    ]
    assert found.facts['partitions'][1] == {
        'name': 'long',
        'is_default': False,
        'nodes': 2,
        'gpus': {},
        'available': True,
        'time_limit': '7-00:00:00',
    }


@pytest.mark.parametrize(
    ('partitions', 'told'),
    [
        ('cpu|3|(null)|up|1:00:00', 'no GPUs in its 1 partitions'),
        ('', 'no partitions'),
        ('a|1|gpu:2|up|x', 'GPUs: 2 in a'),
        ('a|1|gpu:l4:1(S:0),gpu:h100:2|up|x', 'GPUs: 1 l4 and 2 h100 in a'),
        ('a|2|gpu:l4:1|up|x\na|1|gpu:l4:4,shard:8|up|x', 'GPUs: 6 l4 in a'),
        (
            '\n'.join(f'p{n}|1|gpu:l4:8|up|x' for n in range(6)),
            'GPUs: 8 l4 in p0, p1, p2, p3 and 2 more',
        ),
    ],
)
def test_gpus_are_told_partition_by_partition(look, slurm, partitions, told):
    slurm(partitions=partitions)
    assert told in look()['slurm'].detail.split('; ')


def test_that_there_is_no_accounting_is_told_in_slurms_words(look, slurm):
    slurm(sacct='echo Slurm accounting storage is disabled >&2; exit 1')
    found = look()['slurm']
    assert found.status == 'ok'
    assert 'no sacct (Slurm accounting storage is disabled)' in found.detail
    assert found.facts['accounting'] is False


def test_a_controller_that_does_not_answer_is_a_warning(look, slurm, program):
    program('scontrol', 'echo "Slurmctld(primary) at head is DOWN"; exit 1')
    found = look()['slurm']
    assert found.status == 'warn'
    assert found.detail.endswith(
        '/bin/sbatch, but `scontrol ping` says: Slurmctld(primary) at head is DOWN'
    )


def test_a_command_that_fails_is_told_in_slurms_words(look, slurm, program):
    said = 'slurm_load_partitions error: Unable to contact slurm controller (connect failure)'
    program('sinfo', f"echo '{said}' >&2; exit 1")
    assert look()['slurm'].detail.endswith(
        'but sinfo: Unable to contact slurm controller (connect failure)'
    )


def test_half_an_installation_is_a_warning(look, program):
    program('sbatch')
    found = look()
    assert (found['slurm'].status, found['shared'].status) == ('warn', 'ok')
    assert found['slurm'].detail.endswith('but scontrol is not on PATH')


# The folder that the nodes see.


@pytest.mark.parametrize('kind', ['nfs4', 'lustre', 'fuse.sshfs'])
def test_a_network_file_system_is_as_it_should_be(look, slurm, file_system, tmp_path, kind):
    file_system(kind)
    found = look()['shared']
    assert (found.status, found.detail) == ('ok', f'{tmp_path}/home, {kind}')


@pytest.mark.parametrize('kind', ['tmpfs', 'overlay'])
def test_what_is_in_memory_or_in_a_container_is_a_warning(look, slurm, file_system, kind):
    file_system(kind)
    found = look()['shared']
    assert found.status == 'warn'
    assert 'the nodes will hardly see' in found.detail
    assert 'set XM_SHARED' in found.advice


def test_where_this_machine_is_the_whole_cluster_any_folder_will_do(look, slurm, file_system):
    slurm(nodes=f'{platform.node()}\n{platform.node()}.example.org')
    file_system('tmpfs')
    assert look()['shared'].detail.endswith('tmpfs; all nodes are this machine')


def test_a_disk_of_this_host_may_be_exported(look, slurm, file_system):
    file_system('ext4')
    found = look()['shared']
    assert (found.status, found.advice) == ('ok', '')
    assert 'right if the nodes have it at that path' in found.detail


def test_the_folder_that_is_set_is_looked_at(look, slurm, file_system, tmp_path):
    file_system('nfs4')
    (tmp_path / 'file').touch()
    assert look(XM_SHARED=f'{tmp_path}/a/b')['shared'].detail == f'{tmp_path}/a/b, nfs4'
    assert look(XM_SHARED=f'{tmp_path}/file')['shared'].status == 'warn'
