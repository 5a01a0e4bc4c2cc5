"""New, damaged, foreign, newer and read-only homes."""

import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from xmanager.errors import StoreError
from xmanager.store import Home, NewExperiment, Patience, Store, opening

_NEW = NewExperiment('t', 'u', 'h')
_NOBODY = 65534


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / 'a %41 home?')


def edit(home, sql):
    with closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        connection.execute(sql)


def test_a_new_home_is_its_users_alone(home):
    Store.open(home).close()
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert home.database.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in home.path.iterdir()) == [
        'xmanager.db',
        'xmanager.db.lock',
    ]


def test_parents_of_a_home_are_made_too(tmp_path):
    Store.open(Home(tmp_path / 'a' / 'b')).close()
    assert (tmp_path / 'a' / 'b' / 'xmanager.db').exists()


def test_an_empty_file_is_no_database_yet(home):
    home.path.mkdir()
    home.database.touch()
    with Store.open(home) as store:
        assert store.create_experiment(_NEW).id == 1


def test_the_log_of_a_database_that_was_moved_away_does_no_harm(home):
    with Store.open(home) as store:
        store.create_experiment(_NEW)
        log = home.database.with_name('xmanager.db-wal')
        left = log.read_bytes()
    home.database.unlink()
    log.write_bytes(left)
    with Store.open(home) as store:
        assert store.experiments() == []


def test_ids_of_folders_without_a_database_are_not_given_again(home):
    home.experiment_folder(41).mkdir(parents=True)
    (home.experiments_folder / '.deleted-50').mkdir()
    with Store.open(home) as store:
        assert store.create_experiment(_NEW).id == 42


def test_twenty_processes_may_make_their_first_experiment_at_once(home):
    code = """if True:
        import sys, pathlib
        from xmanager.store import *
        sys.stdin.read()
        with Store.open(Home(pathlib.Path(sys.argv[1]))) as store:
            experiment = store.create_experiment(NewExperiment('t', 'u', 'h'))
            store.add_units(experiment.id, [NewUnit('work')] * 3, actor='test')
            print(store.home_id, experiment.id)
    """
    command = [sys.executable, '-c', code, str(home.path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(20)]
    for process in processes:
        assert process.stdin
        process.stdin.close()
    lines = []
    for process in processes:
        with process:
            assert process.stdout
            lines.append(process.stdout.read().split())
    assert sorted(int(id) for _, id in lines) == list(range(1, 21))
    assert len({home_id for home_id, _ in lines}) == 1
    with Store.open(home) as store:
        assert [e.counts for e in store.experiments()] == [{'queued': 3}] * 20


@pytest.mark.parametrize('readonly', [False, True])
@pytest.mark.parametrize(
    'content', [b'not a database at all' * 100, b'x', b'SQLite format 3\0junk']
)
def test_a_damaged_database_is_named_and_left_as_it_is(home, content, readonly):
    home.path.mkdir()
    home.database.write_bytes(content)
    with pytest.raises(StoreError, match='is damaged or not a database of xmanager') as caught:
        Store.open(home, readonly=readonly)
    assert f'mv {home.database}' in str(caught.value)
    assert home.database.read_bytes() == content


def test_damage_within_is_told_when_it_is_met(home):
    with Store.open(home) as store:
        for _ in range(200):
            store.create_experiment(NewExperiment('t' * 1000, 'u', 'h'))
    size = home.database.stat().st_size
    with home.database.open('r+b') as file:
        file.seek(4096 * 30)
        file.write(b'\xff' * (size - 4096 * 30))
    with Store.open(home) as store, pytest.raises(StoreError, match='is damaged'):
        store.experiments()


def test_a_database_of_another_program_is_refused(home):
    home.path.mkdir()
    edit(home, 'CREATE TABLE cookies (name TEXT)')
    with pytest.raises(StoreError, match='not a database of xmanager'):
        Store.open(home)


@pytest.mark.parametrize('readonly', [False, True])
def test_a_database_of_a_newer_xmanager_is_refused(home, readonly):
    Store.open(home).close()
    edit(home, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r'newer xmanager \(schema 9999\); upgrade xmanager or'):
        Store.open(home, readonly=readonly)


def test_a_file_in_place_of_the_home_is_named(tmp_path):
    (tmp_path / 'file').touch()
    for path in (tmp_path / 'file', tmp_path / 'file' / 'home'):
        with pytest.raises(StoreError, match='is a file where a directory is needed'):
            Store.open(Home(path))


def test_a_directory_in_place_of_the_database_is_an_error_in_one_sentence(home):
    home.database.mkdir(parents=True)
    with pytest.raises(StoreError, match='cannot be written'):
        Store.open(home)


@pytest.mark.parametrize(
    ('number', 'sentence'),
    [
        (errno.ENOLCK, 'the file system of .* has no working locks; set XM_HOME'),
        (errno.EOPNOTSUPP, 'the file system of .* has no working locks; set XM_HOME'),
        (errno.ENOSPC, 'no space is left for'),
        (errno.EROFS, 'cannot be written; chmod'),
        (errno.EIO, 'Input/output error; set XM_HOME'),
    ],
)
def test_what_the_system_refuses_is_one_sentence(home, monkeypatch, number, sentence):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, 'flock', refuse)
    with pytest.raises(StoreError, match=sentence):
        Store.open(home)
    assert not home.database.exists()


