"""Whether the machines of a cluster see what was packaged, perhaps for another executor."""

from pathlib import Path

import pytest
from tests.packaging import package

from xmanager import xm, xm_local
from xmanager.backend import Task
from xmanager.errors import ExecutorError
from xmanager.launch.resolve import resolve
from xmanager.launch.seen import check

HOME = Path('/home/ada/.xmanager')


def task_of(facts, argv=('/usr/bin/train',), **options):
    return Task('train', '', argv, '/', options=options, executable=facts)


@pytest.mark.parametrize(
    'facts',
    [
        {'kind': 'python', 'tree': f'{HOME}/snapshots/trees/12'},
        {'kind': 'binary', 'copy': f'{HOME}/snapshots/trees/12/train'},
        {'kind': 'python', 'environment': {'folder': f'{HOME}/cache/environments/12'}},
        {'kind': 'image', 'layout': f'{HOME}/images/12'},
    ],
)
def test_what_is_kept_in_a_home_is_seen_if_the_home_is(facts):
    task = task_of(facts)
    check([task], HOME, '')
    check([task], HOME, '/home/ada')
    with pytest.raises(ExecutorError, match=r'XM_SHARED=/scratch.*Slurm\.Spec\(\)'):
        check([task], HOME, '/scratch')
    check([task_of(facts, login='me@cluster')], HOME, '/scratch')


def test_a_program_that_stays_in_the_home_is_named():
    task = task_of({'kind': 'binary'}, argv=(f'{HOME}/bin/train', '--lr=1'))
    with pytest.raises(ExecutorError, match=r'job train: /home/ada/\.xmanager/bin/train is not in'):
        check([task], HOME, '/scratch')


def test_programs_of_the_system_and_arguments_are_the_nodes_own_business():
    check([task_of({'kind': 'binary'}, argv=('/usr/bin/train', f'{HOME}/x'))], HOME, '/scratch')


@pytest.mark.parametrize('login', [None, 'me@cluster'])
def test_an_image_in_the_engine_of_this_machine_is_not_there_for_nodes(login):
    with pytest.raises(ExecutorError, match=r'job train: it is not in a folder .*Slurm\.Spec'):
        check([task_of({'kind': 'image', 'image': 'sha256:12'}, login=login)], HOME, '')


def test_an_image_that_was_only_pushed_is_not_there_for_nodes_fetch_nothing():
    with pytest.raises(ExecutorError, match=r'job train: it is not in a folder .*Slurm\.Spec'):
        check([task_of({'kind': 'image', 'image': 'registry/name@sha256:12'})], HOME, '')


def test_nothing_is_kept_in_a_dry_run():
    check([task_of({'kind': 'image', 'image': '', 'plan': {}})], HOME, '')


def test_what_was_packaged_for_the_cluster_is_seen_and_what_was_for_this_machine_is_not(
    monkeypatch, tmp_path
):
    home, shared = tmp_path / 'home', tmp_path / 'shared'
    monkeypatch.setenv('XM_HOME', str(home))
    monkeypatch.setenv('XM_SHARED', str(shared))
    specs = [xm_local.Local.Spec(), xm_local.Slurm.Spec()]
    here, there = package(*(xm.binary(spec, '/bin/echo') for spec in specs))
    _, tasks = resolve(xm.Job(there, xm_local.Slurm()))
    check(tasks, home, str(shared))
    _, tasks = resolve(xm.Job(here, xm_local.Slurm()))
    with pytest.raises(ExecutorError, match=r'Package it for xm_local\.Slurm\.Spec\(\)'):
        check(tasks, home, str(shared))
