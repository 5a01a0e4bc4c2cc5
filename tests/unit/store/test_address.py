"""Which database is meant, and what is said of settings that mean none."""

import traceback
from pathlib import Path

import pytest

from xmanager.errors import UsageError
from xmanager.store import Home, NewExperiment, Store
from xmanager.store.address import FileAddress, ServerAddress, config_path, locate

_HOME = Home(Path('/home/ada/.xmanager'))


def by_url(url):
    return locate(_HOME, {'XM_DATABASE_URL': url})


@pytest.fixture
def by_config(tmp_path):
    def locate_by_config(text):
        (tmp_path / 'db.yaml').write_text(text)
        return locate(_HOME, {'XM_DB_YAML_CONFIG_PATH': str(tmp_path / 'db.yaml')})

    return locate_by_config


def test_unless_told_otherwise_it_is_the_file_of_the_home():
    empty = {'XM_DATABASE_URL': '', 'XM_DB_YAML_CONFIG_PATH': ''}
    assert locate(_HOME, {}) == locate(_HOME, empty) == FileAddress(_HOME.database)


@pytest.mark.parametrize(
    ('url', 'kind', 'driver', 'shown'),
    [
        ('postgresql://ada@db/xm', 'postgresql', 'psycopg', 'postgresql://ada@db/xm'),
        ('postgres://db:5433/xm', 'postgresql', 'psycopg', 'postgresql://db:5433/xm'),
        ('postgresql+psycopg://a:hush@db/xm', 'postgresql', 'psycopg', 'postgresql://a@db/xm'),
        ('mysql://ada:hush@db/xm', 'mysql', 'pymysql', 'mysql://ada@db/xm'),
        ('mariadb://ada:h%2Fush@db:3307/xm', 'mysql', 'pymysql', 'mysql://ada@db:3307/xm'),
        ('mariadb+pymysql://db/xm?password=hush', 'mysql', 'pymysql', 'mysql://db/xm'),
    ],
)
def test_a_url_names_a_server(url, kind, driver, shown):
    address = by_url(url)
    assert isinstance(address, ServerAddress)
    assert (address.kind, address.driver, str(address)) == (kind, driver, shown)
    assert 'hush' not in repr(address)


def test_what_is_escaped_in_a_url_is_read_as_it_was_meant():
    address = by_url('postgresql://a%40b:h%2Fu%3Ash%25@db/x%20m?sslmode=require')
    assert address == ServerAddress(
        kind='postgresql',
        host='db',
        name='x m',
        source='XM_DATABASE_URL',
        username='a@b',
        password='h/u:sh%',
        options=(('sslmode', 'require'),),
    )


def test_a_url_names_a_file():
    assert by_url('sqlite:////data/xm.db') == FileAddress(Path('/data/xm.db'))
    assert by_url('sqlite://') == FileAddress(_HOME.database)


@pytest.mark.parametrize(
    ('url', 'said'),
    [
        ('oracle://ada:hush@db/xm', 'it begins with oracle:'),
        ('hush', 'it is no URL'),
        ('postgresql://ada:hush@db:port/xm', 'its host or port cannot be read'),
        ('postgresql://ada:hush@[db/xm', 'its host or port cannot be read'),
        ('postgresql://ada:hush@db', 'it names no database'),
        ('postgresql:///xm?password=hush', 'it names no host'),
        ('postgresql+psycopg2://ada:hush@db/xm', 'the driver psycopg2 is not supported'),
        ('sqlite:///relative.db', 'an SQLite file needs an absolute path'),
    ],
)
def test_a_url_that_names_nothing_gets_one_sentence_without_password(url, said):
    with pytest.raises(UsageError, match=f'XM_DATABASE_URL: {said}') as caught:
        by_url(url)
    assert 'Expected postgresql://USER@HOST/NAME' in str(caught.value)
    assert 'hush' not in ''.join(traceback.format_exception(caught.value))


_GENERIC = """
sql_connector: generic
sql_connection_settings:
  backend: {backend}
  driver: {driver}
  username: ada
  password: hush
  host: db.example
  port: {port}
  db_name: xm
"""


def test_a_file_of_settings_names_a_server(by_config, tmp_path):
    address = by_config(_GENERIC.format(backend='postgresql', driver='psycopg', port=5433))
    assert address == ServerAddress(
        kind='postgresql',
        host='db.example',
        port=5433,
        name='xm',
        source=str(tmp_path / 'db.yaml'),
        username='ada',
        password='hush',
    )
    assert 'hush' not in repr(address)


