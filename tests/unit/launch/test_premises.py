import pytest

from xmanager.launch.premises import database, home
from xmanager.store import Home, NewExperiment, Store, file_system


def test_looking_at_a_home_leaves_nothing_behind(tmp_path):
    found = home(Home(tmp_path))
    assert found.status in ('ok', 'warn')
    assert found.facts['exists'] is True
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def on_nfs(tmp_path, monkeypatch):
    """The kernel says that the home is on a disk of the network."""
    mounts = tmp_path / 'mountinfo'
    mounts.write_text(f'22 1 8:1 / {tmp_path} rw,relatime shared:1 - nfs4 server:/home rw\n')
    monkeypatch.setattr(file_system, '_MOUNTS', mounts)


def test_a_home_on_a_network_is_warned_of(tmp_path, on_nfs):
    found = home(Home(tmp_path / 'home'))
    assert found.status == 'warn'
    assert 'the database is slower on nfs4, and relies on its locks' in found.detail
    assert 'use a server (docs/how-to/databases.md)' in found.advice


def test_a_database_on_a_network_says_how_its_journal_is_kept_and_why(tmp_path, on_nfs):
    with Store.open(Home(tmp_path / 'home')) as store:
        store.create_experiment(NewExperiment('t', 'u', 'h'))
    found = database(Home(tmp_path / 'home'))
    assert found.status == 'ok'
    assert '1 experiments, journal delete (hosts share no memory on nfs4), sound' in found.detail


def test_a_database_on_a_disk_of_this_machine_says_so_in_a_word(tmp_path):
    Store.open(Home(tmp_path)).close()
    assert database(Home(tmp_path)).facts['journal'] == 'journal wal'


def test_a_database_that_is_not_there_yet_is_no_fault(tmp_path):
    assert database(Home(tmp_path)).detail == 'none yet (made by the first launch)'


def test_settings_that_name_no_database_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv('XM_DATABASE_URL', 'oracle://ada:hush@db/xm')
    found = database(Home(tmp_path))
    assert (found.status, 'it begins with oracle:' in found.detail) == ('bad', True)


def test_a_server_that_does_not_answer_is_told_without_the_password(tmp_path, monkeypatch):
    monkeypatch.setenv('XM_DATABASE_URL', 'postgresql://ada:hush@127.0.0.1:1/xm')
    found = database(Home(tmp_path))
    assert found.status == 'bad'
    assert 'postgresql://ada@127.0.0.1:1/xm does not answer' in found.detail
    assert 'start the server' in found.advice
    assert 'hush' not in str(found)
