"""The programs that are sent to the login node: what they may be made of, and what they do there."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from xmanager.backends.slurm.remote import agent, agent_environments, agent_store, agent_watching

PROGRAMS = [
    Path(module.__file__)
    for module in (agent, agent_environments, agent_store, agent_watching)
    if module.__file__
]


class Sink(io.BytesIO):
    def frames(self) -> list[tuple[dict[str, Any], bytes]]:
        data, found = self.getvalue(), []
        while data:
            length, size = struct.unpack('>IQ', data[:12])
            header = json.loads(data[12 : 12 + length])
            found.append((header, data[12 + length : 12 + length + size]))
            data = data[12 + length + size :]
        return found


def frame(payload: bytes = b'', **header) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack('>IQ', len(text), len(payload)) + text + payload


def serve(*frames: bytes) -> list[tuple[dict[str, Any], bytes]]:
    sink = Sink()
    one = agent.Agent(agent.Wire(io.BytesIO(b''.join(frames)), sink))
    one.environ = {'PATH': '/usr/bin:/bin', 'HOME': '/nowhere'}
    one.serve()
    return sink.frames()


def extend(name: str) -> bytes:
    text = next(path for path in PROGRAMS if path.stem == name).read_bytes()
    return frame(zlib.compress(text), op='extend', name=name)


@pytest.mark.parametrize('path', PROGRAMS, ids=lambda path: path.stem)
def test_they_are_written_for_old_pythons_without_any_library(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 6))
    for node in ast.walk(tree):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ''] if isinstance(node, ast.ImportFrom) else []
        assert all(name.partition('.')[0] in sys.stdlib_module_names for name in names)


@pytest.mark.parametrize('path', PROGRAMS, ids=lambda path: path.stem)
def test_no_type_is_looked_at_when_they_run(path):
    """Python 3.6 has no `list[str]`: in a signature it must stand in quotes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            hints = [one.annotation for one in arguments] + [node.returns]
            for hint in hints:
                assert hint is None or isinstance(hint, ast.Constant | ast.Name | ast.Attribute)


def test_arguments_and_secrets_reach_a_program_byte_for_byte():
    words = ["it's", '"$HOME"', 'a\nb', '`x`', 'ü\udcff', '']
    script = 'import os,sys; print(ascii([sys.argv[1:], os.environ["TOKEN"]]))'
    argv = [sys.executable, '-c', script, *words]
    [(said, output)] = serve(frame(op='run', argv=argv, env={'TOKEN': "s'\n$1"}, limit=30))
    assert said['code'] == 0
    assert ast.literal_eval(output.decode()) == [words, "s'\n$1"]


def test_a_program_that_hangs_is_killed_with_its_children():
    begun = time.monotonic()
    argv = ['sh', '-c', 'sleep 1000 & sleep 1000']
    [(said, _)] = serve(frame(op='run', argv=argv, env={}, limit=0.2))
    assert said == {'late': 0.2}
    assert time.monotonic() - begun < 100


def test_a_program_that_is_not_there_is_named_with_the_path():
    [(said, _)] = serve(frame(op='run', argv=['sbatch-not'], env={}, limit=1))
    assert said == {'missing': 'sbatch-not', 'path': '/usr/bin:/bin'}


def test_files_are_the_users_own_and_scripts_can_be_run(tmp_path):
    files = {f'{tmp_path}/a/data': b'\0\xff' * 10, f'{tmp_path}/a/run.sh': b'#!/bin/sh\n'}
    sizes = [[path, len(data)] for path, data in files.items()]
    assert serve(frame(b''.join(files.values()), op='write', files=sizes)) == [({}, b'')]
    assert {str(path): path.read_bytes() for path in (tmp_path / 'a').iterdir()} == files
    assert (tmp_path / 'a' / 'data').stat().st_mode & 0o777 == 0o600
    assert (tmp_path / 'a' / 'run.sh').stat().st_mode & 0o777 == 0o700


def test_a_failure_is_told_in_words_and_the_next_request_is_obeyed(tmp_path):
    (tmp_path / 'file').write_text('')
    write = frame(b'x' * 5000, op='write', files=[[f'{tmp_path}/file/x', 5000]])
    failed, listed = serve(write, frame(op='list', folders=[str(tmp_path)]))
    assert 'file' in failed[0]['refused']
    assert listed[0]['found'][str(tmp_path)][1] == ['file']


