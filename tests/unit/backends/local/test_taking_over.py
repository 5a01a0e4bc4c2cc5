"""A new supervisor takes over what an earlier one started, alive or ended, and nothing else."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

ENDLESS = 'while :; do sleep 1; done'


def end_of(observation, job='job0'):
    task = observation[job]
    return task.state, task.exit_code, task.signal


@pytest.fixture
def orphans(world):
    """Starts units from a process that is killed at once: they are no children of ours."""

    def start(*units):
        program = (
            'import os, pickle, signal, sys\n'
            'from xmanager.backends.local.backend import create\n'
            'units = pickle.load(sys.stdin.buffer)\n'
            'backend = create(os.environ)\n'
            'for answer in backend.submit([backend.render(unit, {}) for unit in units]): print(answer.ref)\n'
            'sys.stdout.flush()\n'
            'os.kill(os.getpid(), signal.SIGKILL)\n'
        )
        import pickle

        done = subprocess.run(
            [sys.executable, '-c', program],
            input=pickle.dumps(units),
            capture_output=True,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        return dict(zip(done.stdout.decode().split('\n')[:-1], units, strict=True))

    return start


def test_a_job_that_outlived_its_supervisor_is_observed_to_its_end(world, orphans):
    unit = world.shell('while [ ! -e go ]; do sleep 0.01; done; exit 4')
    refs = orphans(unit)
    backend = world.backend()
    assert end_of(backend.observe(refs)[next(iter(refs))])[0] == 'running'
    assert backend.period == 0.05
    (world.folder / 'go').touch()
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', 4, None)
    assert observation['job0'].ended_at == pytest.approx(time.time(), abs=30)


def test_a_job_that_ended_meanwhile_is_told_from_its_record(world, orphans):
    unit = world.shell('exit 4', 'kill -9 $$')
    refs = orphans(unit)
    statuses = [unit.folder / job / 'status' for job in ('job0', 'job1')]
    world.wait_until(lambda: all(s.exists() and 'exited' in s.read_text() for s in statuses))
    (observation,) = world.wait_for_end(world.backend(), refs)
    assert end_of(observation) == ('exited', 4, None)
    assert end_of(observation, 'job1') == ('exited', None, 9)


@pytest.mark.parametrize('ignoring', [False, True])
def test_a_stop_works_from_another_supervisor(world, orphans, ignoring):
    trap = "trap '' TERM; " if ignoring else ''
    unit = world.shell(f'{trap} printf a; {ENDLESS}')
    refs = orphans(unit)
    world.wait_for_log(unit, b'a')
    backend = world.backend()
    backend.stop(refs, 0.1 if ignoring else 1000.0)
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', None, 9 if ignoring else 15)
    assert world.left(unit.key) == []


def test_a_killed_runner_of_another_supervisor_vanished_and_takes_its_program_along(world, orphans):
    unit = world.shell(f'printf a; {ENDLESS}')
    refs = orphans(unit)
    world.wait_for_log(unit, b'a')
    os.kill(int(re.findall(r'=(\d+)/', next(iter(refs)))[0]), signal.SIGKILL)
    (observation,) = world.wait_for_end(world.backend(), refs)
    assert end_of(observation) == ('vanished', None, None)
    assert 'its runner was killed' in observation['job0'].reason
    assert world.left(unit.key) == []


def test_what_was_never_submitted_is_not_found(world):
    backend = world.backend()
    unit = world.shell(':')
    assert backend.find([unit]) == {}
    # The folder was made, and then the supervisor died.
    (unit.folder / 'job0').mkdir(parents=True)
    (unit.folder / 'job0' / 'command.json').write_text('{"attempt": 1}')
    assert backend.find([unit]) == {}


def test_an_earlier_attempt_is_not_mistaken_for_this_one(world):
    backend = world.backend()
    unit = world.shell('exit 4')
    world.wait_for_end(backend, world.submit(backend, unit))
    assert backend.find([attrs.evolve(unit, attempt=2, key=f'{unit.key}.2')]) == {}
    assert backend.find([unit]).keys() == {unit.key}


def test_a_unit_whose_folder_is_gone_is_found_by_its_mark(world, orphans):
    unit = world.shell(ENDLESS)
    refs = orphans(unit)
    world.wait_until((unit.folder / 'job0' / 'status').exists)
    shutil.rmtree(unit.folder)
    backend = world.backend()
    assert backend.find([unit]) == {unit.key: next(iter(refs))}
    backend.stop(refs, 1000.0)
    (observation,) = world.wait_for_end(backend, refs)
    assert observation['job0'].state == 'vanished'
    assert world.left(unit.key) == []


def test_a_group_that_was_half_started_is_found_and_told_so(world):
    backend = world.backend()
    unit = world.shell(ENDLESS, ':')
    half = attrs.evolve(unit, tasks=unit.tasks[:1])
    world.submit(backend, half)
    refs = {world.backend().find([unit])[unit.key]: unit}
    fresh = world.backend()
    fresh.stop(refs, 1000.0)
    (observation,) = world.wait_for_end(fresh, refs)
    assert observation['job0'].state in ('exited', 'vanished')
    assert observation['job1'].state == 'vanished'
    assert observation['job1'].reason == 'it was never started'


def test_a_reused_number_is_neither_waited_for_nor_signalled(world):
    """After a reboot, another program may have the numbers of a unit's runner, start time included."""
    unit = world.shell(':')
    with subprocess.Popen(
        ['/bin/sleep', '1000'], start_new_session=True, env={'XM_KEY': 'other'}
    ) as stranger:
        world.wait_until(lambda: any(p.pid == stranger.pid and p.mark for p in world.scan()))
        (process,) = [p for p in world.scan() if p.pid == stranger.pid]
        for start in (process.start, process.start - 1):
            backend = world.backend()
            refs = {f'job0={stranger.pid}/{start}': unit}
            backend.stop(refs, 0.0)
            (observation,) = world.wait_for_end(backend, refs)
            assert observation['job0'].state == 'vanished'
            world.settle(backend)
        assert stranger.poll() is None
        stranger.kill()


