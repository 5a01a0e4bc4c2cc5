"""An element runs its program as it was told and records how that ended, under every shell that may be /bin/sh."""

import contextlib
import json
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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.backends.slurm.steps import a_request, a_step
from xmanager.backends.slurm import script
from xmanager.backends.slurm.arrays import Bounds, batches
from xmanager.backends.slurm.batch import Kept
from xmanager.backends.slurm.element import End, read_begun, read_end

SHELLS = [
    shell
    for shell in (['dash'], ['bash', '--posix'], ['bash'], ['busybox', 'sh'])
    if shutil.which(shell[0])
]
ALL_BYTES = os.fsdecode(bytes(range(1, 256)))
ODD_WORDS = [
    *(
        '',
        ' ',
        ':',
        '+',
        '-',
        '--',
        '=',
        '=0.0',
        '\n',
        '\n\n',
        'a\n',
        '\na',
        'line\n+break\n-\n=\n',
    ),
    *(
        '\'"`',
        '$HOME $(id) ${x} `id` *',
        '\\',
        '\\\n',
        'naïve — 日本語 🎲',
        ';|&<>()!#~%',
        '\t\r\x7f\x01',
    ),
    *('env=A=b', 'folder=/', ALL_BYTES, ALL_BYTES[::-1], 'x' * 100_000),
]
DUMP = (
    'import os, sys; out = os.environ["XM_OUTPUT_DIR"]; '
    'open(out + "/argv", "wb").write(b"\\0".join(map(os.fsencode, sys.argv[1:]))); '
    'open(out + "/env", "wb").write(b"\\0".join(k + b"=" + v for k, v in os.environb.items()))'
)