def test_a_file_of_settings_names_a_file(by_config, tmp_path):
    text = 'sql_connector: sqlite\nsql_connection_settings:\n  backend: sqlite\n  db_name: {}\n'
    assert by_config(text.format('xm.db')) == FileAddress(tmp_path / 'xm.db')
    assert by_config(text.format('/data/xm.db')) == FileAddress(Path('/data/xm.db'))
    assert by_config('sql_connector: sqlite\n') == FileAddress(_HOME.database)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('sql_connector: cloudsql\n', 'cloudsql is not supported. Run the Cloud SQL Auth Proxy'),
        ('sql_connector: odbc\n', "sql_connector is 'odbc'; expected sqlite, generic or cloudsql"),
        ('', "sql_connector is ''; expected"),
        ('- hush\n', 'line 1 is not of the form'),
        ('sql_connector: generic\nsql_connection_settings: hush\n', 'must have keys of its own'),
        ('sql_connector: generic\npassword: hush\n', 'it says password, which means nothing here'),
        ('sql_connector: generic\n', "backend is ''; expected postgresql, mysql or mariadb"),
        (_GENERIC.format(backend='mysql', driver='mysqldb', port=1), "driver is 'mysqldb'; leave"),
        (_GENERIC.format(backend='mysql', driver='', port='many'), "port is 'many'; expected a"),
        (_GENERIC.format(backend='mysql', driver='', port=1).replace('db.example', ''), 'no host'),
    ],
)
def test_a_file_of_settings_that_names_nothing_gets_one_sentence(by_config, text, said):
    with pytest.raises(UsageError, match=said) as caught:
        by_config(text)
    assert 'db.yaml' in str(caught.value)
    assert 'hush' not in ''.join(traceback.format_exception(caught.value))


def test_a_file_of_settings_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match=r'there is no file /nowhere/db\.yaml'):
        locate(_HOME, {'XM_DB_YAML_CONFIG_PATH': '/nowhere/db.yaml'})
    (tmp_path / 'db.yaml').write_bytes(b'\xff\xfe')
    with pytest.raises(UsageError, match=r'db\.yaml: '):
        locate(_HOME, {'XM_DB_YAML_CONFIG_PATH': str(tmp_path / 'db.yaml')})


def test_a_path_is_relative_to_the_launch_script_and_else_to_where_we_are(tmp_path, monkeypatch):
    script, here = tmp_path / 'script', tmp_path / 'here'
    for folder in (script, here):
        folder.mkdir()
        (folder / 'db.yaml').touch()
    (here / 'other.yaml').touch()
    monkeypatch.chdir(here)
    assert config_path('db.yaml', lambda: str(script)) == script / 'db.yaml'
    assert config_path('other.yaml', lambda: str(script)) == here / 'other.yaml'


def test_two_databases_are_one_too_many():
    both = {'XM_DATABASE_URL': 'postgresql://a:hush@db/xm', 'XM_DB_YAML_CONFIG_PATH': 'db.yaml'}
    with pytest.raises(UsageError, match='both name a database') as caught:
        locate(_HOME, both)
    assert 'hush' not in str(caught.value)


def test_a_file_elsewhere_holds_the_records_and_the_home_the_folders(tmp_path, monkeypatch):
    file = tmp_path / 'elsewhere' / 'team.db'
    monkeypatch.setenv('XM_DATABASE_URL', f'sqlite:///{file}')
    with Store.open(Home(tmp_path / 'home')) as store:
        experiment = store.create_experiment(NewExperiment('t', 'u', 'h'))
    assert experiment.folder == tmp_path / 'home' / 'experiments' / '1'
    assert sorted(path.name for path in file.parent.iterdir()) == ['team.db', 'team.db.lock']
    with Store.open(Home(tmp_path / 'home'), readonly=True) as store:
        assert store.experiment(1).title == 't'


def test_a_driver_that_is_not_installed_is_named(tmp_path, monkeypatch):
    import sys

    from xmanager.errors import StoreError

    monkeypatch.setitem(sys.modules, 'psycopg', None)
    monkeypatch.setenv('XM_DATABASE_URL', 'postgresql://ada:hush@db/xm')
    with pytest.raises(StoreError, match=r"needs the package psycopg: pip install 'xmanager\[post"):
        Store.open(Home(tmp_path / 'home'))
