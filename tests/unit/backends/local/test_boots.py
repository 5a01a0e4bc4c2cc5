"""What was recorded before the machine went down is never taken for a process of today."""

import os
import re
import signal

import pytest

from xmanager.backends.local.processes import boot_id

ENDLESS = 'echo begun; while :; do sleep 1; done'
BEFORE = {**os.environ, 'XM_BOOT_ID': 'aaaaaaaa'}
AFTER = {**os.environ, 'XM_BOOT_ID': 'bbbbbbbb'}


@pytest.fixture
def running(world):
    """A unit that runs, with its reference, submitted by a back end that is gone."""
    unit = world.shell(ENDLESS)
    refs = world.submit(world.backend(BEFORE), unit)
    world.wait_for_log(unit, b'begun\n')
    return unit, refs


def test_each_boot_has_a_name():
    assert re.fullmatch('[0-9a-f]{8}', boot_id({}))
    assert boot_id({'XM_BOOT_ID': 'aaaaaaaa'}) == 'aaaaaaaa'


def test_a_runner_of_this_boot_is_known_by_its_number(world, running):
    _, refs = running
    assert next(iter(refs)).endswith('@aaaaaaaa')
    backend = world.backend(BEFORE)
    assert backend.observe(refs)[next(iter(refs))]['job0'].state == 'running'
    backend.stop(refs, 0.0)
    world.wait_for_end(backend, refs)


@pytest.mark.parametrize('has_reference', [True, False])
def test_a_runner_of_an_earlier_boot_is_gone_whoever_has_its_number(world, running, has_reference):
    unit, refs = running
    pid = int(re.findall(r'=(\d+)/', next(iter(refs)))[0])
    backend = world.backend(AFTER)
    if not has_reference:
        refs = {backend.find([unit])[unit.key]: unit}
        assert list(refs) == [f'job0={pid}/0@bbbbbbbb']
    (observation,) = world.wait_for_end(backend, refs)
    assert observation['job0'].state == 'vanished'
    assert observation['job0'].reason == 'the machine went down'


def test_what_ended_before_the_machine_went_down_is_known(world):
    unit = world.shell('exit 4')
    refs = world.submit(before := world.backend(BEFORE), unit)
    world.wait_for_end(before, refs)
    backend = world.backend(AFTER)
    refs = {**refs, backend.find([unit])[unit.key]: unit}
    for observation in world.wait_for_end(backend, refs):
        assert observation['job0'].exit_code == 4


def test_references_and_records_that_name_no_boot_are_still_read(world, running):
    unit, refs = running
    status = unit.folder / 'job0' / 'status'
    status.write_text(status.read_text().replace(' aaaaaaaa', ''))
    backend = world.backend(AFTER)
    old = {next(iter(refs)).partition('@')[0]: unit}
    assert backend.observe(old)[next(iter(old))]['job0'].state == 'running'
    assert backend.find([unit]) == {unit.key: f'{next(iter(old))}@bbbbbbbb'}
    os.killpg(int(re.findall(r'=(\d+)/', next(iter(refs)))[0]), signal.SIGKILL)
    world.wait_for_end(backend, old)
