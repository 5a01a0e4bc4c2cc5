"""The fake commands say what the real ones say, where both can be asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.engines.slurm import Cluster
from tests.fakes.slurm import DOWN, NO_SUCH_PARTITION, FakeSlurm, Job

_FIELDS = (
    'JobArrayID:|,JobID:|,ArrayJobID:|,ArrayTaskID:|,HetJobID:|,State:|,exit_code:|,RestartCnt:|'
)


@pytest.fixture
def fake(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path / 'fake')


Said = tuple[int, str, str]


def said_by_the_fake(fake: FakeSlurm, *argv: str, **variables: str) -> Said:
    environ = {**os.environ, **fake.variables, **variables}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def said_by_slurm(slurm: Cluster, *argv: str) -> Said:
    done = slurm.run(*argv)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize('tasks', ['', '0-5%2', '1,4,9,16,25,36,49,64,81,100'])
def test_a_waiting_job_looks_the_same(slurm: Cluster, fake: FakeSlurm, tasks):
    options = ['--parsable', '--hold', *([f'--array={tasks}'] if tasks else []), '--wrap=true']
    job = slurm.command('sbatch', *options)
    fake.set(next_job=int(job))
    assert said_by_the_fake(fake, 'sbatch', *options) == (0, job, '')
    for asked in (
        ['squeue', '-h', '--states=all', f'--jobs={job.strip()}', f'--Format={_FIELDS}'],
        ['squeue', '--noheader', f'--jobs={job.strip()}', '--format=%i|%T|%N|%j'],
        ['squeue', '-h', '-t', 'RUNNING', '-j', job.strip(), '-o', '%i'],
    ):
        assert said_by_the_fake(fake, *asked) == said_by_slurm(slurm, *asked)


def test_the_ends_of_jobs_look_the_same(slurm: Cluster, fake: FakeSlurm):
    failed = slurm.submit('exit 3', '--array=7')
    cancelled = slurm.submit('exec sleep 300')
    slurm.wait(lambda: slurm.state(cancelled) == 'RUNNING', 'a start')
    slurm.command('scancel', cancelled)
    slurm.wait_idle()
    fake.jobs = [
        Job(int(failed), 'FAILED', array=int(failed), tasks='7', nodes='n1', status=3 << 8),
        Job(int(cancelled), 'RUNNING', nodes='n1'),
    ]
    said_by_the_fake(fake, 'scancel', cancelled)
    for job in (failed, cancelled, f'{failed}_7'):
        asked = ['squeue', '-h', '-t', 'all', '-j', job, '-O', f'{_FIELDS}']
        assert said_by_the_fake(fake, *asked) == said_by_slurm(slurm, *asked)


def test_what_is_unknown_is_told_with_the_same_words(slurm: Cluster, fake: FakeSlurm):
    fake.jobs = [Job(1)]
    fake.set(lacking_fields=['nosuch'])
    for asked in (
        ['squeue', '-h', '-j', '99999', '-o', '%i'],
        ['scontrol', 'show', 'job', '99999'],
        ['scancel', '99999'],
        ['sacct', '-j', '1'],
        ['squeue', '-h', '--name=nosuch', '-o', '%i'],
    ):
        assert said_by_the_fake(fake, *asked) == said_by_slurm(slurm, *asked)
    slurm.submit('true', '--hold')
    asked = ['squeue', '-h', '-O', 'State:|,nosuch:|']
    assert said_by_the_fake(fake, *asked) == said_by_slurm(slurm, *asked)


def test_refusals_are_told_with_the_same_words(slurm: Cluster, fake: FakeSlurm):
    fake.reply('sbatch', NO_SUCH_PARTITION)
    asked = ['sbatch', '--partition=nosuch', '--wrap=true']
    assert said_by_the_fake(fake, *asked) == said_by_slurm(slurm, *asked)


def test_a_controller_that_is_down_is_told_with_the_same_words(slurm: Cluster, fake: FakeSlurm):
    slurm.kill_controller(forgetful=True)
    fake.reply('squeue', DOWN['squeue'])
    assert said_by_the_fake(fake, 'squeue', '-h') == said_by_slurm(slurm, 'squeue', '-h')


def test_settings_look_the_same(slurm: Cluster, fake: FakeSlurm):
    def line(text: str, name: str) -> str:
        return next(line for line in text.splitlines() if line.startswith(f'{name} '))

    fake.set(config={'MaxArraySize': '1001', 'KillWait': '2 sec', 'MinJobAge': '300 sec'})
    told = said_by_the_fake(fake, 'scontrol', 'show', 'config')[1]
    real = slurm.command('scontrol', 'show', 'config')
    for name in ('MaxArraySize', 'KillWait', 'MinJobAge', 'SLURM_VERSION'):
        assert line(told, name).partition('=')[0] == line(real, name).partition('=')[0]
    assert line(told, 'KillWait') == line(real, 'KillWait')


def test_accounting_looks_the_same(slurm_accounting: Cluster, fake: FakeSlurm):
    failed = slurm_accounting.submit('exit 3', '--array=7')
    cancelled = slurm_accounting.submit('exec sleep 300')
    slurm_accounting.wait(lambda: slurm_accounting.state(cancelled) == 'RUNNING', 'a start')
    slurm_accounting.command('scancel', cancelled)
    asked = ['sacct', '-X', '-n', '-P', '-j', f'{failed},{cancelled}']
    asked.append('--format=JobID,JobIDRaw,State,ExitCode,NodeList,Account')

    def told() -> bool:
        said = slurm_accounting.command(*asked)
        # At first the element is called by the number of its array alone.
        return f'{failed}_7' in said and 'CANCELLED' in said

    slurm_accounting.wait(told, 'sacct to tell of the ends')
    fake.set(accounting=True)
    fake.jobs = [
        Job(int(failed), 'FAILED', array=int(failed), tasks='7', nodes='n1', status=3 << 8),
        Job(int(cancelled), 'CANCELLED', nodes='n1', status=15, by=os.getuid()),
    ]
    real = slurm_accounting.command(*asked)
    assert sorted(said_by_the_fake(fake, *asked)[1].split()) == sorted(real.split())
