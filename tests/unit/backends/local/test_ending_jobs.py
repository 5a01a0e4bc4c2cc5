"""Ending a job ends all of it, whatever its processes do to stay, with real processes."""

import os
import signal
import sys

import pytest

from xmanager.backends.local.processes import processes_with_lock
from xmanager.backends.local.spawn import LEASE
from xmanager.ledger import locks

ENDLESS = 'while :; do sleep 1; done'
IGNORING = f"trap '' TERM; printf ready; {ENDLESS}"


def end_of(observation, job='job0'):
    task = observation[job]
    return task.state, task.exit_code, task.signal


def daemon(body):
    """A program that starts a process in a session of its own, with no environment worth the name, and goes on."""
    return f'import os, time\nif os.fork() == 0:\n    os.setsid()\n    {body}\n'


def test_a_stop_reaches_grandchildren_in_other_groups_and_sessions(world):
    backend = world.backend()
    unit = world.shell(
        f"setsid sh -c 'printf a; {ENDLESS}' & sleep 0.1; setsid -f sh -c 'printf b; {ENDLESS}'; {ENDLESS}"
    )
    refs = world.submit(backend, unit)
    world.wait_until(lambda: len(world.log(unit).read_bytes()) == 2)
    backend.stop(refs, None)
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', None, signal.SIGTERM)
    assert world.left(unit.key) == []


def test_a_stop_reaches_a_child_that_wiped_its_environment(world):
    backend = world.backend()
    body = 'os.execve("/bin/sleep", ["sleep", "1000"], {})'
    unit = world.unit((sys.executable, '-c', daemon(body) + 'print("ready"); time.sleep(1000)'))
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready\n')

    def unmarked_children():
        parents = {process.pid for process in world.left(unit.key)}
        return [p for p in world.scan() if p.parent in parents and p.mark is None]

    (sleeper,) = world.wait_until(unmarked_children)
    backend.stop(refs, None)
    world.wait_for_end(backend, refs)
    assert sleeper not in world.scan()


def test_what_ignores_term_in_another_session_is_killed_before_the_end_is_told(world):
    backend = world.backend()
    unit = world.shell(
        f'setsid sh -c "{IGNORING.replace("ready", "a")}" & {IGNORING.replace("ready", "b")}'
    )
    refs = world.submit(backend, unit)
    world.wait_until(lambda: len(world.log(unit).read_bytes()) == 2)
    backend.stop(refs, 0.2)
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', None, signal.SIGKILL)
    assert world.left(unit.key) == []


def test_a_job_that_forks_without_end_is_killed_whole(world):
    backend = world.backend()
    # Each generation ignores TERM, leaves the group, starts the next and ends.
    program = (
        'import os, signal, time\n'
        'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        'os.write(1, b".")\n'
        'while True:\n'
        '    if os.fork() != 0: os._exit(0)\n'
        '    os.setsid(); time.sleep(0.002)\n'
    )
    unit = world.unit(
        ('/bin/sh', '-c', f"trap '' TERM; '{sys.executable}' -c '{program}'; {ENDLESS}")
    )
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'.')
    backend.stop(refs, 0.1)
    world.wait_for_end(backend, refs)
    assert world.left(unit.key) == []


def test_a_stop_that_comes_before_the_program_has_begun_still_ends_it_quickly(world):
    for _ in range(10):
        backend = world.backend()
        refs = world.submit(backend, world.shell(ENDLESS, ENDLESS))
        backend.stop(refs, 1000.0)
        (observation,) = world.wait_for_end(backend, refs)
        assert (
            end_of(observation) == end_of(observation, 'job1') == ('exited', None, signal.SIGTERM)
        )


def test_a_program_gets_term_once_and_its_cleaning_up_none(world):
    backend = world.backend()
    program = (
        'import signal, subprocess, sys, time\n'
        'def save(*_):\n'
        '    print("term", flush=True)\n'
        '    print("saved", subprocess.call(["/bin/sleep", "0.3"]), flush=True)\n'
        '    sys.exit(6)\n'
        'signal.signal(signal.SIGTERM, save)\n'
        'print("ready", flush=True)\n'
        'time.sleep(1000)\n'
    )
    unit = world.unit((sys.executable, '-c', program))
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready\n')
    backend.stop(refs, None)
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', 6, None)
    assert world.log(unit).read_bytes() == b'ready\nterm\nsaved 0\n'


def test_a_stopped_job_wakes_to_see_its_term(world):
    backend = world.backend()
    unit = world.shell('kill -STOP 0; echo not reached')
    refs = world.submit(backend, unit)
    runner = int(next(iter(refs)).partition('=')[2].partition('/')[0])

    def is_suspended():
        with open(f'/proc/{runner}/stat') as file:
            return ' T ' in file.read()

    world.wait_until(is_suspended)
    backend.stop(refs, 1000.0)
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', None, signal.SIGTERM)


