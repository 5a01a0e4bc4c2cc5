"""A unit that srun starts: each component has a record and a log of its own, and all know where the others are."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.unit.backends.slurm.node.started import SHELLS, write
from tests.unit.backends.slurm.steps import a_request, a_step

from xmanager.backends.slurm.arrays import Bounds, batches
from xmanager.backends.slurm.node.element import read_begun, read_end

# Runs the tasks one after the other, as processes of this machine, and says the highest code, as srun does.
SRUN = """#!/bin/bash
label= code=0
for word; do
  case $word in
  --ntasks=*) tasks=${word#*=} ;;
  --label) label=yes ;;
  --*) echo "$word" >>"$OPTIONS" ;;
  *) break ;;
  esac
  shift
done
for ((SLURM_PROCID = 0; SLURM_PROCID < tasks; SLURM_PROCID++)); do
  export SLURM_PROCID
  if [ $label ]; then
    "$@" | sed -u "s/^/$SLURM_PROCID: /"
    one=${PIPESTATUS[0]}
  else
    "$@"
    one=$?
  fi
  [ $one -le $code ] || code=$one
done
exit $code
"""
SCONTROL = """#!/bin/sh
[ "$1 $2" = 'show hostnames' ] || exit 1
case $3 in 'n[2-3]') echo n2; echo n3 ;; *) echo "$3" ;; esac
"""
PRINT = (
    'echo "$XM_JOB_NAME $XM_REPLICA $XM_REPLICAS $XM_ATTEMPT"; '
    'echo "$XM_JOB_ADDRESSES" >"$XM_OUTPUT_DIR/$XM_REPLICA"'
)


@pytest.fixture(params=SHELLS, ids=' '.join)
def run(request, tmp_path):
    for name, text in (('srun', SRUN), ('scontrol', SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(*steps, **environ):
        unit = a_request(*steps, root=str(tmp_path))
        [batch] = batches([unit], Bounds(), lambda: 'b1')
        write(batch)
        words = batch.argv[batch.argv.index(f'{batch.folder}/batch.sh') :]
        given = {
            'PATH': f'{tmp_path}:{os.environ["PATH"]}',
            'OPTIONS': f'{tmp_path}/options',
            'SLURM_JOB_ID': '7',
        }
        code = subprocess.run(
            [*request.param, *words], env={**given, **environ}, timeout=20, check=False
        ).returncode
        ends = {
            p.name: read_end(p.read_bytes())
            for p in sorted(Path(batch.folder, 'ends').glob('[0-9]*'))
        }
        begun = {
            p.name: read_begun(p.read_bytes())
            for p in sorted(Path(batch.folder, 'begun').glob('[0-9]*'))
        }
        return batch.requests[0].steps, code, begun, ends

    return run


def job(task, script=PRINT, **fields):
    folder = fields.pop('out')
    env = {'XM_JOB_NAME': task, 'XM_OUTPUT_DIR': f'{folder}/experiments/1/1/{task}/out'}
    return a_step(task=task, argv=('/bin/sh', '-c', script), env=env, **fields)


def log(step):
    return Path(step.folder, 'output.log').read_text()


def test_each_component_of_a_heterogeneous_job_runs_and_knows_all_hosts(run, tmp_path):
    (learner, actor), code, begun, ends = run(
        job('learner', out=tmp_path),
        job('ac"tor', out=tmp_path, replicas=2, attempt=4),
        SLURM_JOB_NODELIST_HET_GROUP_0='n1',
        SLURM_JOB_NODELIST_HET_GROUP_1='n[2-3]',
        SLURM_CPUS_PER_TASK_HET_GROUP_1='5',
        SLURM_RESTART_COUNT='0',
    )
    assert code == 0
    assert {name: one and one.node for name, one in begun.items()} == {
        '0.0.0': 'n1',
        '0.1.0': 'n2,n3',
    }
    assert {name: one and one.exit_code for name, one in ends.items()} == {'0.0.0': 0, '0.1.0': 0}
    assert log(learner) == 'learner 0 1 1\n'
    assert log(actor) == '0: ac"tor 0 2 4\n1: ac"tor 1 2 4\n'
    for place in (f'{learner.folder}/out/0', f'{actor.folder}/out/0', f'{actor.folder}/out/1'):
        assert json.loads(Path(place).read_text()) == {'learner': ['n1'], 'ac"tor': ['n2', 'n3']}
    options = (tmp_path / 'options').read_text().split()
    assert {'--het-group=0', '--het-group=1', '--cpus-per-task=5', '--kill-on-bad-exit=1'} <= set(
        options
    )


def test_the_first_component_that_fails_gives_the_batch_script_its_code(run, tmp_path):
    _, code, _, ends = run(
        job('learner', out=tmp_path),
        job('actor', 'exit 6', out=tmp_path),
        SLURM_JOB_NODELIST_HET_GROUP_0='n1',
        SLURM_JOB_NODELIST_HET_GROUP_1='n2',
    )
    assert code == 6
    assert {name: one and one.exit_code for name, one in ends.items()} == {'0.0.0': 0, '0.1.0': 6}


def test_a_replica_that_fails_is_told_by_its_number(run, tmp_path):
    [step], code, _, ends = run(
        job('train', '[ $XM_REPLICA != 1 ] || exit 7', out=tmp_path, replicas=3),
        SLURM_JOB_NODELIST='n[2-3]',
    )
    end = ends['0.0.0']
    assert end is not None
    assert (code, end.exit_code, end.replica, step.replicas) == (7, 7, 1, 3)


def test_a_missing_program_of_one_replica_is_a_sentence(run, tmp_path):
    step = a_step(task='train', argv=('/no/such',), replicas=2)
    [step], code, _, ends = run(step, SLURM_JOB_NODELIST='n1', SLURMD_NODENAME='n1')
    end = ends['0.0.0']
    assert end is not None
    assert (code, end.exit_code) == (127, 127)
    assert end.refused.startswith('node n1 has no /no/such')
    assert log(step).startswith('0: xm: node n1 has no /no/such')
