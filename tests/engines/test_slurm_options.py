"""What jobs ask for, as a real Slurm understands it: the options of sbatch that we make."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.engines.slurm import Cluster

from xmanager import xm
from xmanager.backend import Task
from xmanager.backends.slurm.options import options_of, options_of_unit
from xmanager.launch.resolve import requirements_of
from xmanager.xm_local import Slurm


def task(requirements: dict[str, Any] | None = None, **settings: Any) -> Task:
    slurm = Slurm(xm.JobRequirements(**(requirements or {})), **settings)
    return Task(
        name='train',
        full_name='',
        argv=('true',),
        cwd='/',
        requirements=requirements_of(slurm),
        options=slurm.options(),
    )


def shown(slurm: Cluster, job: str) -> dict[str, str]:
    """The fields of `scontrol show job`."""
    return dict(re.findall(r'(\S+?)=(\S*)', slurm.command('scontrol', 'show', 'job', job)))


@pytest.mark.parametrize(
    ('asked', 'understood'),
    [
        (task({'cpu': 2.5}), {'CPUs/Task': '3', 'NumCPUs': '3'}),
        (task({'ram': 300 * xm.MiB}), {'MinMemoryNode': '300M'}),
        (task({'a100': 2}), {'TresPerNode': 'gres:gpu:a100:2'}),
        (task({'local_gpu': 1}), {'TresPerNode': 'gres:gpu:1'}),
        (task(partition='high'), {'Partition': 'high'}),
        (task(timeout=90, grace=20), {'TimeLimit': '00:03:00', 'Requeue': '0'}),
        (task(time='1-02:00:00'), {'TimeLimit': '1-02:00:00'}),
        (task(max_restarts=1), {'Requeue': '1'}),
        (task({'service_tier': xm.ServiceTier.BATCH}), {'Nice': '100'}),
        (task({'replicas': 4, 'cpu': 2}), {'NumTasks': '4', 'NumCPUs': '8', 'CPUs/Task': '2'}),
        (task(nodes=2, ntasks_per_node=2), {'NumTasks': '4', 'NumNodes': '2'}),
        (task({'replicas': 2, 'ram': 100 * xm.MiB}), {'MinMemoryCPU': '100M'}),
        (task({'a100': '2x2'}), {'NumTasks': '2', 'TresPerTask': 'gres:gpu:a100:2'}),
        (task(extra_sbatch_args=['--comment=$HOME']), {'Comment': '$HOME'}),
    ],
    ids=lambda one: ' '.join(options_of(one)) if isinstance(one, Task) else '',
)
def test_slurm_reads_in_our_options_what_the_job_asks_for(
    slurm: Cluster, asked: Task, understood: dict[str, str]
):
    job = slurm.submit('true', '--hold', *options_of(asked))
    fields = shown(slurm, job)
    # A range of nodes, until some are chosen.
    fields['NumNodes'] = fields['NumNodes'].partition('-')[0]
    assert {name: fields.get(name) for name in understood} == understood


@pytest.mark.parametrize(
    ('asked', 'gpus'),
    [
        (task({'a100': 2}), ['0,1']),
        (task({'local_gpu': 1}), ['0']),
        (task({'replicas': 4, 'local_gpu': 1}, nodes=1), ['0', '1', '2', '3']),
        (task({'replicas': 4, 'a100': 1}, nodes=1), ['0', '1', '2', '3']),
        (task({'a100': 2}, nodes=2, ntasks_per_node=2), ['0,1', '0,1', '2,3', '2,3']),
    ],
    ids=lambda one: ' '.join(options_of(one)) if isinstance(one, Task) else '',
)
def test_each_copy_of_a_job_has_gpus_of_its_own(
    slurm: Cluster, tmp_path: Path, asked: Task, gpus: list[str]
):
    slurm.submit(
        f"srun sh -c 'echo $CUDA_VISIBLE_DEVICES >{tmp_path}/$SLURM_PROCID'", *options_of(asked)
    )
    slurm.wait_idle()
    assert sorted(file.read_text().strip() for file in tmp_path.iterdir()) == gpus


def test_each_job_of_a_group_has_what_it_asks_for(slurm: Cluster, tmp_path: Path):
    group = [task({'cpu': 2, 'a100': 1}), task({'replicas': 2, 'a100': 2}, nodes=1)]
    first, second = options_of_unit(group)
    script = tmp_path / 'group.sh'
    script.write_text(
        '#!/bin/sh\nfor group in 0 1; do\n'
        'srun --het-group=$group sh -c \'echo $CUDA_VISIBLE_DEVICES >"$0".$SLURM_PROCID\' '
        f'{tmp_path}/gpus-$group\ndone\n'
    )
    silent = '--output=/dev/null'
    slurm.command('sbatch', silent, *first, ':', silent, *second, str(script))
    slurm.wait_idle()
    files = sorted(tmp_path.glob('gpus-*'))
    assert [file.read_text().strip() for file in files] == ['0', '0,1', '2,3']


def test_what_no_node_has_is_refused_in_slurms_words(slurm: Cluster):
    options = options_of(task({'h100': 1}))
    refused = slurm.run('sbatch', *options, '--wrap=true')
    assert refused.returncode != 0
    assert 'Requested node configuration is not available' in refused.stderr
