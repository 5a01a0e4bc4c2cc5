"""An element runs its program as it was told and records how that ended, under every shell that may be /bin/sh."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.backends.slurm.node.started import (
    SHELLS_WITH_DEFAULT_SIGNALS,
)

from xmanager.backends.slurm.batch import Kept
from xmanager.backends.slurm.node import script

NUMBERS = itertools.count(1)
of_bash = pytest.mark.parametrize('shell', [['bash']], ids=' '.join)
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
    started = start(sys.executable, '-c', DUMP, *words, number=next(NUMBERS))
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


@pytest.mark.parametrize(
    ('environ', 'env', 'order'),
    [
        ({}, {}, 'unset'),
        ({'CUDA_VISIBLE_DEVICES': '1,3'}, {}, 'PCI_BUS_ID'),
        ({'CUDA_VISIBLE_DEVICES': '1', 'CUDA_DEVICE_ORDER': 'node'}, {}, 'node'),
        ({'CUDA_VISIBLE_DEVICES': '1'}, {'CUDA_DEVICE_ORDER': 'user'}, 'user'),
    ],
)
def test_cuda_numbers_devices_as_slurm_does(start, environ, env, order):
    started = start('/bin/sh', '-c', 'echo "${CUDA_DEVICE_ORDER-unset}"', environ=environ, env=env)
    started.wait()
    assert started.log.decode() == f'{order}\n'


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


@pytest.mark.parametrize('shell', SHELLS_WITH_DEFAULT_SIGNALS, ids=' '.join)
def test_the_program_gets_default_signal_handling(start):
    started = start('/bin/grep', '^SigIgn', '/proc/self/status')
    started.wait()
    # The first 31; those that the C library keeps to itself are left as they came.
    assert int(started.log.split()[1], 16) & 0x7FFFFFFF == 0


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


@of_bash
def test_setup_lines_run_before_the_program_and_are_bashs(start):
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


@of_bash
def test_setup_lines_that_exit_end_the_job(start):
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
