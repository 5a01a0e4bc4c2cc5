"""The clusters that other tests use: they start, give GPUs, preempt, and survive what is done to their daemons."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.engines import slurm_processes as processes
from tests.engines.slurm import Cluster, cluster
from tests.engines.slurm_config import Settings


def runs(slurm: Cluster, job: str) -> None:
    slurm.wait(lambda: slurm.state(job) == 'RUNNING', f'job {job} to run')


def ended(slurm: Cluster, job: str) -> str:
    """The state in which the job ended."""
    under_way = {'', 'PENDING', 'CONFIGURING', 'RUNNING', 'COMPLETING'}
    slurm.wait(lambda: not under_way & set(slurm.state(job).split(' ')), f'the end of job {job}')
    return slurm.state(job)


def written(path: Path) -> bool:
    return path.exists() and path.read_text() != ''


def test_four_nodes_with_cpus_and_gpus_are_idle(slurm: Cluster):
    told = slurm.command('sinfo', '-h', '-N', '-p', 'low', '-o', '%N %T %c %G').splitlines()
    assert told == [f'n{number} idle 8 gpu:a100:4' for number in (1, 2, 3, 4)]


def test_commands_of_this_process_speak_with_it_through_the_environment(slurm: Cluster):
    said = subprocess.run(['sinfo', '-h', '-o', '%P'], capture_output=True, text=True, check=True)
    assert 'gentle' in said.stdout
    assert os.environ['SLURM_CONF'] == slurm.environ['SLURM_CONF']


def test_two_jobs_on_one_node_are_given_different_gpus(slurm: Cluster, tmp_path: Path):
    for number in (1, 2):
        slurm.submit(
            f'echo $CUDA_VISIBLE_DEVICES >{tmp_path}/{number}; sleep 1', '--gpus=a100:2', '-w', 'n1'
        )
    slurm.wait_idle()
    assert sorted((tmp_path / name).read_text() for name in '12') == ['0,1\n', '2,3\n']


def test_a_job_of_high_puts_one_of_low_back_into_the_queue(slurm: Cluster):
    victim = slurm.submit('exec sleep 300', '--nodes=4', '--exclusive', '--requeue')
    runs(slurm, victim)
    urgent = slurm.submit('exec sleep 300', '--partition=high', '--nodes=4', '--exclusive')
    runs(slurm, urgent)
    assert slurm.state(victim) == 'PENDING'


def test_a_job_of_gentle_is_warned_before_it_is_preempted(slurm: Cluster, tmp_path: Path):
    victim = slurm.submit(
        f'trap "touch {tmp_path}/warned; exit 0" USR1; while :; do sleep .1; done',
        '--partition=gentle',
        '--nodes=4',
        '--exclusive',
        '--signal=B:USR1@60',
    )
    runs(slurm, victim)
    slurm.submit('true', '--partition=high', '--nodes=4', '--exclusive')
    slurm.wait((tmp_path / 'warned').exists, 'the warning')


def test_jobs_go_on_while_the_controller_is_killed_and_started_again(
    slurm: Cluster, tmp_path: Path
):
    job = slurm.submit(f'until [ -e {tmp_path}/go ]; do sleep .1; done')
    runs(slurm, job)
    controller = slurm.pid('slurmctld')
    slurm.kill_controller()
    assert not processes.lives(controller)
    slurm.start_controller()
    assert slurm.state(job) == 'RUNNING'
    (tmp_path / 'go').touch()
    assert ended(slurm, job) == 'COMPLETED'


def test_the_jobs_of_a_node_whose_power_goes_end_with_it(slurm: Cluster, tmp_path: Path):
    job = slurm.submit(f'echo $$ >{tmp_path}/pid; sleep 300', '-w', 'n2', '--no-requeue')
    slurm.wait(lambda: written(tmp_path / 'pid'), 'its start')
    slurm.fail_node('n2')
    assert ended(slurm, job) == 'NODE_FAIL'
    assert not processes.lives(int((tmp_path / 'pid').read_text()))
    slurm.mend()
    assert slurm.command('sinfo', '-h', '-n', 'n2', '-p', 'low', '-o', '%T').strip() == 'idle'


def test_an_ended_job_is_forgotten_when_the_settings_say_so(slurm: Cluster):
    slurm.reconfigure(min_job_age=2)
    try:
        job = slurm.submit('true')
        slurm.wait(lambda: 'COMPLETED' in slurm.state(job), 'its end')
        slurm.wait(lambda: not slurm.state(job), 'it to be forgotten')
    finally:
        slurm.reconfigure(min_job_age=300)


def test_accounting_tells_of_jobs_and_enforces_what_an_account_may_do(slurm_accounting: Cluster):
    job = slurm_accounting.submit('exit 3')

    def told() -> str:
        return slurm_accounting.command(
            'sacct', '-X', '-n', '-P', '-j', job, '-o', 'State,ExitCode,Account'
        )

    slurm_accounting.wait(lambda: told() == 'FAILED|3:0|lab\n', 'sacct to tell of the job')
    for options, words in (
        (['--account=others'], 'Invalid account'),
        (['--qos=forbidden'], 'Invalid qos'),
        (['--qos=tight', '--array=0-10'], 'job submit limit'),
    ):
        refused = slurm_accounting.run('sbatch', *options, '--wrap=true')
        assert refused.returncode == 1
        assert words in refused.stderr


@pytest.mark.skipif(bool(processes.lack_for_cgroups()), reason=processes.lack_for_cgroups())
def test_a_job_that_takes_more_memory_than_it_asked_for_is_killed(tmp_path: Path):
    with cluster(Settings(nodes=1, gpus=0, cgroups=True)) as made:
        job = made.submit("exec python3 -c 'bytearray(2**28)'", '--mem=50')
        assert ended(made, job) == 'OUT_OF_MEMORY'


def test_nothing_is_left_of_a_cluster_and_its_jobs(tmp_path: Path):
    with cluster(Settings(nodes=1)) as made:
        made.submit(f'echo $$ >{tmp_path}/pid; trap "" TERM; while :; do sleep 1; done')
        made.wait(lambda: written(tmp_path / 'pid'), 'a job')
        pids = [int((tmp_path / 'pid').read_text()), *map(made.pid, ['slurmctld', 'munged', 'n1'])]
        assert all(map(processes.lives, pids))
    assert not any(map(processes.lives, pids))
    assert not made.folder.exists()
