"""Whether an end is followed by a restart, and when."""

import pytest

from xmanager.backend import TaskObservation
from xmanager.supervise.retries import Retry, decide

GOOD = TaskObservation('exited', exit_code=0)
SEGFAULT = TaskObservation('exited', signal=11)
OUT_OF_MEMORY = TaskObservation('exited', exit_code=0, reason='out of memory')
LOST = TaskObservation('vanished')
TIMEOUT = TaskObservation('exited', signal=15, reason='timed out after 9.0 s', cause='timeout')
SAVED_AT_TIMEOUT = TaskObservation('exited', exit_code=75, reason='timed out', cause='timeout')
QUIET_TIMEOUT = TaskObservation('exited', exit_code=0, reason='timed out', cause='timeout')
PREEMPTED = TaskObservation('exited', signal=15, reason='preempted', cause='preempted')
NODE_TAKEN = TaskObservation('vanished', reason='its node was taken', cause='preempted')


def exited(code: int) -> TaskObservation:
    return TaskObservation('exited', exit_code=code)


@pytest.mark.parametrize(
    ('restart_on', 'end', 'is_restarted'),
    [
        # Unless stated, all but success and a timeout.
        (None, GOOD, False),
        (None, TaskObservation('running'), False),
        (None, exited(1), True),
        (None, SEGFAULT, True),
        (None, OUT_OF_MEMORY, True),
        (None, LOST, True),
        (None, PREEMPTED, True),
        (None, NODE_TAKEN, True),
        (None, TIMEOUT, False),
        (None, QUIET_TIMEOUT, False),
        # Words name one kind of end each.
        (['failure'], exited(1), True),
        (['failure'], SEGFAULT, True),
        (['failure'], LOST, False),
        (['failure'], PREEMPTED, False),
        (['failure'], TIMEOUT, False),
        (['failure'], TaskObservation('exited', signal=9, reason='oom', cause='oom'), True),
        (['timeout'], TIMEOUT, True),
        (['timeout'], QUIET_TIMEOUT, True),
        (['timeout'], exited(1), False),
        (['preempted'], PREEMPTED, True),
        (['preempted'], NODE_TAKEN, True),
        (['preempted'], SEGFAULT, False),
        (['lost'], LOST, True),
        (['lost'], NODE_TAKEN, False),
        (['lost'], exited(1), False),
        # Codes and signals, however an engine tells of a signal.
        ([75], exited(75), True),
        ([75], exited(76), False),
        ([75], SAVED_AT_TIMEOUT, True),
        ([139], SEGFAULT, True),
        ([139], exited(139), True),
        (['SIGSEGV'], SEGFAULT, True),
        (['SIGSEGV'], exited(139), True),
        (['SIGSEGV'], exited(11), False),
        (['SIGSEGV'], TaskObservation('exited', signal=9), False),
        ([168], TaskObservation('exited', signal=40), True),
        ([200], exited(200), True),
        (['SIGTERM'], PREEMPTED, True),
        # The signal that ends a job at its timeout is ours.
        (['SIGTERM'], TIMEOUT, False),
        ([143], TIMEOUT, False),
        ([75, 'SIGSEGV', 'lost'], LOST, True),
    ],
)
def test_only_the_ends_that_were_named_are_followed_by_a_restart(restart_on, end, is_restarted):
    options = {'max_restarts': 1, 'restart_on': restart_on}
    assert (decide(options, end, 0) is not None) == is_restarted


@pytest.mark.parametrize('options', [{}, {'max_restarts': 0}, {'max_restarts': None}])
def test_nothing_is_restarted_unless_it_was_asked_for(options):
    assert decide(options, exited(1), 0) is None


@pytest.mark.parametrize(
    ('restarts', 'is_restarted'), [(0, True), (1, True), (2, False), (3, False)]
)
def test_a_task_is_restarted_no_more_often_than_it_may(restarts, is_restarted):
    assert (decide({'max_restarts': 2}, exited(1), restarts) is not None) == is_restarted


@pytest.mark.parametrize(
    ('backoff', 'restarts', 'delay'),
    [
        (None, 0, 1.0),
        (None, 1, 2.0),
        (None, 5, 32.0),
        (10.0, 0, 10.0),
        (10.0, 1, 20.0),
        (10.0, 3, 80.0),
        (10.0, 9, 3600.0),
        (10, 9_000, 3600.0),
        (0.25, 1, 0.5),
        (0, 7, 0.0),
        (3600.0, 0, 3600.0),
    ],
)
def test_the_wait_doubles_up_to_an_hour(backoff, restarts, delay):
    retry = decide({'max_restarts': 10_000, 'backoff': backoff}, exited(1), restarts)
    assert retry is not None
    assert retry.delay == delay


@pytest.mark.parametrize(
    ('backoff', 'restarts', 'why'),
    [
        (10.0, 0, 'restart 1 of 3 in 10 s'),
        (10.0, 2, 'restart 3 of 3 in 40 s'),
        (0.5, 0, 'restart 1 of 3 in 0.5 s'),
        (3600.0, 1, 'restart 2 of 3 in 3600 s'),
        (0.0, 1, 'restart 2 of 3 at once'),
    ],
)
def test_a_restart_is_told_in_words(backoff, restarts, why):
    retry = decide({'max_restarts': 3, 'backoff': backoff}, exited(1), restarts)
    assert retry == Retry(retry.delay if retry else 0.0, why)