def test_a_reference_of_other_tasks_is_refused(world):
    with pytest.raises(ValueError, match="'other=1/2' is no reference of a local unit with tasks"):
        world.backend().observe({'other=1/2': world.shell(':')})


def test_a_closed_back_end_holds_no_descriptors(world, orphans):
    refs = orphans(world.shell(ENDLESS), world.shell(ENDLESS))
    before = len(os.listdir('/proc/self/fd'))
    backend = world.backend()
    backend.observe(refs)
    assert len(os.listdir('/proc/self/fd')) == before + 2
    backend.close()
    backend.close()
    assert len(os.listdir('/proc/self/fd')) == before
    assert [end_of(o)[0] for o in backend.observe(refs).values()] == ['running'] * 2
    backend.stop(refs, 0.0)
    world.wait_for_end(backend, refs)
    backend.close()


def is_zombie(pid):
    try:
        stat = Path(f'/proc/{pid}/stat').read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(')')[2].split()[0] == 'Z'


@pytest.mark.parametrize('ended', [False, True])
@pytest.mark.parametrize('found', [False, True])
def test_a_successor_in_the_same_process_waits_for_the_children_of_a_closed_back_end(
    world, ended, found
):
    backend = world.backend()
    unit = world.shell('while [ ! -e go ]; do sleep 0.01; done; exit 4', 'kill -9 $PPID')
    refs = world.submit(backend, unit)
    pids = [int(pid) for pid in re.findall(r'=(\d+)/', next(iter(refs)))]
    world.wait_until(lambda: is_zombie(pids[1]))
    backend.close()
    if ended:
        (world.folder / 'go').touch()
        world.wait_until(lambda: is_zombie(pids[0]))
    fresh = world.backend()
    if found:
        refs = {fresh.find([unit])[unit.key]: unit}
    fresh.observe(refs)
    assert fresh.period >= 0.25 or ended  # SIGCHLD tells of their ends
    (world.folder / 'go').touch()
    (observation,) = world.wait_for_end(fresh, refs)
    assert end_of(observation) == ('exited', 4, None)
    assert end_of(observation, 'job1') == ('exited', None, 9)
    assert observation['job0'].user_seconds is not None
    assert not any(os.path.exists(f'/proc/{pid}') for pid in pids)
