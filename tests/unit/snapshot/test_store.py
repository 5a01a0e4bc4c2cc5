import errno
import os
import socket
import stat
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.snapshot.conftest import contents, put

from xmanager.errors import NotFoundError, PackagingError
from xmanager.snapshot import Limits, SnapshotStore
from xmanager.snapshot import content as content_module


def paths(snapshot):
    return [entry.path for entry in snapshot.entries]


def count_reads(monkeypatch):
    """The paths of the files that are read from here on."""
    read: list[str] = []
    real = content_module.Contents.read

    def counting(self, path, name, **options):
        read.append(name)
        return real(self, path, name, **options)

    monkeypatch.setattr(content_module.Contents, 'read', counting)
    return read


def settle():
    """Until what was written so far is older than the clock's tick."""
    time.sleep(0.03)


NAMES = st.text('ab.\u00fc\udcff \n\t\\', min_size=1, max_size=4).filter(
    lambda n: n not in ('.', '..')
)
LEAVES = st.one_of(
    st.tuples(st.just('file'), st.binary(max_size=40), st.booleans()),
    st.tuples(st.just('link'), NAMES),
)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)


def build(folder, tree):
    folder.mkdir(parents=True, exist_ok=True)
    for name, what in tree.items():
        if isinstance(what, dict):
            build(folder / name, what)
        elif what[0] == 'file':
            put(folder / name, what[1], mode=0o755 if what[2] else 0o644)
        else:
            (folder / name).symlink_to(what[1])


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(tree=st.dictionaries(NAMES, TREES, max_size=5))
def test_a_tree_holds_what_was_taken(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp('any')
    build(folder / 'code', tree)
    store = SnapshotStore(folder / 'snapshots')
    snapshot = store.take(folder / 'code')
    assert contents(store.tree(snapshot)) == contents(folder / 'code')
    assert store.take(folder / 'code') == snapshot
    assert store.survey(folder / 'code').digest == snapshot.digest
    assert store.get(snapshot.digest).entries == snapshot.entries
    store.restore(snapshot, folder / 'restored')
    assert contents(folder / 'restored') == contents(folder / 'code')


def test_the_digest_depends_on_nothing_but_what_is_in_the_folder(tmp_path, store, code):
    put(code / 'a.py')
    other = put(tmp_path / 'other' / 'a.py', mode=0o600).parent
    assert store.take(code).digest == store.take(other).digest
    put(other / 'a.py', mode=0o755)
    assert store.take(code).digest != store.take(other).digest


def test_what_has_not_changed_is_not_read_again(store, code, monkeypatch):
    for name in ('a.py', 'b.py', 'in/c.py'):
        put(code / name)
    settle()
    first = store.take(code)
    read = count_reads(monkeypatch)
    assert store.take(code) == first
    assert read == []
    put(code / 'in' / 'c.py', 'other\n')
    second = store.take(code)
    assert second != first
    assert read == ['in/c.py']
    settle()
    store.take(code)
    assert read == ['in/c.py']


def test_a_new_store_on_the_folder_knows_what_the_last_one_read(store, code, monkeypatch):
    put(code / 'a.py')
    settle()
    first = store.take(code)
    read = count_reads(monkeypatch)
    assert SnapshotStore(store.folder).take(code) == first
    assert read == []


def test_a_change_that_keeps_size_and_time_is_seen(store, code):
    path = put(code / 'a.py', 'one\n')
    os.utime(path, (1e9, 1e9))
    first = store.take(code)
    settle()
    store.take(code)
    put(path, 'two\n')
    os.utime(path, (1e9, 1e9))
    assert store.take(code) != first


def test_changes_within_one_tick_of_the_clock_are_seen(store, code):
    seen = set()
    for number in range(20):
        put(code / 'a.py', f'{number:04}\n')
        seen.add(store.take(code).digest)
    assert len(seen) == 20


def test_what_is_removed_added_or_renamed_is_seen(store, code):
    put(code / 'a.py')
    put(code / 'in' / 'b.py')
    store.take(code)
    os.rename(code / 'in', code / 'out')
    put(code / 'c.py')
    os.unlink(code / 'a.py')
    assert paths(store.take(code)) == ['c.py', 'out', 'out/b.py']
    put(code / 'out' / 'b.py').unlink()
    assert paths(store.take(code)) == ['c.py', 'out']


def test_a_file_becomes_a_folder_and_a_link(store, code):
    put(code / 'a')
    store.take(code)
    os.unlink(code / 'a')
    put(code / 'a' / 'b')
    assert paths(store.take(code)) == ['a', 'a/b']
    os.unlink(code / 'a' / 'b')
    (code / 'a' / 'b').symlink_to('c')
    assert store.take(code).entries[1].target == 'c'


def test_equal_contents_are_kept_once(store, code):
    for name in ('a', 'b', 'in/c'):
        put(code / name, 'same')
    put(code / 'd', 'same', mode=0o755)
    store.take(code)
    kept = [path for path in (store.folder / 'blobs').rglob('*') if path.is_file()]
    assert sorted(stat.S_IMODE(path.stat().st_mode) for path in kept) == [0o444, 0o555]


def test_a_folder_of_which_all_is_left_out_is_no_part_but_an_empty_one_is(store, code):
    (code / 'empty').mkdir()
    put(code / 'cached' / '__pycache__' / 'a.pyc')
    assert paths(store.take(code)) == ['empty']


def test_survey_writes_nothing(store, code):
    put(code / 'a.py')
    put(code / '.gitignore', '*.log\n')
    put(code / 'x.log')
    put(code / 'node_modules' / 'x')
    survey = store.survey(code)
    assert survey.omitted == {'node_modules': 'built in', 'x.log': '.gitignore: *.log'}
    assert (survey.files, survey.bytes) == (2, 14)
    assert not store.folder.exists()
    assert store.take(code).digest == survey.digest


# Trees.


def test_trees_are_read_only_shared_and_keep_byte_code(store, code):
    put(code / 'pkg' / 'a.py', 'x = 1\n')
    snapshot = store.take(code)
    tree = store.tree(snapshot)
    assert store.tree(snapshot) == tree
    assert stat.S_IMODE((tree / 'pkg').stat().st_mode) == 0o555
    assert stat.S_IMODE((tree / 'pkg' / 'a.py').stat().st_mode) == 0o444
    subprocess.run(
        [sys.executable, '-c', 'import pkg.a'],
        cwd=tree, check=True, env={**os.environ, 'PYTHONDONTWRITEBYTECODE': ''},
    )  # fmt: skip
    assert list((tree / 'pkg' / '__pycache__').iterdir())
    assert store.tree(snapshot) == tree


@pytest.mark.parametrize('change', ['write', 'add', 'remove', 'mode'])
def test_a_tree_that_a_job_has_changed_is_left_to_it_with_a_warning(store, code, caplog, change):
    put(code / 'pkg' / 'a.py', 'x = 1\n')
    snapshot = store.take(code)
    tree = store.tree(snapshot)
    (tree / 'pkg').chmod(0o755)
    file = tree / 'pkg' / 'a.py'
    if change == 'write':
        file.chmod(0o644)
        file.write_text('x = 2\n')
    elif change == 'add':
        (tree / 'pkg' / 'results.txt').touch()
    elif change == 'remove':
        file.unlink()
    else:
        file.chmod(0o666)
    again = store.tree(snapshot)
    assert again != tree
    assert contents(again) == contents(code)
    [warning] = caplog.messages
    assert 'XM_OUTPUT_DIR' in warning
    assert 'pkg' in warning
    assert store.tree(snapshot) == again
    assert len(caplog.messages) == 1


def test_what_a_job_wrote_into_shared_contents_never_reaches_another_snapshot(store, code, caplog):
    put(code / 'a.py', 'x = 1\n')
    put(code / 'b.py', 'y = 1\n')
    settle()
    tree = store.tree(store.take(code))
    (tree / 'a.py').chmod(0o644)
    (tree / 'a.py').write_text('x = 2\n')
    put(code / 'b.py', 'y = 2\n')
    assert contents(store.tree(store.take(code))) == contents(code)
    with store.read(store.take(code).entries[0]) as file:
        assert file.read() == b'x = 1\n'


def test_contents_that_are_gone_for_good_are_said_to_be(store, code):
    put(code / 'a.py', 'x = 1\n')
    snapshot = store.take(code)
    [blob] = [path for path in (store.folder / 'blobs').rglob('*') if path.is_file()]
    blob.unlink()
    put(code / 'a.py', 'x = 2\n')
    with pytest.raises(PackagingError, match=r'content of a.py .* is gone or was changed'):
        store.tree(snapshot)
    assert [path.name for path in (store.folder / 'trees').iterdir()] == []


def test_after_a_power_cut_empty_contents_are_noticed(store, code, monkeypatch):
    put(code / 'a.py', 'x = 1\n')
    put(code / 'b.py', 'x = 2\n')
    settle()
    snapshot = store.take(code)
    for blob in (store.folder / 'blobs').rglob('*'):
        if blob.is_file():
            blob.chmod(0o644)
            blob.write_bytes(b'')
    (store.folder / 'manifests' / snapshot.digest).write_bytes(b'')
    boot = put(store.folder / 'boot', 'another')
    monkeypatch.setattr(content_module, '_BOOT', boot)
    assert store.take(code) == snapshot
    assert contents(store.tree(snapshot)) == contents(code)


def test_where_there_are_no_links_files_are_copied(store, code, monkeypatch):
    put(code / 'a.py')
    put(code / 'run', mode=0o755)
    (code / 'link').symlink_to('a.py')

    def refuse(source, target):
        raise OSError(errno.EMLINK, 'Too many links')

    monkeypatch.setattr(os, 'link', refuse)
    snapshot = store.take(code)
    tree = store.tree(snapshot)
    assert contents(tree) == contents(code)
    assert store.tree(snapshot) == tree


def test_many_processes_take_and_use_one_folder_at_once(store, code):
    for number in range(200):
        put(code / f'in{number % 7}' / f'{number}.py', f'x = {number}\n')
    program = (
        'import sys; from pathlib import Path; from xmanager.snapshot import SnapshotStore\n'
        'store = SnapshotStore(Path(sys.argv[1])); one = store.take(sys.argv[2])\n'
        'print(one.digest, store.tree(one))'
    )
    command = [sys.executable, '-c', program, str(store.folder), str(code)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(6)]
    assert len({process.communicate(timeout=60)[0] for process in running}) == 1
    assert [process.returncode for process in running] == [0] * 6
    snapshot = store.take(code)
    assert contents(store.tree(snapshot)) == contents(code)
    assert list((store.folder / 'staging').iterdir()) == []
    assert len(list((store.folder / 'trees').iterdir())) == 1


# Finding.


def test_snapshots_are_found_by_the_beginning_of_their_digest(store, code):
    put(code / 'a.py')
    snapshot = store.take(code)
    assert store.get(snapshot.digest[:8]) == snapshot
    for wrong in ('abc', 'xyzw', '../../etc', '0' * 64, 'ffffffff'):
        with pytest.raises(NotFoundError, match=r'no snapshot|names no snapshot'):
            store.get(wrong)
    [kept] = store.list()
    assert (kept.digest, kept.path, kept.files) == (snapshot.digest, str(code), 1)


def test_a_manifest_that_was_changed_is_refused_and_taken_anew(store, code):
    put(code / 'a.py')
    snapshot = store.take(code)
    manifest = store.folder / 'manifests' / snapshot.digest
    manifest.write_bytes(manifest.read_bytes().replace(b'a.py', b'b.py'))
    with pytest.raises(PackagingError, match='is damaged'):
        store.get(snapshot.digest)
    put(code / 'b.py')
    store.take(code)
    (code / 'b.py').unlink()
    assert store.get(store.take(code).digest) == snapshot


def test_restore_overwrites_nothing(store, code, tmp_path):
    put(code / 'a.py')
    snapshot = store.take(code)
    with pytest.raises(PackagingError, match='exists already'):
        store.restore(snapshot, code)
    store.restore(snapshot, tmp_path / 'new')
    put(tmp_path / 'new' / 'a.py', 'mine now\n')
    with store.read(snapshot.entries[0]) as file:
        assert file.read() == b'content\n'


# Bad input.


def test_what_is_no_folder_is_named(store, code, tmp_path):
    with pytest.raises(PackagingError, match='missing does not exist'):
        store.take(code / 'missing')
    with pytest.raises(PackagingError, match=r'a\.py is a file'):
        store.take(put(code / 'a.py'))
    (tmp_path / 'loop').symlink_to('loop')
    with pytest.raises(PackagingError, match='leads nowhere'):
        store.take(tmp_path / 'loop')


def test_what_cannot_be_kept_is_listed_with_the_fix(store, code):
    os.mkfifo(code / 'pipe')
    (code / 'in').mkdir()
    (code / 'in' / 'up').symlink_to('../../secret')
    (code / 'absolute').symlink_to('/etc/passwd')
    (code / 'in' / 'fine').symlink_to('../in/nothing')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(code / 'socket'))
        with pytest.raises(PackagingError) as caught:
            store.take(code)
    for words in (
        'pipe (a named pipe)',
        'socket (a socket)',
        'in/up (a link out of the folder, to ../../secret)',
        'absolute (an absolute link, to /etc/passwd)',
        '.xmignore',
    ):
        assert words in str(caught.value)
    assert 'fine' not in str(caught.value)
    put(code / '.xmignore', 'pipe\nsocket\n/in/up\n/absolute\n')
    assert paths(store.take(code)) == ['.xmignore', 'in', 'in/fine']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_what_cannot_be_read_is_named(store, code):
    put(code / 'a.py', mode=0)
    with pytest.raises(PackagingError, match=r'a.py cannot be read: Permission denied'):
        store.take(code)