def test_what_goes_wrong_quietly_is_told_with_the_next_answer(tmp_path):
    agent_here = agent.Agent(agent.Wire(io.BytesIO(), Sink()))
    agent_here.root = str(tmp_path)
    wrong = frame(
        zlib.compress(b'other'),
        **{
            'op': 'put',
            'quiet': True,
            'into': 'snapshots',
            'packed': True,
            'files': [['ab' * 32, False, 5]],
        },
    )
    agent_here.wire = agent.Wire(
        io.BytesIO(extend('agent_store') + wrong + frame(op='list', folders=[])), sink := Sink()
    )
    agent_here.serve()
    _, (said, _) = sink.frames()
    assert 'arrived damaged' in said['refused']
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_records_are_told_once_and_only_when_they_are_whole(tmp_path):
    for kind in ('begun', 'ends'):
        (tmp_path / kind).mkdir()
    (tmp_path / 'begun' / '.keep').write_text('')
    (tmp_path / 'begun' / '0.0.0').write_text('job 7\nnode n1\n')
    (tmp_path / 'ends' / '1.0.0').write_text('exited 0\n')
    watch = agent_watching._Watch(None)
    asked = {'folders': [str(tmp_path), f'{tmp_path}/not-yet']}
    said, payload = watch.look(asked)
    assert (said['found'], payload) == ([[str(tmp_path), 'ends/1.0.0', 9]], b'exited 0\n')
    (tmp_path / 'begun' / '0.0.0').write_text('job 7\nnode n1\nat 5\n')
    said, payload = watch.look(asked)
    assert [name for _, name, _ in said['found']] == ['begun/0.0.0']
    assert watch.look(asked)[0]['found'] == []


def follow(watch, folder: Path, *state, room: int = 1 << 20):
    """Pieces of one task's logs: (name, offset, bytes)."""
    add = [['t', str(folder), *state]] if state else []
    said, payload = watch.tails({'add': add, 'drop': [], 'room': room})
    found, start = [], 0
    for _, name, offset, size in said['parts']:
        found.append((name, offset, payload[start : start + size]))
        start += size
    return found, said['left']


def test_logs_grow_and_a_later_attempt_puts_the_earlier_one_aside(tmp_path):
    watch, log = agent_watching._Watch(None), tmp_path / 'output.log'
    assert follow(watch, tmp_path, 0, 0, []) == ([], False)
    log.write_bytes(b'one\n')
    first = str(log.stat().st_ino)
    assert follow(watch, tmp_path) == ([(first, -2, b''), ('output.log', 0, b'one\n')], False)
    with log.open('ab') as file:
        file.write(b'two\n')
    log.rename(tmp_path / 'output.1.log')
    log.write_bytes(b'again\n')
    again = str(log.stat().st_ino)
    assert follow(watch, tmp_path) == (
        [
            ('output.log', 4, b'two\n'),
            ('output.1.log', -1, b''),
            (again, -2, b''),
            ('output.log', 0, b'again\n'),
        ],
        False,
    )
    assert follow(watch, tmp_path) == ([], False)


def test_attempts_that_nobody_saw_are_told_from_the_first_on(tmp_path):
    (tmp_path / 'output.1.log').write_bytes(b'old')
    (tmp_path / 'output.log').write_bytes(b'new')
    pieces, _ = follow(agent_watching._Watch(None), tmp_path, 0, 0, [])
    told = [(name, offset) for name, offset, _ in pieces if not name.isdecimal()]
    assert told == [('output.1.log', 0), ('output.1.log', -3), ('output.log', 0)]


def test_a_long_log_comes_in_answers_of_bounded_size(tmp_path):
    (tmp_path / 'output.log').write_bytes(data := bytes(range(256)) * 20_000)
    watch, whole, left = agent_watching._Watch(None), b'', True
    state: tuple[Any, ...] = (0, 0, [])
    while left:
        pieces, left = follow(watch, tmp_path, *state, room=1)
        state = ()
        assert sum(len(piece) for _, _, piece in pieces) <= 1 << 20
        for _, offset, piece in pieces:
            assert offset in (-2, len(whole))
            whole += piece
    assert whole == data


def test_a_tree_that_somebody_has_written_into_is_replaced(tmp_path):
    one = agent.Agent(agent.Wire(io.BytesIO(), Sink()))
    one.root = str(tmp_path)
    store = agent_store._Store(one, agent.Refused)
    digest = hashlib.sha256(b'x = 1\n').hexdigest()
    text = f'xmanager-snapshot 1 1 6\nf\t{digest}\t6\ta.py\n'.encode()
    name = hashlib.sha256(text).hexdigest()
    store._manifests[name] = text
    assert store.tree({'digest': name})[0] == {'lacking': [1]}
    store._wire = agent.Wire(io.BytesIO(frame(zlib.compress(b'x = 1\n'))), Sink())
    store._wire.receive()
    store.put({'into': 'snapshots', 'packed': True, 'files': [[digest, False, 6]]})
    path = Path(store.tree({'digest': name})[0]['path'])
    assert (path / 'a.py').stat().st_nlink == 2
    path.chmod(0o755)
    (path / 'b.py').write_text('mischief')
    assert store.tree({'digest': name})[0]['path'] == str(path)
    assert sorted(one.name for one in path.iterdir()) == ['__pycache__', 'a.py']