class Started:
    """An element under one shell, in a session of its own as Slurm starts it."""

    def __init__(self, shell, batch, environ, element=None):
        self.batch, self.restart = batch, environ.get('SLURM_RESTART_COUNT', '0')
        self.element, self.step = element or 0, batch.requests[element or 0].steps[0]
        self.folder = Path(self.step.folder)
        given = {
            'PATH': os.environ['PATH'],
            'SLURMD_NODENAME': 'n3',
            'SLURM_JOB_ID': '4711',
            **({} if element is None else {'SLURM_ARRAY_TASK_ID': str(element)}),
            **environ,
        }
        words = batch.argv[batch.argv.index(f'{batch.folder}/batch.sh') :]
        self.process = subprocess.Popen(
            [*shell, *words],
            env=given,
            cwd='/',
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> End:
        self.said, _ = self.process.communicate(timeout=20)
        self.code = self.process.returncode
        end = read_end(self._record('ends').read_bytes())
        assert end is not None
        return end

    def begun(self):
        path = self._record('begun')
        return read_begun(path.read_bytes()) if path.exists() else None

    def _record(self, folder):
        return Path(self.batch.folder, folder, f'{self.element}.0.{self.restart}')

    @property
    def log(self) -> bytes:
        path = self.folder / 'output.log'
        return path.read_bytes() if path.exists() else b''

    def wait_for(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def wait_for_log(self, text):
        self.wait_for(lambda: text in self.log)

    def signal(self, number):
        """As scancel does it for a batch script: to its process group, the shell and its timer."""
        os.killpg(self.process.pid, number)

    def end(self):
        """As Slurm ends a job: to all its processes."""
        self._signal_all(signal.SIGCONT)
        time.sleep(0.01)  # Two calls of a daemon: what is sent in one moment has no order.
        self._signal_all(signal.SIGTERM)

    def _signal_all(self, number):
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def dump(self, name) -> list[bytes]:
        return (self.folder / 'out' / name).read_bytes().split(b'\0')

    def kill(self):
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate(timeout=20)


def descendants(pid) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


@pytest.fixture(params=SHELLS, ids=' '.join)
def shell(request):
    return request.param


@pytest.fixture
def start(shell, tmp_path):
    started = []

    def start(*argv, batch_id='', number=1, environ=None, **fields):
        out = f'{tmp_path}/experiments/1/{number}/train/out'
        env = {'XM_OUTPUT_DIR': out, **fields.pop('env', {})}
        request = a_request(root=str(tmp_path), number=number, argv=argv, env=env, **fields)
        [batch] = batches([request], Bounds(), lambda: batch_id or f'b{number}')
        write(batch)
        started.append(Started(shell, batch, environ or {}))
        return started[-1]

    start.started = started
    yield start
    for one in started:
        one.kill()


def write(batch):
    for path, content in batch.files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)


# What the program gets.


def test_arguments_arrive_byte_for_byte(start):
    started = start(sys.executable, '-c', DUMP, *ODD_WORDS)
    assert started.wait().exit_code == 0
    assert started.dump('argv') == [os.fsencode(word) for word in ODD_WORDS]


@pytest.mark.parametrize('locale', [{}, {'LC_ALL': 'C.UTF-8'}, {'LC_ALL': 'xx_XX.nowhere'}])
def test_the_environment_arrives_byte_for_byte(start, locale):
    odd = {f'V{number}': word for number, word in enumerate(ODD_WORDS)}
    special = {
        'UID': '5',
        'RANDOM': 'r',
        'OPTIND': 'x',
        'SHELLOPTS': 'y',
        'IFS': '0123',
        'LINENO': 'z',
    }
    started = start(sys.executable, '-c', DUMP, env={**odd, **special}, environ=locale)
    assert started.wait().exit_code == 0
    seen = dict(one.split(b'=', 1) for one in started.dump('env'))
    wanted = {**odd, **special, **locale}
    got = {name: seen.get(name.encode()) for name in wanted}
    assert got == {name: os.fsencode(value) for name, value in wanted.items()}
    assert b'LC_ALL' not in seen or locale


@settings(
    max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(st.binary().map(lambda b: os.fsdecode(b.replace(b'\0', b''))), max_size=4))
def test_any_words_arrive(start, words):
    number = len(start.started) + 1
    started = start(sys.executable, '-c', DUMP, *words, number=number)
    assert started.wait().exit_code == 0
    assert started.dump('argv')[: len(words)] == [os.fsencode(word) for word in words]


def test_a_job_knows_its_attempt_and_where_it_runs(start):
    started = start(
        *(sys.executable, '-c', DUMP),
        attempt=3,
        env={'XM_KEY': 'k'},
        environ={'XM_FOREIGN': 'x', 'XM_HOME': '/h'},
    )
    started.wait()
    seen = dict(one.split(b'=', 1) for one in started.dump('env'))
    ours = {name: value for name, value in seen.items() if name.lower().startswith(b'xm_')}
    out = os.fsencode(started.folder / 'out')
    assert ours.pop(b'XM_OUTPUT_DIR') == out
    assert json.loads(ours.pop(b'XM_JOB_ADDRESSES')) == {'train': ['n3']}
    assert ours == {b'XM_ATTEMPT': b'3', b'XM_KEY': b'k', b'XM_HOME': b'/h'}


def test_places_are_put_before_those_that_are_named_already(start):
    started = start(
        *('sh', '-c', 'echo "$PATH|$NEW|$SET"'),
        env={'SET': 'user'},
        prepended={'PATH': '/first', 'NEW': '/place', 'SET': '/place'},
    )
    started.wait()
    assert started.log.decode() == f'/first:{os.environ["PATH"]}|/place|/place:user\n'


def test_secrets_come_from_the_environment_of_sbatch(start):
    value = 'se\ncret $x'
    started = start(
        *(sys.executable, '-c', DUMP),
        secrets={'TOKEN': 'MINE', 'MINE': 'TOKEN'},
        environ={'MINE': value, 'TOKEN': 't'},
    )
    started.wait()
    seen = dict(one.split(b'=', 1) for one in started.dump('env'))
    assert (seen[b'TOKEN'], seen[b'MINE']) == (value.encode(), b't')
    assert value not in str(started.batch.files)


def test_a_missing_secret_is_named_and_nothing_is_run(start):
    end = (started := start('/bin/echo', 'ran', secrets={'TOKEN': 'MY_TOKEN'})).wait()
    assert end.refused.startswith('secret MY_TOKEN is not set')
    assert started.log.decode() == f'xm: {end.refused}\n'
    assert started.code == 126


def test_standard_output_and_error_are_one_log_and_input_is_empty(start):
    started = start('/bin/sh', '-c', 'wc -c; for i in 1 2; do printf o$i; printf e$i >&2; done')
    started.wait()
    assert started.log == b'0\no1e1o2e2'
    assert started.said == b''


def test_the_program_gets_default_signal_handling(start, shell):
    if shell[0] == 'busybox' and not has_default_signal():
        pytest.skip('env(1) can not do it here')
    started = start('/bin/grep', '^SigIgn', '/proc/self/status')
    started.wait()
    assert int(started.log.split()[1], 16) == 0


def has_default_signal():
    return subprocess.run(['env', '--default-signal=INT', 'true'], check=False).returncode == 0


def test_it_runs_the_program_in_its_folder(start, tmp_path):
    folder = tmp_path / '-a folder; with $signs\nand = more'
    folder.mkdir()
    (folder / 'a=b').write_text('#!/bin/sh\npwd; echo "$PWD"\n')
    (folder / 'a=b').chmod(0o755)
    started = start('./a=b', cwd=str(folder), env={'UID': '5'})
    started.wait()
    assert started.log.decode() == f'{folder}\n' * 2


# What it is not given.


def test_a_missing_program_is_told_in_a_sentence_that_names_the_node(start):
    started = start('/no/such/program')
    end = started.wait()
    assert (end.exit_code, started.code) == (127, 127)
    assert end.refused.startswith(
        'node n3 has no /no/such/program. Put it into a folder that all nodes see'
    )
    assert started.log.decode() == f'xm: {end.refused}\n'


@pytest.mark.parametrize(
    ('argv', 'words', 'code'),
    [
        (('no-such-program',), 'node n3 has no program no-such-program on PATH', 127),
        (('/etc/passwd',), '/etc/passwd may not be executed on node n3. Run: chmod', 126),
        (('/etc',), '/etc is no file on node n3', 126),
        (('',), 'the command is empty', 127),
    ],
)
def test_what_can_not_be_run_is_told(start, argv, words, code):
    end = start(*argv).wait()
    assert end.refused.startswith(words)
    assert end.exit_code == code


def test_a_missing_folder_is_told(start):
    end = (started := start('/bin/true', cwd='/no/such/folder')).wait()
    assert end.refused.startswith('node n3 has no folder /no/such/folder')
    assert started.code == 126


def test_a_node_that_does_not_see_the_folder_says_so_by_its_exit_code(start):
    started = start('/bin/true')
    started.kill()
    shutil.rmtree(started.batch.folder)
    words = [str(word) for word in started.process.args]
    script_copy = started.folder.parents[1] / 'copy'
    script_copy.write_bytes(script.alone('/bin/sh'))
    words[words.index(f'{started.batch.folder}/batch.sh')] = str(script_copy)
    assert subprocess.run(words, check=False, timeout=20).returncode == 97


def test_a_packaged_program_is_run_at_its_place_or_from_its_copy(start, tmp_path):
    program, copy = tmp_path / 'program', tmp_path / 'copy'
    for path in (program, copy):
        path.write_text(f'#!/bin/sh\necho {path.name}\n')
        path.chmod(0o755)
    status = program.stat()
    kept = Kept(str(copy), status.st_size, int(status.st_mtime))
    fields = {'kept': kept, 'env': {'PATH': '/nowhere'}}
    first = start(str(program), **fields)
    first.wait()
    program.write_text('#!/bin/sh\necho it has changed\n')
    second = start(str(program), number=2, **fields)
    second.wait()
    copy.unlink()
    third = start(str(program), number=3, **fields)
    assert (first.log, second.log) == (b'program\n', b'copy\n')
    assert f'neither {program} as it was packaged nor the copy' in third.wait().refused


# Lines of setup.


def test_setup_lines_run_before_the_program_and_are_bashs(start, shell):
    if shell != ['bash']:
        pytest.skip('setup lines are run by bash')
    setup = (
        'set -eu',
        'A=(1 2); export FROM_SETUP=${A[1]}',
        'set -- clobbered',
        'echo in setup; IFS=xyz',
    )
    started = start('/bin/sh', '-c', 'echo $FROM_SETUP $0', 'x y', setup=setup)
    started.wait()
    assert started.log == b'in setup\n2 x y\n'
    assert started.batch.files[f'{started.batch.folder}/batch.sh'].startswith(b'#!/bin/bash\n')


def test_setup_lines_that_exit_end_the_job(start, shell):
    if shell != ['bash']:
        pytest.skip('setup lines are run by bash')
    started = start('/bin/echo', 'ran', setup=('set -e', 'false'))
    assert started.wait().exit_code == 1
    assert started.log == b''


# Records.


def test_it_records_its_beginning_and_its_end(start):
    started = start('/bin/sh', '-c', 'exit 7')
    end = started.wait()
    begun = started.begun()
    assert begun is not None
    assert (begun.job, begun.node) == ('4711', 'n3')
    assert (end.exit_code, end.signal, started.code) == (7, None, 7)
    assert abs(time.time() - begun.at) < 1000
    assert begun.at <= end.at
    assert not [
        name for name in os.listdir(Path(started.batch.folder, 'ends')) if re.match(r'\.\d', name)
    ]


def test_it_measures_what_the_program_used(start):
    busy = 'import time\nwhile time.process_time() < 0.3: pass'
    end = start(sys.executable, '-c', busy).wait()
    assert end.user_seconds is not None
    assert 0.2 < end.user_seconds + end.system_seconds < 10


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGUSR1])
def test_it_records_the_signal_and_adds_nothing_to_the_log(start, number):
    started = start('/bin/sh', '-c', f'printf before; kill -{int(number)} $$')
    end = started.wait()
    assert (end.exit_code, end.signal, end.terminated) == (None, number, False)
    assert started.log == b'before'


