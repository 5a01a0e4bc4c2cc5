"""What a job gets, what it prints and how its end is told, with real processes."""

import os
import signal
import sys

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmanager.backend import Rejected
from xmanager.backends.local.backend import create
from xmanager.backends.local.runs import own_peak
from xmanager.errors import ExecutorError


def test_a_job_learns_where_it_is(world):
    backend = world.backend()
    unit = world.shell('env > seen')
    refs = world.submit(backend, unit)
    world.wait_for_end(backend, refs)
    seen = dict(
        line.split('=', 1)
        for line in (world.folder / 'seen').read_text().splitlines()
        if '=' in line
    )
    expected = {
        'XM_EXPERIMENT_ID': '7',
        'XM_WORK_UNIT_ID': unit.label,
        'XM_JOB_NAME': 'job0',
        'XM_OUTPUT_DIR': str(unit.folder / 'job0' / 'out'),
        'XM_ATTEMPT': '1',
        'XM_KEY': unit.key,
        'PYTHONUNBUFFERED': '1',
        'PWD': str(world.folder),
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert os.path.isdir(seen['XM_OUTPUT_DIR'])


def test_granted_gpus_are_all_that_a_job_sees(world):
    backend = world.backend({'PATH': os.environ['PATH']})
    script = 'echo "$CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER"'
    unit = world.shell(script, script, requirements={'local_gpu': 1})
    grant = {'job0': {'local_gpu': ('1',)}, 'job1': {'local_gpu': ('0',)}}
    world.wait_for_end(backend, world.submit(backend, unit, grant=grant))
    assert world.log(unit).read_text() == '1 PCI_BUS_ID\n'
    assert world.log(unit, 'job1').read_text() == '0 PCI_BUS_ID\n'


def test_only_a_job_that_asks_for_zero_gpus_sees_none(world):
    backend = world.backend({'CUDA_VISIBLE_DEVICES': '1,0'})
    silent = world.shell('echo "$CUDA_VISIBLE_DEVICES"')
    none = world.shell('echo "$CUDA_VISIBLE_DEVICES"', requirements={'local_gpu': 0})
    world.wait_for_end(backend, world.submit(backend, silent, none))
    assert world.log(silent).read_text() == '1,0\n'
    assert world.log(none).read_text() == '\n'


def test_output_is_kept_byte_for_byte_in_order(world):
    backend = world.backend()
    program = (
        'import os\n'
        'for i in range(256): os.write(1 + i % 2, bytes([i]))\n'
        'os.write(1, b"x" * 10_000_000 + b"\\n")\n'
    )
    unit = world.unit((sys.executable, '-c', program))
    (observation,) = world.wait_for_end(backend, world.submit(backend, unit))
    assert observation['job0'].exit_code == 0
    assert world.log(unit).read_bytes() == bytes(range(256)) + b'x' * 10_000_000 + b'\n'


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    words=st.lists(
        st.text(st.characters(exclude_characters='\0', exclude_categories=['Cs'])), max_size=8
    ),
    raw=st.lists(st.binary(max_size=20).map(lambda b: b.replace(b'\0', b'')), max_size=3),
)
def test_a_program_receives_what_was_given(world, words, raw):
    backend = world.backend()
    argv = [*words, *map(os.fsdecode, raw)]
    program = '#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n'
    path = world.folder / 'print words'
    if not path.exists():
        path.write_text(program)
        path.chmod(0o755)
    unit = world.unit((str(path), *argv))
    world.wait_for_end(backend, world.submit(backend, unit))
    assert world.log(unit).read_bytes() == b''.join(os.fsencode(word) + b'\0' for word in argv)


def test_resource_use_is_told(world):
    backend = world.backend()
    # More than this process ever had, after whatever test: what is less may be its own.
    size = own_peak() + 100_000_000
    program = f'import time; x = bytearray({size})\nwhile time.process_time() < 0.2: pass'
    unit = world.unit((sys.executable, '-c', program))
    (observation,) = world.wait_for_end(backend, world.submit(backend, unit))
    task = observation['job0']
    assert size < task.max_rss < size + 100_000_000
    assert 0.15 < task.user_seconds + task.system_seconds < 5


def test_a_peak_that_may_be_the_supervisors_own_is_not_told(world):
    backend = world.backend()
    (observation,) = world.wait_for_end(backend, world.submit(backend, world.shell(':')))
    assert observation['job0'].max_rss is None


def test_the_end_is_the_moment_when_the_program_ended(world):
    backend = world.backend()
    unit = world.shell(':')
    refs = world.submit(backend, unit)
    status = unit.folder / 'job0' / 'status'
    world.wait_until(lambda: status.exists() and 'exited' in status.read_text())
    os.utime(status, (1000, 1000))
    (observation,) = world.wait_for_end(backend, refs)
    assert observation['job0'].ended_at == 1000


def test_a_log_that_is_deleted_stops_nothing(world):
    backend = world.backend()
    unit = world.shell('while [ ! -e go ]; do sleep 0.01; done; echo late; exit 3')
    refs = world.submit(backend, unit)
    world.wait_until(world.log(unit).exists)
    world.log(unit).unlink()
    (world.folder / 'go').touch()
    (observation,) = world.wait_for_end(backend, refs)
    assert observation['job0'].exit_code == 3


def test_a_rejected_unit_leaves_nothing_running(world):
    backend = world.backend()
    # The second program can be found, but its arguments are too long to be passed: only the start itself tells.
    unit = world.unit(('/bin/sleep', '1000'), ('/bin/sleep', 'x' * 200_000))
    (answer,) = backend.submit([backend.render(unit, {})])
    assert isinstance(answer, Rejected)
    assert answer.task == 'job1'
    assert 'more than the system passes' in answer.reason
    world.settle(backend)
    assert world.left(unit.key) == []


def test_a_missing_secret_or_folder_rejects_the_unit(world):
    backend = world.backend({'PATH': '/bin'})
    for change, message in (
        ({'secrets': {'X': 'NO_SUCH'}}, 'secret NO_SUCH is not set'),
        ({'cwd': '/no/such'}, "cwd '/no/such' does not exist"),
    ):
        unit = world.shell(':')
        unit = attrs.evolve(unit, tasks=(attrs.evolve(unit.tasks[0], **change),))
        (answer,) = backend.submit([backend.render(unit, {})])
        assert isinstance(answer, Rejected)
        assert message in answer.reason


def test_a_job_outlives_a_supervisor_that_ignored_signals(world):
    """`nohup` and Python ignore some signals; a job must not inherit that."""
    backend = world.backend()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        refs = world.submit(backend, world.shell('kill -HUP $$; sleep 1000'))
    finally:
        signal.signal(signal.SIGHUP, before)
    (observation,) = world.wait_for_end(backend, refs)
    assert observation['job0'].signal == signal.SIGHUP


def test_capacity_names_the_devices(world):
    capacity = world.backend().capacity()
    assert capacity.amounts == {'cpu': 4.0, 'ram': 8.0 * 1024**3, 'local_gpu': 2}
    assert capacity.devices == {'local_gpu': ('0', '1')}
    with pytest.raises(ExecutorError, match='this host has 2 GPUs'):
        world.backend().check(world.shell(':', requirements={'local_gpu': 3}).tasks)


def test_what_can_never_start_is_refused_before_it_is_submitted(world):
    with pytest.raises(ExecutorError, match='NUL byte'):
        world.backend().check(world.shell('\0').tasks)


def test_a_setting_reaches_the_back_end():
    backend = create({'XM_LOCAL_RESOURCES': 'local_gpu=3'})
    assert backend.capacity().devices == {'local_gpu': ('0', '1', '2')}