def test_a_file_that_changes_while_it_is_read_is_read_again_or_refused(store, code, monkeypatch):
    path = put(code / 'a.py', 'x' * 100)
    settle()
    real, changes = os.read, [3]

    def meddling(descriptor, size):
        data = real(descriptor, size)
        if changes[0] and data:
            changes[0] -= 1
            path.write_text('y' * changes[0])
        return data

    monkeypatch.setattr(os, 'read', meddling)
    snapshot = store.take(code)
    monkeypatch.undo()
    assert contents(store.tree(snapshot)) == contents(code)
    monkeypatch.setattr(os, 'read', meddling)
    path.write_text('z')
    changes[0] = 100
    with pytest.raises(PackagingError, match=r'a.py changes while it is read'):
        store.take(code)


def test_a_full_disk_leaves_nothing_half(store, code, monkeypatch):
    put(code / 'a.py', 'x' * 5000)
    real = os.write

    def full(descriptor, data):
        if len(data) == 5000:
            return real(descriptor, data[:1000])
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'write', full)
    with pytest.raises(PackagingError, match=r'No space left on device.*snapshot gc'):
        store.take(code)
    monkeypatch.undo()
    assert [
        path for path in store.folder.rglob('*') if path.is_file() and path.name != 'lock'
    ] == []
    assert contents(store.tree(store.take(code))) == contents(code)


