"""What travels to a cluster, and what is there afterwards; with a program in place of `ssh` that goes nowhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.backends.slurm.remote.login import Login, login

from xmanager.backend import Deferred, Rejected, Task, Unit
from xmanager.backends.slurm.remote import syncing
from xmanager.backends.slurm.remote.channel import Channel, RefusedError
from xmanager.backends.slurm.remote.connection import Connection
from xmanager.backends.slurm.remote.ssh import SshSite
from xmanager.backends.slurm.remote.syncing import Syncer, delta_of
from xmanager.backends.slurm.remote.translation import (
    Code,
    Environment,
    Image,
    Interpreter,
    StaysHereError,
    Translation,
)
from xmanager.errors import UnreachableError
from xmanager.snapshot import Limits, Snapshot, SnapshotStore

__all__ = ['login']

_SECONDS = 30.0


@pytest.fixture
def channel(login: Login):
    with Channel(Connection('me@there', login.environ)) as one:
        yield one


@pytest.fixture
def made():
    """Closes a site after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda site: stack.enter_context(contextlib.closing(site))


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / 'home' / 'snapshots')


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / 'project'
    (folder / 'pkg' / 'empty').mkdir(parents=True)
    for number in range(50):
        (folder / 'pkg' / f'm{number}.py').write_text(f'x = {number}\n' * 100)
    (folder / 'run.sh').write_text('#!/bin/sh\n')
    (folder / 'run.sh').chmod(0o755)
    (folder / 'same.sh').write_text('#!/bin/sh\n')
    (folder / 'link').symlink_to('pkg/m1.py')
    (folder / 'odd \t name\\\n').write_bytes(b'\0\xff')
    Path(os.fsdecode(bytes(folder) + b'/\xff')).write_text('')
    return folder


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def bring(channel: Channel, store: SnapshotStore, snapshot: Snapshot) -> int:
    """How many bytes travelled."""
    before = channel.sent
    Syncer(channel, lambda step: None).bring(Code(snapshot.digest, str(store.folder)))
    return channel.sent - before


def kept_there(login: Login) -> SnapshotStore:
    return SnapshotStore(login.root / 'snapshots')


def test_code_is_there_as_it_was_taken(channel, login, store, project):
    snapshot = store.take(project)
    bring(channel, store, snapshot)
    there = kept_there(login)
    copy = there.get(snapshot.digest)
    assert copy.entries == snapshot.entries
    # It finds nothing to mend: this is the tree that it would have made itself.
    tree = there.tree(copy)
    assert tree == login.root / 'snapshots' / 'trees' / snapshot.digest
    assert (tree / 'link').read_text() == 'x = 1\n' * 100
    assert (tree / 'pkg' / 'm1.py').stat().st_nlink == 2
    assert (tree / 'pkg' / '__pycache__').is_dir()
    assert not list(there.folder.rglob('.*'))


def test_only_what_is_missing_travels(channel, store, project):
    first = bring(channel, store, store.take(project))
    (project / 'pkg' / 'm7.py').write_text('y = 1\n')
    second = bring(channel, store, store.take(project))
    third = bring(channel, store, store.take(project))
    assert third < second < first / 5
    assert second < 2500


def test_what_came_before_a_connection_was_lost_does_not_come_again(
    channel, login, store, project, monkeypatch
):
    monkeypatch.setattr(syncing, '_PIECE', 2000)
    snapshot, blobs = store.take(project), login.root / 'snapshots' / 'blobs'
    first: list[str] = []
    second: list[str] = []

    def arrived() -> int:
        return sum(path.is_file() for path in blobs.rglob('[!.]*'))

    def cut(step: str) -> None:
        first.append(step)
        if len(first) == 20:
            wait_for(lambda: arrived() >= 30)
            os.kill(int((login.folder / 'pid').read_text()), signal.SIGKILL)

    need = Code(snapshot.digest, str(store.folder))
    with pytest.raises(UnreachableError):
        Syncer(channel, cut).bring(need)
    Syncer(channel, second.append).bring(need)
    assert arrived() == 54
    assert len(second) <= 13  # Two contents in a piece.
    assert kept_there(login).get(snapshot.digest).entries == snapshot.entries