def test_whoever_makes_the_database_is_waited_for_then_given_up(home):
    home.path.mkdir()
    said: list[str] = []
    patience = Patience(notify_after=0.0, give_up_after=0.05)
    with home.lock.open('w') as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match='making or migrating'):
            Store.open(home, patience=patience, notify=said.append)
    assert said == [f'waiting for {home.lock}: another process makes or migrates the database']


def test_a_reader_of_no_home_sees_an_empty_one_and_makes_nothing(home):
    with Store.open(home, readonly=True) as store:
        assert store.experiments() == []
        assert store.units(1) == []
    assert not home.path.exists()


def test_a_reader_writes_nothing(home):
    Store.open(home).close()
    with Store.open(home, readonly=True) as store, pytest.raises(StoreError):
        store.create_experiment(_NEW)


@pytest.fixture
def foreign_home():
    """The home of somebody else, which an ordinary user can read but not write."""
    if os.geteuid() != 0:
        pytest.skip('needs root, to act as two users')
    folder = Path(tempfile.mkdtemp(prefix='xm-foreign-'))
    folder.chmod(0o755)
    home = Home(folder / 'home')
    with Store.open(home) as store:
        store.create_experiment(NewExperiment('theirs', 'u', 'h'))
    home.path.chmod(0o755)
    home.database.chmod(0o644)
    yield home
    shutil.rmtree(folder)


@contextmanager
def acting_as_nobody():
    """An ordinary user, to whom modes of files mean something."""
    os.setresuid(_NOBODY, _NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def titles(home):
    with Store.open(home, readonly=True) as store:
        return [experiment.title for experiment in store.experiments()]


def test_somebody_elses_home_can_be_read(foreign_home):
    with acting_as_nobody():
        assert titles(foreign_home) == ['theirs']


def test_somebody_elses_home_can_be_read_while_it_is_written(foreign_home):
    with Store.open(foreign_home) as store:
        store.create_experiment(NewExperiment('now', 'u', 'h'))
        with acting_as_nobody():
            assert titles(foreign_home) == ['now', 'theirs']


def test_somebody_elses_home_of_an_older_schema_is_left_to_its_owner(foreign_home, monkeypatch):
    monkeypatch.setattr(opening, 'SCHEMAS', (*opening.SCHEMAS, '9999'))
    with acting_as_nobody(), pytest.raises(StoreError, match='let its owner run'):
        titles(foreign_home)


def test_a_home_that_cannot_be_written_is_named(foreign_home):
    sentence = f'{foreign_home.path} cannot be written; chmod u.rwx it or set XM_HOME'
    with acting_as_nobody():
        with pytest.raises(StoreError, match=sentence):
            Store.open(foreign_home).create_experiment(_NEW)
        with pytest.raises(StoreError, match=r'you have no access to .*/new'):
            Store.open(Home(foreign_home.path / 'new'))


def test_a_home_that_cannot_be_read_is_named(foreign_home):
    foreign_home.path.chmod(0o700)
    with acting_as_nobody(), pytest.raises(StoreError, match='you have no access to'):
        titles(foreign_home)