def test_a_damaged_index_counts_as_none(store, code):
    put(code / 'a.py')
    settle()
    snapshot = store.take(code)
    [index] = (store.folder / 'index').iterdir()
    for damaged in (b'', b'\0' * 100, index.read_bytes()[:-5], index.read_bytes() + b'x'):
        index.write_bytes(damaged)
        assert store.take(code) == snapshot


# Limits.


def test_large_files_and_trees_are_refused_with_the_ways_out(store, code):
    put(code / 'data' / 'big.bin', b'\0' * 3000)
    put(code / 'a.py')
    with pytest.raises(
        PackagingError, match=r'data/big.bin \(2.9KiB\).*max_file=3KiB.*allow=data'
    ) as _:
        store.take(code, limits=Limits(file_bytes=1024))
    with pytest.raises(
        PackagingError, match=r'2.9KiB in 2 files.*data/ \(2.9KiB\).*max_total=3KiB'
    ):
        store.take(code, limits=Limits(total_bytes=1024))
    assert not (store.folder / 'blobs').exists()
    allowed = Limits(file_bytes=1024, allow=('data',))
    assert store.take(code, limits=allowed).files == 2
    assert store.take(code, limits=Limits(file_bytes=3000)).files == 2
    with pytest.raises(PackagingError, match=r'big\.bin'):
        store.take(code, limits=Limits(file_bytes=1024))