def test_the_folders_are_for_their_user_alone(start):
    started = start('/bin/true')
    started.wait()
    assert started.folder.stat().st_mode & 0o077 == 0


def test_an_end_is_not_there_before_the_program_has_ended(start):
    started = start('/bin/sh', '-c', 'echo ready; exec sleep 1000')
    started.wait_for_log(b'ready')
    assert started.begun() is not None
    assert not started._record('ends').exists()


# Signals and limits.


@pytest.mark.parametrize(
    'number', [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM]
)
def test_it_outlives_what_slurm_sends_to_all(start, shell, number):
    if shell[0] == 'busybox' and number == signal.SIGINT and not has_default_signal():
        pytest.skip('env(1) can not do it here')
    started = start('/bin/sh', '-c', 'echo ready; exec sleep 1000', timeout=1000.0)
    started.wait_for_log(b'ready')
    started.signal(number)
    end = started.wait()
    assert (end.signal, end.terminated) == (number, False)


CAREFUL = (
    sys.executable,
    '-uc',
    'import signal, sys, time\n'
    'def end(*_):\n'
    '    global count; count += 1; print("term", flush=True)\n'
    'count = 0; signal.signal(signal.SIGTERM, end); print("ready", flush=True)\n'
    'while not count: time.sleep(0.01)\n'
    'time.sleep(0.4); print("saved", count, flush=True); sys.exit(5)',
)


