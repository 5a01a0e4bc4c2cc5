import json
import os
import time
from pathlib import Path

import jsonschema
import pytest

from xmanager.packaging.workshop import shared_home
from xmanager.snapshot import SnapshotStore

SCHEMA = json.loads(
    (Path(__file__).parents[3] / 'docs' / 'reference' / 'xmanager-1.schema.json').read_text()
)


@pytest.fixture
def snapshots(home):
    return SnapshotStore(home.path / 'snapshots')


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / 'code'
    (folder / 'in').mkdir(parents=True)
    (folder / 'train.py').write_text('print(1)\n')
    (folder / 'in' / 'run').write_text('#!/bin/sh\n')
    (folder / 'in' / 'run').chmod(0o755)
    (folder / 'link').symlink_to('train.py')
    return folder


@pytest.fixture
def snapshot(snapshots, code):
    return snapshots.take(code)


def refer(lab, **executable):
    """An experiment with a unit of this executable."""
    record = lab.experiment()
    lab.add(record.id, 'completed', tasks=[lab.task('train', executable=executable)])
    return record.id


def grow_old(snapshots, snapshot, days=60):
    path = snapshots.folder / 'manifests' / snapshot.digest
    os.utime(path, (time.time() - days * 86400,) * 2)


def test_snapshots_are_listed_with_who_uses_them(run, lab, snapshot, code):
    refer(lab, kind='python', snapshot=snapshot.digest)
    refer(lab, kind='python', parts=[{'kept': [snapshot.digest]}])
    header, row = run('snapshot', 'ls').lines
    assert header.split() == ['DIGEST', 'FILES', 'SIZE', 'USED', 'EXPERIMENTS', 'TAKEN', 'FROM']
    assert row.startswith(f'{snapshot.digest[:12]}      2  19 B')
    assert row.endswith(f'1, 2         {code}')


def test_where_there_is_none_a_note_says_how_one_comes_about(run, home):
    code, out, err = run('snapshot', 'ls')
    assert (code, out) == (0, '')
    assert 'no snapshot' in err
    assert not home.path.exists()


def test_a_snapshot_is_shown_with_what_is_in_it(run, snapshot, code):
    out = run('snapshot', 'show', snapshot.digest[:6]).out
    assert snapshot.digest in out
    assert str(code) in out
    assert out.splitlines()[-4:] == [
        'folder         in/',
        'program  10 B  in/run',
        'link           link -> train.py',
        'file      9 B  train.py',
    ]


def test_of_many_files_the_folders_are_shown(run, snapshots, code):
    for number in range(100):
        (code / 'in' / f'{number}.txt').write_text('x')
    snapshot = snapshots.take(code)
    _, out, err = run('snapshot', 'show', snapshot.digest)
    assert 'in/ (101 files)' in out
    assert '99.txt' not in out
    assert '--all' in err
    assert '99.txt' in run('snapshot', 'show', snapshot.digest, '--all').out


def test_json_follows_the_published_schema(run, lab, snapshot):
    refer(lab, snapshot=snapshot.digest)
    listed = run('snapshot', 'ls', '--json').json
    shown = run('snapshot', 'show', snapshot.digest, '--json').json
    for document in (listed, shown):
        jsonschema.validate(document, SCHEMA)
    assert listed['snapshots'][0]['experiments'] == [1]
    assert [entry['kind'] for entry in shown['snapshot']['entries']] == [
        'folder',
        'file',
        'link',
        'file',
    ]


def test_a_file_is_printed_as_it_is(run, snapshot):
    assert run('snapshot', 'cat', snapshot.digest[:8], './train.py').out == 'print(1)\n'
    for path in ('missing.py', 'in', 'link', '../code/train.py'):
        code, out, err = run('snapshot', 'cat', snapshot.digest, path)
        assert (code, out) == (1, '')
        assert 'has no file' in err


def test_a_snapshot_is_restored_to_a_folder_that_is_not_there(run, snapshot, tmp_path):
    target = tmp_path / 'new'
    assert (
        run('snapshot', 'restore', snapshot.digest, target).out == f'restored 2 files to {target}\n'
    )
    (target / 'train.py').write_text('mine\n')
    code, _, err = run('snapshot', 'restore', snapshot.digest, target)
    assert code == 1
    assert 'exists already' in err
    assert (target / 'train.py').read_text() == 'mine\n'