def test_secrets_are_refused_unless_allowed_and_never_kept_or_shown(store, code):
    token = 'ghp_' + 'a1' * 18
    put(code / 'a.py', f'import os\nTOKEN = "{token}"\n')
    put(code / 'keys' / 'id_rsa', 'anything')
    with pytest.raises(PackagingError) as caught:
        store.take(code)
    sentence = str(caught.value)
    assert 'a.py (what looks like an access token in line 2)' in sentence
    assert 'keys/id_rsa (a file in which programs keep keys or passwords)' in sentence
    assert '--xm_snapshot_allow=a.py' in sentence
    assert token not in sentence
    assert not any(
        token.encode() in path.read_bytes() for path in store.folder.rglob('*') if path.is_file()
    )
    assert store.take(code, limits=Limits(allow=('a.py', 'keys'))).files == 2
    with pytest.raises(PackagingError, match=r'a.py'):
        store.take(code)
    assert store.take(code, limits=Limits(secrets=False)).files == 2
    put(code / '.xmignore', '/keys\na.py\n')
    assert paths(store.take(code)) == ['.xmignore']


# Named files.


def test_files_from_anywhere_are_kept_under_their_names(store, tmp_path):
    tool = put(tmp_path / 'bin' / 'tool', mode=0o755)
    put(tmp_path / 'data' / '.gitignore', '*\n')
    put(tmp_path / 'data' / 'x.txt')
    (tmp_path / 'data' / 'link').symlink_to('x.txt')
    (tmp_path / 'current').symlink_to('bin/tool')
    snapshot = store.take_files(
        {'run': tmp_path / 'current', 'in/data': tmp_path / 'data', 'in/tool': tool}
    )
    assert contents(store.tree(snapshot)) == {
        'run': (b'content\n', True),
        'in': None,
        'in/tool': (b'content\n', True),
        'in/data': None,
        'in/data/.gitignore': (b'*\n', False),
        'in/data/x.txt': (b'content\n', False),
        'in/data/link': 'x.txt',
    }


