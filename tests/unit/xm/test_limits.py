"""Retries and limits of a job: what may be written, what it becomes, and what is said of a mistake."""

import json
import math
import signal
from datetime import timedelta
from typing import Any

import attrs
import pytest

from xmanager.errors import ExecutorError
from xmanager.supervise import retries
from xmanager.xm import limits
from xmanager.xm_local import Kubernetes, Local, Vertex

EXECUTORS = [Local, Vertex, Kubernetes]
LEFT_OUT = {
    'max_restarts': 0,
    'restart_on': None,
    'backoff': None,
    'timeout': None,
    'grace': None,
    'warn_before': None,
    'warn_signal': 'SIGUSR1',
}


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return request.param


def test_what_was_left_out_is_none(executor):
    assert LEFT_OUT.items() <= executor().options().items()


def test_options_are_json_values_with_durations_in_seconds(executor):
    options = executor(
        max_restarts=3,
        restart_on=(75, 'SIGSEGV', 'preempted', 'lost'),
        backoff=timedelta(minutes=1),
        timeout=timedelta(hours=4),
        warn_before=120,
        warn_signal='SIGUSR2',
        grace=5,
    ).options()
    options.pop('stream_output', None)
    assert options == {
        'max_restarts': 3,
        'restart_on': [75, 'SIGSEGV', 'lost', 'preempted'],
        'backoff': 60.0,
        'timeout': 14400.0,
        'grace': 5.0,
        'warn_before': 120.0,
        'warn_signal': 'SIGUSR2',
    }
    assert json.loads(json.dumps(options)) == options


def test_limits_are_given_by_name_only(executor):
    fields = {field.name: field for field in attrs.fields(executor)}
    assert all(fields[name].kw_only for name in LEFT_OUT if name not in ('timeout', 'grace'))
    assert fields['timeout'].kw_only == fields['grace'].kw_only == (executor is not Local)


@pytest.mark.parametrize(
    ('given', 'kept'),
    [
        (75, (75,)),
        ('lost', ('lost',)),
        (signal.SIGSEGV, ('SIGSEGV',)),
        ('SIGIOT', ('SIGABRT',)),
        ({'lost', 2, 1, signal.SIGKILL}, (1, 2, 'SIGKILL', 'lost')),
        ([10, 9, 100, 9], (9, 10, 100)),
        (iter(['failure', 'failure']), ('failure',)),
        (range(1, 4), (1, 2, 3)),
        (('timeout', 255), (255, 'timeout')),
    ],
)
def test_any_way_to_write_the_ends_that_count_is_brought_into_one(given, kept):
    assert Local(max_restarts=1, timeout=9, restart_on=given).restart_on == kept


def test_a_signal_may_be_given_as_such():
    assert Local(timeout=9, warn_before=1, warn_signal=signal.SIGINT).warn_signal == 'SIGINT'


@pytest.mark.parametrize('name', ['backoff', 'timeout', 'grace', 'warn_before'])
@pytest.mark.parametrize(
    ('value', 'error'),
    [
        (-1, ExecutorError),
        (timedelta(seconds=-1), ExecutorError),
        (math.nan, ExecutorError),
        (math.inf, ExecutorError),
        (10**400, ExecutorError),
        (True, TypeError),
        ('5', TypeError),
        ([5], TypeError),
    ],
)
def test_what_is_no_duration_is_refused_by_name(executor, name, value, error):
    with pytest.raises(error) as raised:
        executor(**{name: value})
    assert f'{executor.__name__}({name}={value!r}): expected ' in str(raised.value)
    assert 'seconds' in str(raised.value)


@pytest.mark.parametrize('name', ['timeout', 'warn_before'])
def test_a_timeout_or_a_warning_of_no_time_is_refused(executor, name):
    with pytest.raises(ExecutorError, match=rf'\({name}=0\): expected a positive'):
        executor(**{name: 0})


def test_no_wait_and_no_grace_at_all_are_allowed():
    assert Local(grace=0, backoff=0).options().items() >= {'grace': 0.0, 'backoff': 0.0}.items()


def test_a_wait_that_would_be_cut_short_is_refused():
    assert Local(backoff=timedelta(hours=1)).options()['backoff'] == retries.LONGEST_DELAY
    with pytest.raises(ExecutorError, match=r'backoff=3601\).*at most 3600 seconds'):
        Local(backoff=3601)


