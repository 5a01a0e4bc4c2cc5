"""PostgreSQL and MariaDB as real servers: made and migrated once, shared, gone and back again."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.acceptance.polling import until
from tests.engines.servers import PASSWORD, Server, address_of, execute, running

from xmanager.errors import StoreError
from xmanager.store import (
    QUEUED,
    STARTING,
    Change,
    Home,
    NewExperiment,
    NewUnit,
    Patience,
    Store,
)
from xmanager.store.address import ServerAddress
from xmanager.store.migrate import upgrade
from xmanager.store.opening import SCHEMAS
from xmanager.store.presence import Presence
from xmanager.store.server import make_engine

_NEW = NewExperiment('t', 'u', 'h')
_FIRST = Path(__file__).parents[1] / 'unit' / 'store' / 'data' / 'schema-0001.sql'
_TABLES = ('settings', 'experiments', 'units', 'tasks', 'events', 'requests')
_SERVERS = ('postgresql', 'mariadb')
_PROGRAM = str(Path(sys.executable).with_name('xmanager'))


@pytest.fixture(params=_SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def address(server: Server, request: pytest.FixtureRequest) -> ServerAddress:
    """A database of this test alone, without tables."""
    return server.create_database(f'xm_{abs(hash(request.node.nodeid)) % 10**9}')


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / 'home')


@pytest.fixture
def store(home: Home, address: ServerAddress) -> Iterator[Store]:
    with Store.open(home, address=address) as store:
        yield store


def url_of(server: Server, address: ServerAddress) -> str:
    return server.url(address.name)


def query(address: ServerAddress, sql: str) -> list[tuple[object, ...]]:
    engine = make_engine(address, lock_seconds=10, once=True)
    with engine.begin() as connection:
        result = connection.execute(sa.text(sql))
        return [tuple(row) for row in result] if result.returns_rows else []


def fill_with_first_schema(address: ServerAddress) -> None:
    """What a database of the first schema would hold, had it been on this server."""
    engine = make_engine(address, lock_seconds=10, once=True)
    with closing(sqlite3.connect(':memory:')) as source, engine.connect() as target:
        source.executescript(_FIRST.read_text())
        source.row_factory = sqlite3.Row
        with target.begin():
            upgrade(target, '0001')
            for table in _TABLES:
                rows = [dict(row) for row in source.execute(f'SELECT * FROM {table}')]
                names = ', '.join(f':{name}' for name in rows[0])
                target.execute(sa.text(f'INSERT INTO {table} VALUES ({names})'), rows)
            if address.kind == 'postgresql':
                for table in set(_TABLES) - {'settings', 'tasks'}:
                    last = f"setval('{table}_id_seq', (SELECT MAX(id) FROM {table}))"
                    target.execute(sa.text(f'SELECT {last}'))


# Making and migrating


def run_ten_at_once(environment: dict[str, str]) -> list[list[str]]:
    """Ten processes that open the store at the same moment; what each one printed."""
    code = """if True:
        import sys
        from xmanager.store import *
        sys.stdin.read()
        with Store.open(Home.locate()) as store:
            experiment = store.create_experiment(NewExperiment('t', 'u', 'h'))
            store.add_units(experiment.id, [NewUnit('work')] * 3, actor='test')
            print(store.home_id, experiment.id)
    """
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', code],
            stdin=pipe,
            stdout=pipe,
            text=True,
            env={**os.environ, **environment},
        )
        for _ in range(10)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.close()
    lines = []
    for process in processes:
        with process:
            assert process.stdout
            lines.append(process.stdout.read().split())
    return lines


def test_ten_processes_migrate_a_servers_database_once(server, address, home):
    fill_with_first_schema(address)
    lines = run_ten_at_once({'XM_HOME': str(home.path), 'XM_DATABASE_URL': url_of(server, address)})
    assert sorted(int(id) for _, id in lines) == list(range(3, 13))
    assert {home_id for home_id, _ in lines} == {'0123456789ab'}
    with Store.open(home, address=address) as store:
        assert [e.counts for e in store.experiments(limit=10)] == [{'queued': 3}] * 10


def test_ten_processes_migrate_a_file_once(home):
    home.path.mkdir()
    with closing(sqlite3.connect(home.database)) as connection:
        connection.executescript(_FIRST.read_text())
    lines = run_ten_at_once({'XM_HOME': str(home.path)})
    assert sorted(int(id) for _, id in lines) == list(range(3, 13))
    assert home.database.with_name('xmanager.db.schema-0001').exists()


def test_ten_clients_make_the_tables_once(address, home):
    made: list[str] = []

    def open_store() -> None:
        with Store.open(home, address=address) as store:
            made.append(store.home_id)

    threads = [threading.Thread(target=open_store) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 10
    assert len(set(made)) == 1
    assert query(address, 'SELECT version_num FROM alembic_version') == [(SCHEMAS[-1],)]


def test_what_the_first_schema_held_is_read_right(address, home):
    fill_with_first_schema(address)
    with Store.open(home, address=address) as store:
        units = {unit.label: unit for unit in store.units(1)}
        (unit,) = store.units(2)
        assert store.create_experiment(_NEW).id == 3
    assert [units[label].state for label in ('1', '2', '3', 'a1')] == [
        'completed',
        'failed',
        'queued',
        'running',
    ]
    assert (units['3'].queued_at, units['6'].queued_at) == (1_700_000_022.5, None)
    assert unit.tags == ('x', "it's")
    assert unit.tasks[0].task.env == {'A': 'back\\slash \'quote\' "double"\nline'}


def test_tables_of_another_program_are_left_alone(address, home):
    query(address, 'CREATE TABLE events (cookie INTEGER)')
    with pytest.raises(StoreError, match=r"has a table 'events' already, of another program"):
        Store.open(home, address=address)
    assert query(address, 'SELECT * FROM events') == []


def test_a_database_of_a_newer_xmanager_is_refused(address, home):
    Store.open(home, address=address).close()
    query(address, "UPDATE alembic_version SET version_num = '9999'")
    for readonly in (False, True):
        with pytest.raises(StoreError, match=r'newer xmanager \(schema 9999\); upgrade xmanager'):
            Store.open(home, address=address, readonly=readonly)


def test_a_reader_makes_nothing_and_writes_nothing(address, home):
    with Store.open(home, address=address, readonly=True) as store:
        assert store.experiments() == []
    assert not home.path.exists()
    Store.open(home, address=address).close()
    with Store.open(home, address=address, readonly=True) as store:
        assert store.experiments() == []
        with pytest.raises(StoreError, match='was opened to be read'):
            store.create_experiment(_NEW)


# Sharing


def test_many_clients_number_one_experiments_units_without_gaps(store, address, home):
    experiment = store.create_experiment(_NEW)

    def add_and_move() -> None:
        with Store.open(home, address=address) as other:
            for _ in range(10):
                ((unit, _),) = other.add_units(experiment.id, [NewUnit('work')], actor='test')
                other.move([Change(unit.id, STARTING)], actor='test')

    threads = [threading.Thread(target=add_and_move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [unit.number for unit in store.units(experiment.id)] == list(range(1, 41))
    assert store.counts(experiment.id) == {STARTING: 40}
    assert len(store.events(experiment.id)) == 80
    (revision,) = query(address, 'SELECT revision FROM experiments')[0]
    assert revision == 80


def test_an_event_that_comes_later_has_the_higher_id(store, address, home):
    """A follower that asks for what is new since the last event misses none."""
    experiment = store.create_experiment(_NEW)
    seen: list[int] = []
    done = threading.Event()

    def follow() -> None:
        with Store.open(home, address=address, readonly=True) as reader:
            while True:
                was_done = done.is_set()
                last = seen[-1] if seen else 0
                seen.extend(e.id for e in reader.events(experiment.id, after_id=last))
                if was_done:
                    return

    def add() -> None:
        with Store.open(home, address=address) as other:
            for _ in range(15):
                other.add_units(experiment.id, [NewUnit('work')] * 3, actor='test')

    follower = threading.Thread(target=follow)
    writers = [threading.Thread(target=add) for _ in range(3)]
    for thread in (follower, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    follower.join()
    assert seen == [event.id for event in store.events(experiment.id)]


def test_a_reader_sees_one_moment(store, address, home):
    experiment = store.create_experiment(_NEW)
    with Store.open(home, address=address) as reader:
        sql = 'SELECT COUNT(*) FROM units'
        with reader._database.reading() as connection:
            before = connection.execute(sql).fetchone()
            store.add_units(experiment.id, [NewUnit('work')], actor='test')
            assert connection.execute(sql).fetchone() == before
        assert reader.counts(experiment.id) == {QUEUED: 1}


def test_a_row_that_stays_locked_is_given_up_with_a_sentence(store, address, home):
    experiment = store.create_experiment(_NEW)
    patience = Patience(notify_after=0.1, give_up_after=0.2)
    with Store.open(home, address=address, patience=patience) as hasty:
        with (
            store._changing(experiment.id),
            pytest.raises(StoreError, match='the rows are locked by another process; try again'),
        ):
            hasty.add_units(experiment.id, [NewUnit('work')], actor='test')
        assert hasty.add_units(experiment.id, [NewUnit('work')], actor='test')


def test_a_claim_is_timed_by_the_servers_clock(store, address, home, monkeypatch):
    experiment = store.create_experiment(_NEW)
    lease = store.claim(experiment.id, 'ada', 3600.0)
    monkeypatch.setattr('time.time', lambda: 1e12)
    with Store.open(home, address=address) as other:
        assert lease is not None
        assert other.claim(experiment.id, 'bob', 1.0) is None
    ((left,),) = query(address, 'SELECT held_until FROM experiments')
    assert isinstance(left, float)


def test_a_forked_child_disturbs_nobody(store):
    experiment = store.create_experiment(_NEW)
    child = os.fork()
    if child == 0:
        try:
            store.add_units(experiment.id, [NewUnit('work')], actor='child')
        finally:
            os._exit(0)
    units = store.add_units(experiment.id, [NewUnit('work')] * 2, actor='parent')
    os.waitpid(child, 0)
    assert len(units) == 2
    assert store.counts(experiment.id) == {QUEUED: 3}


# Trouble


@pytest.mark.parametrize('name', _SERVERS)
def test_a_server_that_goes_away_is_told_and_used_again_once_it_is_back(name, home):
    with running(name) as server:
        address = server.create_database('xm')
        with Store.open(home, address=address) as store:
            experiment = store.create_experiment(_NEW)
            token = store.foreign_token(experiment.id)
            server.stop()
            for _ in range(2):
                with pytest.raises(StoreError, match='does not answer') as caught:
                    store.add_units(experiment.id, [NewUnit('work')], actor='test')
                assert_is_safe(caught.value)
            with pytest.raises(StoreError, match='XM_DATABASE_URL'):
                Store.open(home, address=address)
            server.start()
            assert store.add_units(experiment.id, [NewUnit('work')], actor='test')
            assert store.foreign_token(experiment.id) == token
            # A server that was started anew between two calls is no error at all.
            server.stop()
            server.start()
            assert store.counts(experiment.id) == {QUEUED: 1}


def assert_is_safe(error: BaseException) -> None:
    """One sentence or two, in a line, and nowhere the password."""
    assert len(str(error).splitlines()) == 1
    told = ''.join(traceback.format_exception(error))
    assert PASSWORD not in told
    assert 'hush' not in told


def test_wrong_settings_get_one_sentence_without_password(server, address, home):
    url = url_of(server, address)
    wrong = {
        url.replace('hush', 'hush2'): 'refuses the user or the password; correct XM_DATABASE_URL',
        f'{url}2': 'there is no such database. Create it',
        url.replace(f':{server.port}/', ':1/'): 'does not answer',
    }
    for other, said in wrong.items():
        with pytest.raises(StoreError, match=said) as caught:
            Store.open(home, address=address_of(other))
        assert_is_safe(caught.value)


def url_of_user(server, address, name, rights=''):
    """A URL for a new user who has these rights on all tables that there are."""
    if address.kind == 'postgresql':
        statements = [f"CREATE ROLE {name} LOGIN PASSWORD 'hush'"]
        if rights:
            statements += [
                f'GRANT {rights} ON ALL TABLES IN SCHEMA public TO {name}',
                f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}',
            ]
    else:
        user = f"{name}@'127.0.0.1'"
        where = f'{address.name}.*' if rights else f'{address.name}.settings'
        statements = [
            f"CREATE USER {user} IDENTIFIED BY 'hush'",
            f'GRANT {rights or "SELECT"} ON {where} TO {user}',
        ]
    execute(server.admin(address.name), *statements)
    return address_of(f'{address.kind}://{name}:hush@127.0.0.1:{server.port}/{address.name}')


def test_a_user_without_rights_is_told_so(server, address, home):
    Store.open(home, address=address).close()
    guest = url_of_user(server, address, 'guest')
    with pytest.raises(StoreError, match=r'denied .* Ask its owner for the rights') as caught:
        Store.open(home, address=guest)
    assert_is_safe(caught.value)


def test_an_older_schema_is_left_to_who_may_change_tables(server, address, home):
    fill_with_first_schema(address)
    intern = url_of_user(server, address, 'intern', 'SELECT')
    for readonly in (True, False):
        with pytest.raises(StoreError, match='Ask its owner for the rights') as caught:
            Store.open(home, address=intern, readonly=readonly)
        assert_is_safe(caught.value)
    Store.open(home, address=address).close()
    with Store.open(home, address=intern, readonly=True) as store:
        assert [e.id for e in store.experiments()] == [2, 1]
    with (
        Store.open(home, address=intern) as store,
        pytest.raises(StoreError, match='Ask its owner for the rights'),
    ):
        store.create_experiment(_NEW)


def test_who_may_change_rows_can_launch(server, address, home):
    Store.open(home, address=address).close()
    rights = 'SELECT, INSERT, UPDATE, DELETE'
    with Store.open(home, address=url_of_user(server, address, 'bob', rights)) as store:
        experiment = store.create_experiment(_NEW)
        ((unit, _),) = store.add_units(experiment.id, [NewUnit('work')], actor='bob')
        store.move([Change(unit.id, STARTING)], actor='bob')
        assert store.claim(experiment.id, 'bob', 1.0) is not None
        store.delete_experiment(experiment.id)


def test_options_that_the_driver_does_not_know_are_named(server, address, home):
    url = f'{url_of(server, address)}?colour=blue'
    with pytest.raises(StoreError, match='colour') as caught:
        Store.open(home, address=address_of(url))
    assert_is_safe(caught.value)


def test_a_text_that_is_too_long_is_refused_and_nothing_is_written(store):
    experiment = store.create_experiment(_NEW)
    new = [NewUnit('work'), NewUnit('work', identity='hush' * 1000)]
    with pytest.raises(StoreError, match='too long') as caught:
        store.add_units(experiment.id, new, actor='test')
    assert_is_safe(caught.value)
    assert store.units(experiment.id) == []


# Commands


def test_the_commands_use_the_server_and_never_show_the_password(server, address, home, store):
    store.create_experiment(NewExperiment('on a server', 'u', 'h'))
    environment = {
        **os.environ,
        'XM_HOME': str(home.path),
        'XM_DATABASE_URL': url_of(server, address),
    }

    def said(*arguments: str) -> str:
        done = subprocess.run(
            [_PROGRAM, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert 'hush' not in done.stdout
        return done.stdout

    assert 'on a server' in said('list')
    checks = {check['topic']: check for check in json.loads(said('doctor', '--json'))['checks']}
    found = checks['database']
    assert found['status'] == 'ok'
    assert str(address) in found['detail']
    assert ('PostgreSQL 1' if address.kind == 'postgresql' else 'MariaDB 1') in found['detail']
    assert found['facts']['schema'] == SCHEMAS[-1]
    environment['XM_DATABASE_URL'] = url_of(server, address).replace('hush', 'hush2')
    assert 'refuses the user or the password' in said('doctor')


_LAUNCHER = """
from xmanager import xm, xm_local