@pytest.mark.parametrize('way', ['signal', 'end'])
def test_a_term_from_outside_is_noted(start, way):
    started = start('/bin/sh', '-c', 'echo ready; exec sleep 1000')
    started.wait_for_log(b'ready')
    if way == 'signal':
        started.signal(signal.SIGTERM)
    else:
        started.end()
    end = started.wait()
    assert (end.signal, end.terminated, started.code) == (15, True, 143)


@pytest.mark.parametrize('way', ['signal', 'end'])
def test_a_program_gets_one_term_and_may_take_its_time(start, way):
    started = start(*CAREFUL)
    started.wait_for_log(b'ready')
    if way == 'signal':
        started.signal(signal.SIGTERM)
    else:
        started.end()
    end = started.wait()
    assert (end.exit_code, end.terminated) == (5, True)
    assert started.log == b'ready\nterm\nsaved 1\n'


def test_what_does_not_heed_the_term_of_scancel_is_killed_after_its_grace_time(start):
    started = start(
        '/bin/sh',
        '-c',
        "trap '' TERM; echo ready; while :; do sleep 0.01; done",
        grace=0.2,
        timeout=1000.0,
    )
    started.wait_for_log(b'ready')
    started.signal(signal.SIGTERM)
    end = started.wait()
    assert (end.signal, end.terminated, end.timed_out) == (9, True, False)