def test_a_large_file_comes_in_pieces(channel, login, store, tmp_path):
    (tmp_path / 'big').write_bytes(data := os.urandom(3_500_000))
    limits = Limits(secrets=False)
    snapshot = store.take_files({'big': tmp_path / 'big'}, limits=limits)
    steps: list[str] = []
    Syncer(channel, steps.append).bring(Code(snapshot.digest, str(store.folder)))
    tree = login.root / 'snapshots' / 'trees' / snapshot.digest
    assert (tree / 'big').read_bytes() == data
    assert '1.0MiB of 3.3MiB' in steps


def test_what_somebody_has_changed_there_is_brought_again(channel, login, store, project):
    snapshot = store.take(project)
    bring(channel, store, snapshot)
    tree = login.root / 'snapshots' / 'trees' / snapshot.digest
    (tree / 'pkg' / 'm1.py').chmod(0o644)
    (tree / 'pkg' / 'm1.py').write_text('other')
    bring(channel, store, snapshot)
    assert (tree / 'pkg' / 'm1.py').read_text() == 'x = 1\n' * 100


def test_a_manifest_is_told_by_what_is_new():
    before = ['head 3', 'a', 'b', 'c', '']
    after = ['head 4', 'a', 'b', 'bb', 'c', '']
    assert delta_of(before, after) == ['head 4', (1, 2), 'bb', (3, 2)]
    assert delta_of([], ['a', 'b']) == ['a\nb']
    assert delta_of(before, before) == [(0, 5)]


def layout_in(folder: Path) -> Image:
    """An image as packaging for a cluster writes it: a folder beside the blobs that all images share."""
    blobs = folder / 'blobs' / 'sha256'
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {'digest': f'sha256:{digest}', 'size': len(data)}

    layers = [blob(b'layer one' * 1000), blob(os.urandom(2_000_000))]
    manifest = blob(json.dumps({'config': blob(b'{}'), 'layers': layers}).encode())
    layout = folder / 'cafe'
    layout.mkdir()
    (layout / 'blobs').symlink_to('../blobs')
    (layout / 'oci-layout').write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / 'index.json').write_text(json.dumps({'manifests': [manifest]}))
    return Image(str(layout), 'cafe')


def test_an_image_is_there_with_all_its_blobs_and_its_layers_are_shared(channel, login, tmp_path):
    image = layout_in(tmp_path / 'images')
    Syncer(channel, lambda step: None).bring(image)
    there = login.root / 'images'
    for path in (tmp_path / 'images').rglob('*'):
        if path.is_file():
            assert (there / path.relative_to(tmp_path / 'images')).read_bytes() == path.read_bytes()
    assert len(list((there / 'cafe' / 'blobs' / 'sha256').iterdir())) == 4
    before = channel.sent
    Syncer(channel, lambda step: None).bring(Image(image.layout, 'babe'))
    assert channel.sent - before < 5000
    assert (there / 'babe' / 'index.json').exists()


def test_an_image_that_is_gone_is_named(channel, tmp_path):
    with pytest.raises(StaysHereError, match='was removed or damaged'):
        Syncer(channel, lambda step: None).bring(Image(f'{tmp_path}/none', 'x'))


def environment_in(folder: Path) -> Environment:
    (folder / 'lock').mkdir(parents=True)
    (folder / 'lock' / 'requirements.txt').write_text('alpha==1.0\n')
    return Environment(str(folder), 'requirements.txt', 'k1', '3.11')


_UV = """
echo "$*" >>"$HOME/uv-calls"
case $1 in
venv) for made; do :; done; mkdir -p "$made/bin"; echo >"$made/bin/python";;
pip) echo ' + alpha==1.0';;
esac
"""