def test_gc_keeps_what_an_experiment_refers_to(run, lab, snapshots, snapshot, code):
    refer(lab, kind='python', snapshot=snapshot.digest)
    (code / 'train.py').write_text('print(2)\n')
    other = snapshots.take(code)
    for one in (snapshot, other):
        grow_old(snapshots, one)
    said = run('snapshot', 'gc', '--dry-run').out
    assert other.digest[:12] in said
    assert 'would remove 1 snapshot and 9 B' in said
    assert len(snapshots.list()) == 2
    assert 'removed 1 snapshot and 9 B' in run('snapshot', 'gc').out
    assert [one.digest for one in snapshots.list()] == [snapshot.digest]
    assert run('delete', 1, '--yes').code == 0
    assert 'removed 1 snapshot' in run('snapshot', 'gc').out


def test_gc_keeps_what_is_young(run, snapshots, snapshot):
    assert 'removed 0 snapshots' in run('snapshot', 'gc').out
    grow_old(snapshots, snapshot, days=8)
    assert 'removed 0 snapshots' in run('snapshot', 'gc', '--older-than', '2w').out
    assert 'removed 1 snapshot ' in run('snapshot', 'gc', '--older-than', '7d').out


@pytest.mark.parametrize('age', ['59m', '0d', 'x', '-1d', '7'])
def test_a_bad_age_is_refused(run, home, age):
    code, _, err = run('snapshot', 'gc', f'--older-than={age}')
    assert code == 2
    assert 'older-than' in err


def test_an_unknown_digest_is_an_error(run, snapshot):
    for name in ('ffffffff', 'abc', 'no-digest'):
        code, out, err = run('snapshot', 'show', name)
        assert (code, out) == (1, '')
        assert 'snapshot' in err


def test_gc_says_which_snapshot_is_damaged(run, snapshots, snapshot, code):
    (snapshots.folder / 'manifests' / snapshot.digest).write_text('')
    said = run('snapshot', 'gc').out
    assert f'{snapshot.digest[:12]}  0 B  {code}  (damaged)' in said
    assert snapshots.list() == []


# What is kept where the machines of a cluster see it.


@pytest.fixture
def seen(home, code, tmp_path):
    """A snapshot that is kept below a folder that the home doesn't lie in."""
    place = shared_home(home.path, {'XM_SHARED': str(tmp_path / 'shared')})
    snapshots = SnapshotStore(place / 'snapshots')
    snapshot = snapshots.take(code)
    return snapshots, snapshot, str(snapshots.tree(snapshot))


def test_a_snapshot_for_a_cluster_is_found_by_what_was_recorded(run, lab, seen, tmp_path, code):
    _, snapshot, tree = seen
    assert run('snapshot', 'show', snapshot.digest).code == 1
    refer(lab, kind='python', snapshot=snapshot.digest, tree=tree)
    assert len(run('snapshot', 'ls').lines) == 2
    assert str(code) in run('snapshot', 'show', snapshot.digest[:6]).out
    assert run('snapshot', 'cat', snapshot.digest, 'train.py').out == 'print(1)\n'
    run('snapshot', 'restore', snapshot.digest, str(tmp_path / 'again'))
    assert (tmp_path / 'again' / 'train.py').read_text() == 'print(1)\n'


def test_one_that_is_kept_twice_is_listed_once(run, lab, seen, snapshot):
    refer(lab, kind='python', snapshot=snapshot.digest, tree=seen[2])
    assert len(run('snapshot', 'ls').lines) == 2


def test_gc_sweeps_there_too_but_not_what_other_homes_keep(
    run, lab, seen, home, code, tmp_path, monkeypatch
):
    monkeypatch.setenv('XM_SHARED', str(tmp_path / 'shared'))
    snapshots, snapshot, tree = seen
    refer(lab, kind='python', snapshot=snapshot.digest, tree=tree)
    (code / 'train.py').write_text('print(2)\n')
    other = SnapshotStore(shared_home(home.path.parent / 'other', os.environ) / 'snapshots')
    unused, of_another = snapshots.take(code), other.take(code)
    for kept, one in ((snapshots, snapshot), (snapshots, unused), (other, of_another)):
        grow_old(kept, one)
    assert 'removed 1 snapshot' in run('snapshot', 'gc').out
    assert [one.digest for one in snapshots.list()] == [snapshot.digest]
    assert [one.digest for one in other.list()] == [of_another.digest]