def test_a_timeout_ends_the_program_and_what_it_started(start):
    started = start('/bin/sh', '-c', 'sleep 1000 & echo ready; wait', timeout=0.2)
    end = started.wait()
    assert (end.signal, end.timed_out, end.terminated, end.warned) == (15, True, False, False)


def test_what_does_not_end_in_its_grace_time_is_killed(start):
    started = start(
        '/bin/sh', '-c', "trap '' TERM; while :; do sleep 0.01; done", timeout=0.1, grace=0.1
    )
    end = started.wait()
    assert (end.signal, end.timed_out) == (9, True)


@pytest.mark.parametrize('name', ['SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGINT', 'SIGTERM'])
def test_a_warning_comes_before_the_timeout(start, shell, name):
    if shell[0] == 'busybox' and name == 'SIGINT' and not has_default_signal():
        pytest.skip('env(1) can not do it here')
    short = name.removeprefix('SIG')
    started = start(
        *(
            '/bin/bash',
            '-c',
            f"trap 'echo warned; exit 3' {short}; echo ready; while :; do sleep 0.01; done",
        ),
        timeout=1000.0,
        warn_before=999.8,
        warn_signal=name,
    )
    end = started.wait()
    assert (end.exit_code, end.warned, end.timed_out, end.terminated) == (3, True, False, False)
    assert started.log.endswith(b'warned\n')


def test_a_warning_is_followed_by_the_timeout(start):
    started = start(
        *('/bin/sh', '-c', "trap 'echo warned' USR1; while :; do sleep 0.01; done"),
        timeout=0.4,
        warn_before=0.2,
    )
    end = started.wait()
    assert (end.signal, end.warned, end.timed_out) == (15, True, True)
    assert started.log.endswith(b'warned\n')


def test_a_warning_by_slurm_is_passed_on(start):
    started = start(
        *('/bin/sh', '-c', "trap 'echo warned' USR1; echo ready; while :; do sleep 0.01; done"),
        warn_signal='SIGUSR1',
    )
    started.wait_for_log(b'ready')
    started.process.send_signal(signal.SIGUSR1)
    started.wait_for_log(b'warned')
    started.signal(signal.SIGTERM)
    assert started.wait().warned


def test_timers_end_with_the_program(start):
    started = start('/bin/true', timeout=1234.5)
    started.wait()
    started.wait_for(lambda: not running('sleep\x001234.5'))


def running(words):
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            found += [folder] if words in (folder / 'cmdline').read_text() else []
    return found