def test_an_environment_is_made_there_once_by_uv(channel, login, tmp_path):
    login.program('uv', _UV)
    steps: list[str] = []
    for _ in range(2):
        Syncer(channel, steps.append).bring(environment_in(tmp_path / os.urandom(4).hex()))
    assert '+ alpha==1.0' in steps
    folder = login.root / 'cache' / 'environments'
    assert (folder / 'k1' / 'xmanager.json').exists()
    venv, install = (login.home / 'uv-calls').read_text().splitlines()
    assert venv.startswith('venv --quiet --relocatable --no-project --python 3.11 ')
    assert install.endswith('/given/requirements.txt')
    assert not [path for path in folder.iterdir() if path.is_dir() and path.name != 'k1']


def test_without_uv_there_a_sentence_says_how_to_get_it(channel, tmp_path):
    with pytest.raises(RefusedError, match='pip install --user uv'):
        Syncer(channel, lambda step: None).bring(environment_in(tmp_path / 'e'))


def test_uv_is_quoted_when_it_fails_and_nothing_half_made_stays(channel, login, tmp_path):
    login.program('uv', 'echo no solution found >&2; exit 2')
    with pytest.raises(RefusedError, match='no solution found'):
        Syncer(channel, lambda step: None).bring(environment_in(tmp_path / 'e'))
    folder = login.root / 'cache' / 'environments'
    assert not [path for path in folder.iterdir() if path.is_dir()]


def test_scripts_find_a_python_there(channel, login):
    folder = f'{login.root}/cache/pythons/x'
    Syncer(channel, lambda step: None).bring(Interpreter(folder, 'python3'))
    assert os.listdir(folder) == ['python']  # A `python3` would call itself.
    said, output = channel.ask(
        'run', argv=[f'{folder}/python', '-c', 'print(6 * 7)'], env={}, limit=30
    )
    assert (said['code'], output) == (0, b'42\n')


HERE = '/home/me/.xmanager'
TREE = f'{HERE}/snapshots/trees/d1'
MADE = f'{HERE}/cache/environments/k1'
THERE = Translation((HERE,), '/scratch/me/xm', '/home/ms12', 'abc')


def task(argv: tuple[str, ...], cwd: str = TREE, **executable: Any) -> Task:
    return Task(name='train', full_name='', argv=argv, cwd=cwd, executable=executable)


def test_code_of_the_launchers_own_python_runs_by_that_of_the_cluster():
    prepended = {'PYTHONPATH': TREE, 'PATH': '/home/me/venv/bin'}
    given = task(
        ('/home/me/venv/bin/python', '-m', 'train', f'--init={HERE}/experiments/3/1/train/out/m'),
        kind='python',
        snapshot='d1',
        tree=TREE,
        prepended=prepended,
    )
    adapted = THERE.adapt(given)
    out = '--init=/scratch/me/xm/experiments/abc-3/1/train/out/m'
    assert adapted.argv == ('python3', '-m', 'train', out)
    assert adapted.cwd == '/scratch/me/xm/snapshots/trees/d1'
    code, interpreter = THERE.needs(given)
    assert code == Code('d1', f'{HERE}/snapshots')
    assert isinstance(interpreter, Interpreter)
    assert adapted.executable['prepended'] == {
        'PYTHONPATH': '/scratch/me/xm/snapshots/trees/d1',
        'PATH': interpreter.folder,
    }


def test_code_with_an_environment_runs_by_the_one_that_is_made_there():
    made = {'key': 'k1', 'folder': MADE, 'python': '3.11.7', 'requirements': 'uv.lock'}
    given = task(
        (f'{MADE}/bin/python', '-m', 'train'),
        kind='python',
        snapshot='d1',
        tree=TREE,
        prepended={'PYTHONPATH': TREE, 'PATH': f'{MADE}/bin'},
        environment=made,
    )
    adapted = THERE.adapt(given)
    assert adapted.argv[0] == '/scratch/me/xm/cache/environments/k1/bin/python'
    assert adapted.executable['prepended']['PATH'] == '/scratch/me/xm/cache/environments/k1/bin'
    assert THERE.needs(given)[1] == Environment(MADE, 'uv.lock', 'k1', '3.11')


def binary(path: str, kept: str = 'd2', name: str = 'prog') -> Task:
    copy = f'{HERE}/snapshots/trees/d2/{name}' if kept else ''
    facts = {'path': path, 'copy': copy, 'kept': kept, 'bytes': 5, 'digest': 'x'}
    return task((path, 'a'), '/home/me', kind='binary', **facts)


