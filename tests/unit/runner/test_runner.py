"""The runner keeps the exit code of its program, under every shell that may be /bin/sh."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from xmanager import runner
from xmanager.runner.record import Ending, read_record

SHELLS = [
    shell
    for shell in (['dash'], ['bash', '--posix'], ['bash'], ['busybox', 'sh'])
    if shutil.which(shell[0])
]


@pytest.fixture(params=SHELLS, ids=' '.join)
def shell(request):
    return request.param


class Started:
    """A runner under one shell, in a session of its own as the back end starts it."""

    def __init__(self, shell, folder: Path, argv, cwd='/'):
        self.status, self.log = folder / 'status', folder / 'output.log'
        command = runner.command(self.status, 2, 'b007', cwd, argv)
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(
                shell + command[1:],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait(self):
        self.code = self.process.wait(20)
        return read_record(self.status)

    def wait_for(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@pytest.fixture
def start(shell, tmp_path):
    started = []

    def start(*argv, cwd='/'):
        started.append(Started(shell, tmp_path, argv, cwd))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_it_records_its_start_and_the_exit_code(start):
    started = start('/bin/sh', '-c', 'exit 7')
    record = started.wait()
    assert (record.attempt, record.pid) == (2, started.process.pid)
    assert record.ending == Ending(exit_code=7)
    assert started.code == 7
    assert started.log.read_bytes() == b''


def test_the_start_is_on_record_while_the_program_runs(start):
    started = start('/bin/sleep', '1000')
    started.wait_for(lambda: read_record(started.status) is not None)
    record = read_record(started.status)
    assert record is not None
    assert record.ending is None


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_it_records_the_signal_and_adds_nothing_to_the_output(start, number):
    started = start('/bin/sh', '-c', f'printf before; kill -{int(number)} $$')
    assert started.wait().ending == Ending(signal=int(number))
    assert started.log.read_bytes() == b'before'


@pytest.mark.parametrize('name', ['HUP', 'INT', 'QUIT', 'USR1', 'USR2', 'ALRM', 'TERM'])
def test_it_outlives_a_signal_to_its_group_to_record_what_it_did(start, name):
    started = start('/bin/sh', '-c', f'kill -{name} 0; exec sleep 1000')
    assert started.wait().ending == Ending(signal=int(signal.Signals[f'SIG{name}']))


def test_the_program_may_handle_the_signal_itself(start):
    started = start('/bin/sh', '-c', "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    started.wait_for(lambda: started.log.read_bytes() == b'ready\n')
    os.killpg(started.process.pid, signal.SIGTERM)
    assert started.wait().ending == Ending(exit_code=5)


def test_the_program_gets_default_signal_handling(start):
    # proc(5): SigIgn is the set of ignored signals.
    started = start('/bin/grep', '^SigIgn', '/proc/self/status')
    started.wait()
    ignored = int(started.log.read_text().split()[1], 16)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
        assert not ignored & 1 << number - 1


def test_standard_output_and_standard_error_are_one_stream_in_order(start):
    started = start('/bin/sh', '-c', 'for i in 1 2 3; do printf o$i; printf e$i >&2; done')
    started.wait()
    assert started.log.read_bytes() == b'o1e1o2e2o3e3'


def test_standard_input_is_empty(start):
    started = start('/bin/cat')
    assert started.wait().ending == Ending(exit_code=0)


def test_a_missing_program_is_127_and_the_log_says_so(start):
    started = start('/no/such/program')
    assert started.wait().ending == Ending(exit_code=127)
    assert b'/no/such/program' in started.log.read_bytes()


def test_a_missing_folder_is_said_in_the_log(start):
    started = start('/bin/true', cwd='/no/such/folder')
    assert started.wait().ending.exit_code not in (0, None)
    assert b'/no/such/folder' in started.log.read_bytes()


def test_it_runs_the_program_in_the_folder(start, tmp_path):
    folder = tmp_path / '-a folder; with $signs'
    folder.mkdir()
    started = start('/bin/pwd', cwd=str(folder))
    started.wait()
    assert started.log.read_text() == f'{folder}\n'


def test_it_exits_with_the_code_although_the_status_can_not_be_written(start, tmp_path):
    (tmp_path / 'status').mkdir()
    started = start('/bin/sh', '-c', 'exit 7')
    assert started.wait() is None
    assert started.code == 7


def test_its_text_is_short_and_has_no_comments():
    assert '#' not in runner.script().replace('"$#"', '')
    assert len(runner.script()) < 400


def test_it_costs_less_than_two_megabytes_beside_a_program(start):
    started = start('/bin/sleep', '1000')
    started.wait_for(lambda: read_record(started.status) is not None)
    rollup = Path(f'/proc/{started.process.pid}/smaps_rollup').read_text()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith('Pss:'))
    assert pss < 2048