def test_what_the_program_leaves_behind_is_ended_before_the_end_is_told(start):
    started = start(
        '/bin/sh',
        '-c',
        '(trap \'echo swept; exit\' TERM; echo up; while :; do sleep 0.01; done) & until [ -s "$XM_OUTPUT_DIR/../output.log" ]; do sleep 0.01; done',
    )
    started.wait()
    assert started.log.endswith(b'swept\n')


# Attempts.


def test_a_requeued_element_goes_on_in_its_folder_as_the_next_attempt(start):
    words = ('/bin/sh', '-c', 'echo attempt $XM_ATTEMPT; [ $XM_ATTEMPT = 4 ] || exec sleep 1000')
    first = start(*words, attempt=3)
    first.wait_for_log(b'attempt')
    first.signal(signal.SIGTERM)
    assert first.wait().terminated
    second = start(*words, attempt=3, environ={'SLURM_RESTART_COUNT': '1'})
    assert second.wait().exit_code == 0
    assert second.log == b'attempt 4\n'
    assert (second.folder / 'output.3.log').read_bytes() == b'attempt 3\n'


def test_what_ended_by_itself_is_not_run_again(start):
    start('/bin/echo', 'ran').wait()
    again = start('/bin/echo', 'ran', environ={'SLURM_RESTART_COUNT': '1'})
    assert again.wait().refused == 'has ended already'
    assert again.log == b'ran\n'


def test_what_a_node_took_with_it_is_run_again(start):
    first = start('/bin/sh', '-c', 'echo up; exec sleep 1000')
    first.wait_for_log(b'up')
    first.kill()
    again = start('/bin/echo', 'ran', environ={'SLURM_RESTART_COUNT': '1'})
    assert again.wait().exit_code == 0
    assert again.log == b'ran\n'
    assert (again.folder / 'output.1.log').read_bytes() == b'up\n'


def test_a_unit_that_is_in_two_batches_runs_once(start):
    start('/bin/echo', 'first').wait()
    second = start('/bin/echo', 'second', batch_id='b2')
    assert second.wait().refused == 'superseded by batch b1'
    assert second.log == b'first\n'
    assert second.begun() is None


def test_the_next_attempt_is_another_batchs(start):
    start('/bin/echo', 'first').wait()
    second = start('/bin/echo', 'second', batch_id='b2', attempt=5)
    assert second.wait().exit_code == 0
    assert (second.folder / 'output.1.log').read_bytes() == b'first\n'
    assert second.log == b'second\n'


def test_the_same_element_is_never_run_twice_at_once(start):
    first = start('/bin/sh', '-c', 'echo up; exec sleep 1000')
    first.wait_for_log(b'up')
    second = start('/bin/sh', '-c', 'echo up; exec sleep 1000')
    second.process.communicate(timeout=20)
    assert second.process.returncode == 126
    assert first.log == b'up\n'


# Arrays.


def test_each_element_of_an_array_runs_its_own_words(shell, tmp_path):
    requests = [
        a_request(root=str(tmp_path), number=n, argv=('/bin/echo', f'I am {n}'))
        for n in range(1, 251)
    ]
    [batch] = batches(requests, Bounds(), lambda: 'b1')
    write(batch)
    for element in (0, 1, 99, 100, 249):
        started = Started(shell, batch, {}, element)
        assert started.wait().exit_code == 0
        assert started.log.decode() == f'I am {element + 1}\n'


# What it costs.


def test_it_costs_less_than_two_megabytes_beside_a_program(start, shell):
    if shell[0] == 'bash':
        pytest.skip('bash is larger')
    started = start('/bin/sh', '-c', 'echo ready; exec sleep 1000')
    started.wait_for_log(b'ready')
    rollup = Path(f'/proc/{started.process.pid}/smaps_rollup').read_text()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith('Pss:'))
    assert pss < 2048


def test_its_text_has_no_comments():
    assert not [line for line in script.element().splitlines() if line.lstrip().startswith(b'#')]