def test_a_program_of_the_users_runs_from_its_copy_there():
    adapted = THERE.adapt(binary('/home/me/bin/prog'))
    assert adapted.argv == ('/scratch/me/xm/snapshots/trees/d2/prog', 'a')
    assert adapted.executable['path'] == adapted.argv[0]
    assert THERE.needs(binary('/home/me/bin/prog')) == (Code('d2', f'{HERE}/snapshots'),)


def test_a_program_of_the_system_is_that_of_the_cluster():
    assert THERE.adapt(binary('/usr/bin/env')).argv == ('/usr/bin/env', 'a')
    assert THERE.needs(binary('/usr/bin/env')) == ()


def test_the_python_of_a_virtual_environment_is_that_of_the_cluster():
    given = binary('/home/me/venv/bin/python3', kept='')
    assert THERE.adapt(given).argv[0] == 'python3'
    assert THERE.needs(given) == ()


def test_a_program_without_a_copy_can_not_travel():
    with pytest.raises(StaysHereError, match='--xm_binary_max_kept'):
        THERE.needs(binary('/home/me/huge', kept=''))


def test_only_paths_of_ours_are_translated():
    same = ('/data/x', f'{HERE}x/snapshots/trees/d', f'a{HERE}/snapshots/trees/d1', f'{HERE}/other')
    assert [THERE.place(word) for word in same] == list(same)
    both = f'{HERE}/snapshots/trees/d1:{HERE}/experiments/12/a1'
    assert (
        THERE.place(both)
        == '/scratch/me/xm/snapshots/trees/d1:/scratch/me/xm/experiments/abc-12/a1'
    )
    assert THERE.place(THERE.place(both)) == THERE.place(both)


def units(store: SnapshotStore, *snapshots: Snapshot) -> list[Unit]:
    made = []
    for number, snapshot in enumerate(snapshots, 1):
        tree = str(store.tree(snapshot))
        facts = {'kind': 'python', 'snapshot': snapshot.digest, 'tree': tree, 'prepended': {}}
        folder = store.folder.parent / 'experiments' / '7' / str(number)
        made.append(
            Unit(7, str(number), 1, f'abc.7.{number}.1', folder, (task(('true',), tree, **facts),))
        )
    return made


def test_units_wait_for_their_code_and_are_ready_once_it_is_there(
    login, store, project, tmp_path, made, monkeypatch
):
    monkeypatch.setattr('xmanager.backends.slurm.remote.ssh._AT_ONCE', 0.0)
    [one] = units(store, store.take(project))
    site = made(SshSite('me@there', login.environ, tmp_path / 'home'))
    first = site.prepare([one])[one.key]
    assert isinstance(first, Deferred)
    assert first.reason.split()[0] in ('copying', 'making')
    wait_for(lambda: not site.prepare([one]))
    assert Path(site.adapt(one, one.tasks[0]).cwd).is_dir()


def test_one_whose_code_is_gone_is_refused_and_the_others_are_not(
    login, store, project, tmp_path, made
):
    gone = store.take(project)
    (project / 'new').write_text('')
    whole, lost = units(store, store.take(project), gone)
    (store.folder / 'manifests' / gone.digest).unlink()
    site = made(SshSite('me@there', login.environ, tmp_path / 'home'))
    refused = site.prepare([whole, lost])
    assert list(refused) == [lost.key]
    assert isinstance(refused[lost.key], Rejected)
    assert 'there is no snapshot' in refused[lost.key].reason


def test_a_lost_connection_is_no_fault_of_the_units(login, store, project, tmp_path, made):
    [one] = units(store, store.take(project))
    site = made(SshSite('me@there', login.environ, tmp_path / 'home'))
    site.home()
    login.fail('ssh: connect to host there port 22: Connection refused')
    with pytest.raises(UnreachableError, match='Connection refused'):
        site.prepare([one])
    login.recover()

    def is_ready() -> bool:
        try:
            return not site.prepare([one])
        except UnreachableError:
            return False

    wait_for(is_ready)