def test_what_a_job_leaves_in_its_group_ends_with_it(world):
    backend = world.backend()
    unit = world.shell(f"sh -c '{ENDLESS}' & echo done")
    (observation,) = world.wait_for_end(backend, world.submit(backend, unit))
    assert end_of(observation) == ('exited', 0, None)
    assert world.left(unit.key) == []


# As the manual of flock(1) has it, for a lock of the job's own.
@pytest.mark.parametrize('own_file', ['', 'exec 9>lock; '])
def test_what_left_the_group_of_a_job_ends_with_it_too(world, own_file):
    backend = world.backend()
    unit = world.shell(f"{own_file}setsid -f sh -c '{ENDLESS}'")
    (observation,) = world.wait_for_end(backend, world.submit(backend, unit))
    assert end_of(observation) == ('exited', 0, None)
    assert world.left(unit.key) == []


def test_what_left_the_group_and_closed_what_it_inherited_is_swept_up_after(world):
    backend = world.backend()
    # subprocess closes all descriptors but the first three.
    program = 'import subprocess as s; s.Popen(["/bin/sleep", "1000"], start_new_session=True)'
    unit = world.unit((sys.executable, '-c', program))
    (observation,) = world.wait_for_end(backend, world.submit(backend, unit))
    assert end_of(observation) == ('exited', 0, None)
    world.settle(backend)
    assert world.left(unit.key) == []


def test_the_end_of_a_job_with_gpus_is_told_when_nothing_can_use_them_any_more(world):
    backend = world.backend()
    unit = world.shell(
        f"setsid -f sh -c '{IGNORING}'; sleep 0.2", requirements={'local_gpu': 1}, grace=0.2
    )
    (observation,) = world.wait_for_end(backend, world.submit(backend, unit))
    assert end_of(observation) == ('exited', 0, None)
    assert world.left(unit.key) == []


def test_the_end_of_one_job_spares_what_belongs_to_its_siblings(world):
    backend = world.backend()
    unit = world.shell(':', f"setsid -f sh -c 'printf a; {ENDLESS}'; {ENDLESS}")
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'a', 'job1')
    world.wait_until(lambda: next(iter(backend.observe(refs).values()))['job0'].state == 'exited')
    world.wait_until(lambda: backend.observe(refs) and not backend.busy)
    assert len([p for p in world.left(unit.key) if p.pid == p.session]) == 2
    backend.stop(refs, 0.0)
    world.wait_for_end(backend, refs)


def test_a_runner_that_was_killed_takes_its_program_along(world):
    backend = world.backend()
    unit = world.shell(f'printf a; {ENDLESS}')
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'a')
    runner = int(next(iter(refs)).partition('=')[2].partition('/')[0])
    os.kill(runner, signal.SIGKILL)
    (observation,) = world.wait_for_end(backend, refs)
    assert end_of(observation) == ('exited', None, signal.SIGKILL)
    assert world.left(unit.key) == []


@pytest.mark.parametrize('owned', [True, False])
def test_a_timeout_ends_one_job_and_says_so(world, owned):
    backend = world.backend()
    unit = world.shell(IGNORING, timeout=0.3, grace=0.1)
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready')
    (observation,) = world.wait_for_end(backend if owned else world.backend(), refs)
    assert end_of(observation) == ('exited', None, signal.SIGKILL)
    assert observation['job0'].reason == 'timed out after 0.3 s'


def test_two_hundred_running_units_are_observed_without_reading_the_list_of_processes(world):
    backend = world.backend()
    refs = world.submit(backend, *(world.unit(('/bin/sleep', '1000')) for _ in range(200)))
    for _ in range(20):
        observations = backend.observe(refs)
    assert all(o['job0'].state == 'running' for o in observations.values())
    assert world.scans == 0
    assert backend.period == 1.0
    backend.stop(refs, 1000.0)
    scans = world.scans
    assert scans == 1
    world.wait_for_end(backend, refs)
    assert world.scans - scans < 30


def test_what_hides_from_marks_and_sessions_is_found_by_the_lease_that_it_holds(world):
    log = '"$XM_OUTPUT_DIR/../output.log"'
    hide = 'env -i setsid sh -c "echo hidden; exec sleep 60" &'
    unit = world.shell(f'{hide} while [ ! -s {log} ]; do sleep 0.02; done')
    backend = world.backend()
    refs = world.submit(backend, unit)
    (observation,) = world.wait_for_end(backend, refs)
    assert observation['job0'].exit_code == 0
    assert world.log(unit).read_bytes() == b'hidden\n'
    assert not processes_with_lock(locks.byte_of(unit.key), LEASE)
