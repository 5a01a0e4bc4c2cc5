"""How SQLite's journal is kept on disks of one host and of several."""

import sqlite3
from contextlib import closing

import pytest

from xmanager.errors import StoreError
from xmanager.store import Home, NewExperiment, Patience, Store, file_system
from xmanager.store.journal import journal_for, mode_of

_NEW = NewExperiment('t', 'u', 'h')


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / 'home')


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Says which file system the home is on from now on, as the kernel would."""

    def mount(kind):
        mounts = tmp_path / 'mountinfo'
        mounts.write_text(f'22 1 8:1 / {tmp_path} rw,relatime shared:1 - {kind} server:/home rw\n')
        monkeypatch.setattr(file_system, '_MOUNTS', mounts)

    return mount


def synchronous(store):
    return store._database._connection.execute('PRAGMA synchronous').fetchone()[0]


@pytest.mark.parametrize(
    ('kind', 'mode', 'level'), [('ext4', 'wal', 1), ('nfs4', 'delete', 2), ('lustre', 'delete', 2)]
)
def test_a_new_database_suits_its_disk(home, mounted, kind, mode, level):
    mounted(kind)
    with Store.open(home) as store:
        store.create_experiment(_NEW)
        assert synchronous(store) == level
        assert mode_of(home.database) == mode
        assert home.database.with_name('xmanager.db-shm').exists() == (mode == 'wal')


def test_a_home_that_was_moved_to_a_network_and_back_keeps_its_records(home, mounted):
    mounted('ext4')
    with Store.open(home) as store:
        store.create_experiment(_NEW)
    for kind, mode in (('nfs', 'delete'), ('xfs', 'wal')):
        mounted(kind)
        with Store.open(home) as store:
            store.create_experiment(_NEW)
        assert mode_of(home.database) == mode
    with Store.open(home) as store:
        assert [e.id for e in store.experiments()] == [3, 2, 1]


def test_the_log_of_a_process_that_was_killed_is_not_lost_on_the_way_to_a_network(home, mounted):
    mounted('ext4')
    with Store.open(home) as store:
        store.create_experiment(_NEW)
        log = home.database.with_name('xmanager.db-wal')
        left = home.database.read_bytes(), log.read_bytes()
    home.database.write_bytes(left[0])
    log.write_bytes(left[1])
    mounted('nfs')
    with Store.open(home) as store:
        assert [e.id for e in store.experiments()] == [1]
    assert not log.exists()


def test_a_database_in_use_is_not_turned_for_the_network_behind_its_users_back(home, mounted):
    mounted('ext4')
    Store.open(home).close()
    with closing(sqlite3.connect(home.database)) as user:
        user.execute('SELECT COUNT(*) FROM experiments').fetchall()
        mounted('nfs')
        with pytest.raises(StoreError, match='is locked by another process'):
            Store.open(home)
    assert mode_of(home.database) == 'wal'


def test_a_database_in_use_is_used_as_it_is_until_it_can_be_made_faster(home, mounted):
    mounted('nfs')
    with Store.open(home) as first:
        first.create_experiment(_NEW)
        with closing(sqlite3.connect(home.database, isolation_level=None)) as user:
            user.execute('BEGIN')
            user.execute('SELECT COUNT(*) FROM experiments').fetchall()
            mounted('ext4')
            with Store.open(home, readonly=True) as second:
                assert second.experiment(1).title == 't'
        assert mode_of(home.database) == 'delete'
    Store.open(home).close()
    assert mode_of(home.database) == 'wal'


def test_what_is_no_database_has_no_mode(tmp_path):
    (tmp_path / 'file').write_bytes(b'x')
    assert mode_of(tmp_path / 'file') == mode_of(tmp_path) == mode_of(tmp_path / 'nothing') == ''


def test_the_reason_is_known(home, mounted):
    mounted('cifs')
    assert journal_for(home.database).file_system == 'cifs'


def test_on_a_network_a_reader_holds_up_a_commit_but_does_not_break_it(home, mounted):
    mounted('nfs')
    said: list[str] = []
    Store.open(home).close()
    with closing(sqlite3.connect(home.database, isolation_level=None)) as reader:

        def let_go(sentence):
            said.append(sentence)
            reader.execute('COMMIT')

        with Store.open(home, patience=Patience(notify_after=0.01), notify=let_go) as store:
            reader.execute('BEGIN')
            reader.execute('SELECT COUNT(*) FROM experiments').fetchall()
            assert store.create_experiment(_NEW).id == 1
    assert said == [f'waiting for {home.database}: another process has locked it']
