"""When TERM and KILL are due, by a clock that the test moves."""

import signal

import pytest

from xmanager.backends.local import endings
from xmanager.backends.local.processes import boot_seconds

ENDLESS = 'while :; do sleep 1; done'


class Clock:
    """Time as it is, and as much later as the test says."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return boot_seconds() + self.ahead


@pytest.fixture
def clock():
    return Clock()


def state_of(backend, refs):
    (observation,) = backend.observe(refs).values()
    return observation['job0'].state


def test_a_task_has_ten_seconds_between_term_and_kill_unless_it_states_others(world, clock):
    backend = world.backend(clock=clock)
    unit = world.shell(f"trap 'echo term' TERM; echo ready; {ENDLESS}")
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready\n')
    backend.stop(refs, None)
    world.wait_until(lambda: b'term' in world.log(unit).read_bytes())
    clock.ahead += 9
    assert state_of(backend, refs) == 'running'
    clock.ahead += 2
    (observation,) = world.wait_for_end(backend, refs)
    assert observation['job0'].signal == signal.SIGKILL


def test_a_timeout_counts_from_the_start_of_the_task(world, clock):
    backend = world.backend(clock=clock)
    refs = world.submit(backend, world.shell(ENDLESS, timeout=3600.0))
    clock.ahead += 3590
    assert state_of(backend, refs) == 'running'
    clock.ahead += 20
    (observation,) = world.wait_for_end(backend, refs)
    assert observation['job0'].reason == 'timed out after 3600.0 s'


def test_while_it_waits_for_the_grace_time_the_list_of_processes_is_left_alone(world, clock):
    backend = world.backend(clock=clock)
    unit = world.shell(f"trap '' TERM; echo ready; {ENDLESS}")
    refs = world.submit(backend, unit)
    world.wait_for_log(unit, b'ready\n')
    backend.stop(refs, 1000.0)
    scans = world.scans
    for _ in range(100):
        clock.ahead += 1
        assert state_of(backend, refs) == 'running'
    assert world.scans == scans
    assert backend.period <= 0.25
    backend.stop(refs, 0.0)
    world.wait_for_end(backend, refs)


def test_what_was_told_stays_told(world):
    """A unit whose one job has ended may be stopped because of the other: the news is not taken back."""
    backend = world.backend()
    unit = world.shell(f'setsid -f sh -c "trap \'\' TERM; {ENDLESS}"', ENDLESS)
    refs = world.submit(backend, unit)
    world.wait_until(lambda: state_of(backend, refs) == 'exited')
    backend.stop(refs, 0.3)
    while True:
        (observation,) = backend.observe(refs).values()
        assert observation['job0'].state == 'exited'
        if observation['job1'].state == 'exited':
            break
    assert world.left(unit.key) == []


def test_a_process_of_another_user_is_out_of_our_hands(world, monkeypatch):
    backend = world.backend()
    unit = world.shell(f"setsid -f sh -c 'echo ready; {ENDLESS}'")
    refs = world.submit(backend, unit)

    def refuse(process, number):
        raise PermissionError

    monkeypatch.setattr(endings, 'send', refuse)
    world.wait_for_end(backend, refs)
    world.settle(backend)


def test_units_that_are_asked_for_no_more_are_still_cleaned_up_and_then_forgotten(world):
    backend = world.backend()
    unit = world.shell(f"setsid -f sh -c '{ENDLESS}'; {ENDLESS}")
    refs = world.submit(backend, unit)
    backend.stop(refs, 0.0)
    assert backend.busy
    world.settle(backend)
    assert world.left(unit.key) == []
    assert backend.period == 1.0