def test_bad_names_and_missing_files_are_refused(store, tmp_path):
    for name in ('', '/etc', '../x', 'a//b', 'a/.'):
        with pytest.raises(PackagingError, match='cannot be a place'):
            store.take_files({name: put(tmp_path / 'a')})
    with pytest.raises(PackagingError, match='No such file'):
        store.take_files({'a': tmp_path / 'missing'})
    with pytest.raises(PackagingError, match='as a file and as a folder'):
        store.take_files({'a': tmp_path / 'a', 'a/b': tmp_path / 'a'})


# Removing.


def test_gc_removes_what_is_old_and_unreferred_and_nothing_else(tmp_path, code):
    now = [1000.0]
    store = SnapshotStore(tmp_path / 'snapshots', clock=lambda: now[0])
    put(code / 'shared.py', 'shared\n')
    put(code / 'a.py', 'one\n')
    old = store.take(code)
    tree = store.tree(old)
    put(code / 'a.py', 'two\n')
    referred = store.take(code)
    now[0] = 5000.0
    put(code / 'a.py', 'three\n')
    young = store.take(code)
    planned = store.gc({referred.digest}, 3000.0, dry_run=True)
    assert [one.digest for one in planned.snapshots] == [old.digest]
    assert tree.exists()
    assert store.gc({referred.digest}, 3000.0) == planned
    assert (planned.contents, planned.bytes) == (1, 4)
    assert not tree.exists()
    assert {one.digest for one in store.list()} == {referred.digest, young.digest}
    for snapshot in (referred, young):
        assert len(contents(store.tree(snapshot))) == 2
    put(code / 'a.py', 'one\n')
    assert store.take(code) == old
    assert contents(store.tree(old)) == contents(code)


def test_using_a_snapshot_keeps_it_from_gc(tmp_path, code):
    now = [1000.0]
    store = SnapshotStore(tmp_path / 'snapshots', clock=lambda: now[0])
    put(code / 'a.py')
    snapshot = store.take(code)
    now[0] = 5000.0
    store.tree(snapshot)
    assert store.gc(set(), 3000.0).snapshots == ()
    now[0] = 9000.0
    assert len(store.gc(set(), 3000.0).snapshots) == 1
    assert store.take(code) == snapshot
    assert contents(store.tree(snapshot)) == contents(code)


def test_gc_sweeps_what_killed_processes_have_left(store, code):
    put(code / 'a.py')
    snapshot = store.take(code)
    put(store.folder / 'staging' / '1-1')
    put(store.folder / 'blobs' / 'ab' / '.1-2')
    put(store.folder / 'trees' / f'.{snapshot.digest}.1.1' / 'a.py')
    store.gc({snapshot.digest}, 0)
    left = [path.name for path in store.folder.rglob('*') if path.name.startswith(('.', '1-'))]
    assert left == []


@pytest.mark.parametrize('text', ['', 'xmanager-snapshot 1 0 0\n', 'nonsense'])
def test_gc_removes_a_damaged_snapshot_whatever_its_age_and_says_so(store, code, text):
    put(code / 'old.py')
    damaged = store.take(code)
    put(code / 'new.py', 'new')
    sound = store.take(code)
    (store.folder / 'manifests' / damaged.digest).write_text(text)
    kept = store.gc({damaged.digest}, 1000.0)
    assert kept.snapshots == ()
    for dry_run in (True, False):
        [gone] = store.gc(set(), 1000.0, dry_run).snapshots
        assert (gone.digest, gone.damaged) == (damaged.digest, True)
    assert [one.digest for one in store.list()] == [sound.digest]
    assert store.gc(set(), 1000.0).snapshots == ()
    assert store.tree(sound).is_dir()