@pytest.mark.parametrize(
    ('value', 'error', 'said'),
    [
        (-1, ExecutorError, r'Local\(max_restarts=-1\): expected 0 \(no restarts\) or more'),
        (2.5, TypeError, r'Local\(max_restarts=2\.5\): expected a whole number'),
        (True, TypeError, 'expected a whole number'),
        ('3', TypeError, "max_restarts='3'"),
        (None, TypeError, 'max_restarts=None'),
        (math.nan, TypeError, 'max_restarts=nan'),
    ],
)
def test_a_number_of_restarts_that_is_none_is_refused(value, error, said):
    with pytest.raises(error, match=said):
        Local(max_restarts=value)


@pytest.mark.parametrize(
    ('value', 'error', 'said'),
    [
        (0, ExecutorError, r'Local\(restart_on=\(0,\)\): 0 is success'),
        (256, ExecutorError, '256 is no exit code'),
        (-9, ExecutorError, '-9 is no exit code'),
        ((75, 'SIGFOO'), ExecutorError, "'SIGFOO' is no signal that ends a job"),
        (signal.SIGCHLD, ExecutorError, "'SIGCHLD' is no signal that ends a job"),
        ('sigkill', ExecutorError, "'sigkill' is not one of the words"),
        ('faliure', ExecutorError, "'faliure' is not one of the words"),
        ('', ExecutorError, "'' is not one of the words"),
        ((), ExecutorError, r'restart_on=\(\)\): no end of a job is named'),
        (True, TypeError, 'True is neither a whole number nor text'),
        ([75, None], TypeError, 'None is neither'),
        (7.5, TypeError, '7.5 is neither'),
        (b'75', TypeError, "b'75' is neither"),
        ([['lost']], TypeError, r"\['lost'\] is neither"),
    ],
)
def test_an_end_that_never_comes_is_refused(value, error, said):
    with pytest.raises(error, match=said) as raised:
        Local(max_restarts=1, restart_on=value)
    assert value == () or 'Expected exit codes from 1 to 255, signals' in str(raised.value)


@pytest.mark.parametrize('value', ['SIGKILL', 'SIGSTOP', signal.SIGSEGV, 'USR1', 10, None, []])
def test_a_warning_that_no_job_can_heed_is_refused(value):
    with pytest.raises(ExecutorError, match=r'warn_signal=.*Expected one of SIGALRM.*SIGUSR1'):
        Local(timeout=9, warn_before=1, warn_signal=value)


CONTRADICTIONS = [
    ({'restart_on': (75,)}, r'restart_on=\(75,\), max_restarts=0\): nothing would be restarted'),
    ({'restart_on': 'timeout', 'max_restarts': 1}, "'timeout' never happens .* Set timeout too"),
    ({'warn_before': 5}, r'warn_before=5\): without a timeout .* Set timeout too'),
    ({'warn_before': 5, 'timeout': 5}, r'timeout=5, warn_before=5\): .* shorter than timeout'),
    ({'warn_before': 6, 'timeout': timedelta(seconds=5)}, 'before the job begins'),
]


@pytest.mark.parametrize(('settings', 'said'), CONTRADICTIONS)
def test_settings_that_contradict_one_another_are_refused(executor, settings, said):
    with pytest.raises(ExecutorError, match=said) as raised:
        executor(**settings)
    assert str(raised.value).startswith(f'{executor.__name__}(')


@pytest.mark.parametrize(('settings', 'said'), CONTRADICTIONS)
def test_what_is_assigned_later_is_checked_when_it_is_used(settings, said):
    local = Local()
    for name, value in settings.items():
        setattr(local, name, value)
    with pytest.raises(ExecutorError, match=said):
        local.options()


def test_an_assigned_value_is_checked_and_normalised_at_once():
    local: Any = Local(max_restarts=2)
    local.restart_on = (9, 'lost', 8)
    assert local.restart_on == (8, 9, 'lost')
    with pytest.raises(ExecutorError, match='SIGFOO'):
        local.restart_on = ('SIGFOO',)


def test_an_executor_with_limits_can_be_copied():
    local = Local(max_restarts=2, restart_on={'lost', 3}, timeout=5, warn_before=1)
    assert attrs.evolve(local) == local
    assert attrs.evolve(local, max_restarts=3).restart_on == (3, 'lost')


def test_the_supervisor_waits_as_long_as_may_be_asked_for():
    assert limits.LONGEST_BACKOFF == retries.LONGEST_DELAY