with xm_local.create_experiment('by a file of settings') as experiment:
    [sh] = experiment.package(
        [xm.binary(xm_local.Local.Spec(), path='/bin/sh', args=['-c', 'echo hello'])]
    )
    for _ in range(3):
        experiment.add(xm.Job(sh, xm_local.Local()))
"""


def test_a_launch_by_a_file_beside_the_script_is_recorded_on_the_server(server, address, tmp_path):
    (tmp_path / 'script').mkdir()
    (tmp_path / 'script' / 'launcher.py').write_text(_LAUNCHER)
    (tmp_path / 'script' / 'db.yaml').write_text(
        'sql_connector: generic\n'
        'sql_connection_settings:\n'
        f'  backend: {address.kind}\n'
        f"  username: '{address.username}'\n"
        f"  password: '{address.password}'\n"
        f'  host: {address.host}\n'
        f'  port: {address.port}\n'
        f'  db_name: {address.name}\n'
    )
    home = Home(tmp_path / 'home')
    done = subprocess.run(
        [_PROGRAM, 'launch', 'script/launcher.py', '--', '--xm_db_yaml_config_path=db.yaml'],
        cwd=tmp_path,
        env={
            **os.environ,
            'XM_HOME': str(home.path),
            'XM_LOCAL_LEDGER': str(tmp_path / 'ledger'),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    with Store.open(home, address=address) as store:
        assert store.experiment(1).counts == {'completed': 3}
    assert not home.database.exists()
    kept = [path for path in home.path.rglob('*') if path.is_file()]
    assert kept
    assert not [path for path in kept if b'hush' in path.read_bytes()]


_GATED = """
from xmanager import xm, xm_local

