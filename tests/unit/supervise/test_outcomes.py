from pathlib import Path
from typing import Any

import pytest

from xmanager.backend import TaskObservation
from xmanager.store import TaskRecord, UnitRecord
from xmanager.supervise.outcomes import describe, has_ended, has_failed, judge, last_line
from xmanager.testing.store_fixtures import a_task

RUNNING = TaskObservation('running')
GOOD = TaskObservation('exited', exit_code=0)
VANISHED = TaskObservation('vanished')


def failed(code: int = 1, **facts: Any) -> TaskObservation:
    return TaskObservation('exited', exit_code=code, **facts)


@pytest.fixture
def unit(tmp_path):
    """A unit of the tasks `a`, `b` and `c`."""
    return UnitRecord(
        id=1, experiment_id=1, kind='work', number=1, state='running', message='', identity='', args={},
        importance=0, tags=(), termination_delay=None, attempt=1, backend='fake', reference='', created_at=0.0,
        started_at=0.0, ended_at=None, place=str(tmp_path), home_id='h',
        tasks=tuple(TaskRecord(a_task(name), str(tmp_path / name)) for name in 'abc'),
    )  # fmt: skip


def write_log(unit: UnitRecord, name: str, data: bytes) -> Path:
    folder = unit.folder / name
    folder.mkdir()
    log = folder / 'output.log'
    log.write_bytes(data)
    return log


@pytest.mark.parametrize(
    ('task', 'said', 'is_failure'),
    [
        (GOOD, '', False),
        (failed(7), 'exited with code 7', True),
        (TaskObservation('exited', signal=9), 'was killed by SIGKILL', True),
        (TaskObservation('exited', signal=200), 'was killed by signal 200', True),
        (
            TaskObservation('exited', signal=15, reason='timed out after 2.0 s'),
            'timed out after 2.0 s',
            True,
        ),
        (TaskObservation('exited', exit_code=0, reason='out of memory'), 'out of memory', True),
        (
            VANISHED,
            'ended, but nobody saw how (its processes are gone and left no exit code)',
            False,
        ),
        (TaskObservation('vanished', reason='the node is gone'), 'the node is gone', False),
    ],
)
def test_how_a_task_ended_is_told_in_words(task, said, is_failure):
    assert describe(task) == said
    assert has_failed(task) == is_failure


def test_a_unit_has_ended_when_all_its_tasks_have():
    assert not has_ended({'a': GOOD, 'b': RUNNING})
    assert has_ended({'a': GOOD, 'b': VANISHED, 'c': failed()})


def test_a_unit_whose_tasks_all_succeeded_has_completed(unit):
    outcome = judge(unit, {'a': GOOD, 'b': GOOD})
    assert (outcome.state, outcome.message) == ('completed', '')
    assert outcome.task_messages == {'a': '', 'b': ''}


def test_a_unit_of_which_one_task_failed_has_failed(unit):
    outcome = judge(unit, {'a': GOOD, 'b': failed(3), 'c': VANISHED})
    assert (outcome.state, outcome.message) == ('failed', 'job b exited with code 3')
    assert outcome.task_messages['b'] == 'exited with code 3'
    assert outcome.task_messages['c'].startswith('ended, but nobody saw how')


def test_a_unit_of_which_one_task_vanished_is_lost(unit):
    outcome = judge(unit, {'a': GOOD, 'b': VANISHED})
    assert outcome.state == 'lost'
    assert outcome.message.startswith('job b ended, but nobody saw how')


def test_of_several_failed_tasks_the_first_to_fail_is_named(unit):
    killed = TaskObservation('exited', signal=15, ended_at=6.0)
    outcome = judge(unit, {'a': killed, 'b': failed(2, ended_at=5.0), 'c': failed(4, ended_at=7.0)})
    assert outcome.message == 'job b exited with code 2'


def test_the_last_line_of_the_job_at_fault_is_told(unit):
    write_log(unit, 'a', b'fine\n')
    write_log(unit, 'b', b'Traceback\nValueError: no luck\n\n  \n')
    outcome = judge(unit, {'a': GOOD, 'b': failed()})
    assert outcome.message == 'job b exited with code 1: ValueError: no luck'


def test_a_task_that_the_unit_does_not_know_is_blamed_without_its_log(unit):
    assert judge(unit, {'other': failed()}).message == 'job other exited with code 1'


@pytest.mark.parametrize(
    ('data', 'line'),
    [
        (b'', ''),
        (b'\n \n\t\n', ''),
        (b'one\ntwo', 'two'),
        (b'  indented  \n', 'indented'),
        (b'10%\r50%\r100%\n', '100%'),
        (b'caf\xe9\n', 'caf�'),
        (b'x' * 10_000 + b'\nlast\n', 'last'),
        (b'x' * 301, 'x' * 300 + '…'),
        (b'last\n' + b'\n' * 5000, ''),
    ],
)
def test_the_last_line_is_the_last_that_says_something(unit, data, line):
    assert last_line(write_log(unit, 'a', data)) == line


def test_a_log_that_is_not_there_or_can_not_be_read_has_no_last_line(tmp_path):
    assert last_line(tmp_path / 'nothing') == ''
    assert last_line(tmp_path) == ''
