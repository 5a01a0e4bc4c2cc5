"""Locks, threads and what is loaded."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from xmanager.errors import StoreError
from xmanager.store import Home, NewExperiment, NewUnit, Patience, Store
from xmanager.store.queries import Queries

_LITTLE = Patience(notify_after=0.01, give_up_after=0.05)
_NEW = NewExperiment('t', 'u', 'h')


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / 'home')


@pytest.fixture
def store(home):
    with Store.open(home) as store:
        yield store


@pytest.fixture
def intruder(store, home):
    """Another program that has the database open."""
    with closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        yield connection


def test_a_lock_is_waited_for_and_then_given_up_with_what_to_do(home, intruder):
    said: list[str] = []
    with Store.open(home, patience=_LITTLE, notify=said.append) as store:
        intruder.execute('BEGIN IMMEDIATE')
        with pytest.raises(StoreError, match=r'stayed locked .* for 0.05 s; see which \(fuser'):
            store.create_experiment(_NEW)
        assert said == [f'waiting for {home.database}: another process has locked it']
        intruder.execute('ROLLBACK')
        assert store.create_experiment(_NEW).id == 1


def test_a_lock_that_is_let_go_in_time_is_no_error(home, intruder):
    intruder.execute('BEGIN IMMEDIATE')
    notify = lambda sentence: intruder.execute('ROLLBACK')  # noqa: E731
    with Store.open(home, patience=Patience(notify_after=0.01), notify=notify) as store:
        assert store.create_experiment(_NEW).id == 1


def test_the_user_is_told_through_the_log_that_he_waits(home, intruder, caplog):
    with Store.open(home, patience=_LITTLE) as store:
        intruder.execute('BEGIN IMMEDIATE')
        with pytest.raises(StoreError):
            store.create_experiment(_NEW)
    assert [record.levelname for record in caplog.records] == ['WARNING']


def test_readers_do_not_wait_for_a_writer(home, store, intruder):
    store.create_experiment(_NEW)
    intruder.execute('BEGIN IMMEDIATE')
    with Store.open(home, readonly=True, patience=_LITTLE) as reader:
        assert reader.experiment(1).title == 't'


def test_a_transaction_that_raises_writes_nothing(store):
    experiment = store.create_experiment(_NEW)
    token = store.change_token(experiment.id), store.foreign_token(experiment.id)
    with pytest.raises(AttributeError):
        store.add_units(experiment.id, [NewUnit('work'), None], actor='test')
    assert store.units(experiment.id) == []
    assert (store.change_token(experiment.id), store.foreign_token(experiment.id)) == token
    assert len(store.add_units(experiment.id, [NewUnit('work')], actor='test')) == 1


def test_a_full_disk_is_named(store, home):
    experiment = store.create_experiment(_NEW)
    store._database._connection.execute('PRAGMA max_page_count = 1')
    with pytest.raises(StoreError, match=f'no space is left for {home.path}; free some'):
        store.add_units(experiment.id, [NewUnit('work', args={'x': 'y' * 10**6})], actor='test')
    assert store.units(experiment.id) == []


def test_threads_may_share_a_store(store):
    experiment = store.create_experiment(_NEW)

    def add_and_read():
        for _ in range(20):
            store.add_units(experiment.id, [NewUnit('work')], actor='test')
            store.units(experiment.id)

    threads = [threading.Thread(target=add_and_read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [unit.number for unit in store.units(experiment.id)] == list(range(1, 81))


def test_a_closed_store_says_so(home):
    store = Store.open(home)
    store.close()
    with pytest.raises(StoreError, match='closed database'):
        store.experiments()


def plan_of(home, ask):
    """How SQLite would answer what `ask` asks."""
    statements: list[str] = []
    with closing(sqlite3.connect(home.database)) as connection:
        connection.set_trace_callback(statements.append)
        ask(Queries(home, '', ''), connection)
        connection.set_trace_callback(None)
        steps = connection.execute(f'EXPLAIN QUERY PLAN {statements[-1]}').fetchall()
    return [step[3] for step in steps]


_ASKED = {'kind': None, 'after_id': 0, 'limit': 200, 'with_tasks': False}


def test_the_queue_is_read_in_the_order_of_its_index(store, home):
    plan = plan_of(home, lambda q, c: q.units(c, 1, states=('queued',), order='queue', **_ASKED))
    assert plan == ['SEARCH units USING INDEX units_queue (experiment_id=? AND state=?)']


def test_units_of_some_states_are_found_by_state(store, home):
    plan = plan_of(
        home, lambda q, c: q.units(c, 1, states=('starting', 'running'), order='number', **_ASKED)
    )
    assert plan[0] == 'SEARCH units USING INDEX units_queue (experiment_id=? AND state=?)'


def test_pages_are_read_in_the_order_of_an_index(store, home):
    asked = {**_ASKED, 'after_id': 5}
    plan = plan_of(home, lambda q, c: q.units(c, 1, states=None, order='number', **asked))
    assert plan == ['SEARCH units USING INDEX units_order (experiment_id=? AND id>?)']


def test_experiments_are_counted_from_an_index_alone(store, home):
    store.create_experiment(_NEW)
    (plan,) = plan_of(home, lambda q, c: q.experiments(c, None, None, None, None))
    assert plan.startswith('SEARCH units USING COVERING INDEX units_queue')


def test_opening_a_database_loads_no_alembic_and_no_sqlalchemy(home):
    code = (
        'import sys, pathlib; from xmanager.store import Home, Store; '
        'Store.open(Home(pathlib.Path(sys.argv[1]))).close(); '
        'print(sorted({"alembic", "sqlalchemy"} & sys.modules.keys()))'
    )
    command = [sys.executable, '-c', code, str(home.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == '[]\n'