with xm_local.create_experiment('gated') as experiment:
    [sh] = experiment.package(
        [
            xm.binary(
                xm_local.Local.Spec(),
                path='/bin/sh',
                args=['-c', 'while [ ! -e gate ]; do sleep 0.05; done'],
            )
        ]
    )
    experiment.add(xm.Job(sh, xm_local.Local()))
"""


@pytest.fixture
def gated_home(tmp_path):
    """Whatever becomes of the test, its job and its supervisor come to an end."""
    home = Home(tmp_path / 'home')
    yield home
    (tmp_path / 'gate').touch()
    shutil.rmtree(home.path, ignore_errors=True)


def test_units_run_on_while_the_server_is_away_and_are_recorded_when_it_is_back(
    tmp_path, gated_home
):
    (tmp_path / 'launcher.py').write_text(_GATED)
    with running('postgresql') as server:
        address = server.create_database('xm')
        environment = {
            **os.environ,
            'XM_HOME': str(gated_home.path),
            'XM_DATABASE_URL': server.url('xm'),
        }
        launch = [_PROGRAM, 'launch', 'launcher.py', '--', '--xm_detach']
        subprocess.run(launch, cwd=tmp_path, env=environment, check=True, timeout=120)
        with Store.open(gated_home, address=address) as store:
            until(lambda: store.counts(1) == {'running': 1})
            folder = store.experiment(1).folder
            status = store.unit_by_label(1, '1').tasks[0].folder / 'status'
            server.stop()
            (tmp_path / 'gate').touch()
            until(lambda: b'exited 0' in status.read_bytes())
            until(lambda: 'does not answer' in (folder / 'supervisor.log').read_text())
            assert 'hush' not in (folder / 'supervisor.log').read_text()
            server.start()
            until(lambda: store.counts(1) == {'completed': 1})
            until(lambda: not Presence(folder).is_supervised())
