import os
import sys

import pytest
from tests.acceptance.polling import until

from xmanager.supervise import notices as subject
from xmanager.supervise.notices import Notices

NOTIFY = [sys.executable, '-P', '-m', 'xmanager', 'notify']


class FakeProcess:
    """Ends when it is told to."""

    pid = 0

    def __init__(self):
        self.code = None

    def poll(self):
        return self.code

    def wait(self, timeout=None):
        assert self.code is not None
        return self.code


class Host:
    """Starts fake processes at a time that stands still."""

    def __init__(self):
        self.now = 0.0
        self.started = []
        self.log = []
        self.refusal = None
        self.notices = self.of({'XM_NOTIFY': 'true', 'PATH': '/bin'})

    def of(self, environ):
        return Notices(environ, 12, self.log.append, spawn=self.spawn, clock=lambda: self.now)

    def spawn(self, argv, environ, errors):
        if self.refusal:
            raise self.refusal
        assert argv[: len(NOTIFY)] == NOTIFY
        assert environ['XM_NOTIFY'] == 'true'
        process = FakeProcess()
        self.started.append((argv[len(NOTIFY) :], process, errors))
        return process

    @property
    def asked(self):
        return [' '.join(words) for words, _, _ in self.started]

    def end(self, code=0, said=b''):
        """Ends the process that runs and lets the notices see it."""
        _, process, errors = self.started[-1]
        errors.write(said)
        process.code = code
        self.notices.poll()


@pytest.fixture
def host():
    host = Host()
    yield host
    while host.notices.pending:
        host.notices.poll()
        for _, process, _ in host.started:
            process.code = process.code or 0


def test_without_anybody_to_tell_nothing_is_ever_pending(host):
    for environ in ({}, {'XM_NOTIFY': ' '}):
        notices = host.of(environ)
        notices.unit_failed('3')
        notices.experiment_ended()
        assert not notices.pending
        notices.poll()
    assert host.started == []


def test_what_gathers_while_one_process_delivers_is_told_by_the_next(host):
    host.notices.unit_failed('1')
    assert host.started == []
    host.notices.poll()
    host.notices.unit_failed('2')
    host.notices.unit_failed('a1')
    host.notices.unit_failed('2')
    host.notices.poll()
    assert host.asked == ['12.1 --event unit-failed']
    host.end()
    assert host.asked[1:] == ['12.2 12.a1 --event unit-failed']
    assert host.notices.pending
    host.end()
    assert not host.notices.pending
    assert host.log == []


def test_a_process_is_given_a_few_notices_so_that_none_runs_out_of_its_time(host):
    for label in range(1, 8):
        host.notices.unit_failed(str(label))
    host.notices.poll()
    host.end()
    assert host.asked == [
        '12.1 12.2 12.3 12.4 12.5 --event unit-failed',
        '12.6 12.7 --event unit-failed',
    ]


def test_the_end_of_the_experiment_is_told_once_and_last(host):
    host.notices.experiment_ended()
    host.notices.experiment_ended()
    host.notices.unit_failed('1')
    host.notices.poll()
    host.end()
    host.end()
    assert host.asked == ['12.1 --event unit-failed', '12 --event experiment-ended']
    assert not host.notices.pending
    # One that was restarted ends again.
    host.notices.experiment_ended()
    host.notices.poll()
    assert host.asked[2:] == ['12 --event experiment-ended']


def test_what_could_not_be_delivered_is_logged_in_a_line(host):
    host.notices.unit_failed('1')
    host.notices.poll()
    host.end(1, b'curl: no\x1b[2J such host\nxmanager: unit-failed of 12.1: command exited\n')
    host.notices.unit_failed('2')
    host.notices.poll()
    host.end(-9)
    host.notices.unit_failed('3')
    host.notices.poll()
    host.end(1, b'x' * 100_000)
    first, second, third = host.log
    assert first == (
        'notice not delivered: curl: no [2J such host; unit-failed of 12.1: command exited'
    )
    assert second == 'notice not delivered: unit-failed of 12.2 (exit code -9)'
    assert len(third) < 600
    assert not host.notices.pending


def test_a_process_that_cannot_be_started_is_logged_and_the_rest_goes_on(host):
    host.refusal = OSError(11, 'Resource temporarily unavailable')
    host.notices.unit_failed('1')
    host.notices.experiment_ended()
    host.notices.poll()
    assert not host.notices.pending
    assert [line.partition(': [')[0] for line in host.log] == [
        'notice not delivered: unit-failed of 12.1',
        'notice not delivered: experiment-ended of 12',
    ]


def test_failures_that_have_waited_too_long_are_dropped_but_the_end_is_told(host):
    host.notices.unit_failed('1')
    host.notices.poll()
    host.notices.unit_failed('2')
    host.now = 200.0
    host.notices.unit_failed('3')
    host.notices.experiment_ended()
    host.now = 301.0
    host.end()
    assert host.log == ['notices not delivered, for XM_NOTIFY takes too long: 1 failed units']
    host.end()
    assert host.asked[1:] == ['12.3 --event unit-failed', '12 --event experiment-ended']


@pytest.fixture
def real():
    """`real(line of shell)`: notices whose processes run that instead, at a time that can be set."""
    made = []

    def make(shell):
        def spawn(argv, environ, errors):
            return subject.spawn(['/bin/sh', '-c', shell, 'sh', *argv], environ, errors)

        log: list[str] = []
        now = [0.0]
        environ = {'XM_NOTIFY': 'true', 'PATH': os.environ['PATH']}
        notices = Notices(environ, 12, log.append, spawn=spawn, clock=lambda: now[0])
        made.append(notices)
        notices.unit_failed('1')
        notices.poll()
        return notices, log, now

    yield make
    for notices in made:
        notices.close()


def settled(notices):
    notices.poll()
    return not notices.pending


def test_a_real_process_is_reaped_without_waiting_and_what_it_prints_is_kept_from_our_log(
    real, capfd
):
    notices, log, _ = real('echo out; echo err >&2; read nothing; exit $?')
    until(lambda: settled(notices))
    assert log == ['notice not delivered: err']  # Its input was empty.
    assert capfd.readouterr() == ('', '')


def test_a_process_that_takes_too_long_is_ended_and_logged(real, tmp_path):
    ready = tmp_path / 'ready'
    notices, log, now = real(f'trap "" TERM; touch {ready}; while :; do sleep 0.02; done')
    until(ready.exists)
    now[0] = 59.0
    notices.poll()
    assert log == []
    now[0] = 61.0
    notices.poll()  # Asked to end, which it ignores.
    assert notices.pending
    now[0] = 67.0
    until(lambda: settled(notices))
    assert log == ['notice not delivered within 60 s: unit-failed of 12.1']


def test_closing_ends_the_process_and_says_what_was_lost(real):
    notices, log, _ = real('exec sleep 600')
    notices.experiment_ended()
    notices.close()
    assert not notices.pending
    assert log == ['notice not delivered, for the supervisor ends: unit-failed of 12.1']
    notices.close()


def test_a_process_is_not_of_our_group_and_holds_none_of_our_files(real, tmp_path):
    shown = tmp_path / 'shown'
    with (tmp_path / 'lock').open('w') as lock:
        os.set_inheritable(lock.fileno(), True)
        notices, log, _ = real(
            f'ls -l /proc/$$/fd >{shown}.new; cut -d" " -f5 /proc/$$/stat >>{shown}.new; '
            f'echo $$ >>{shown}.new; mv {shown}.new {shown}'
        )
        until(lambda: settled(notices))
    *files, group, leader = shown.read_text().splitlines()
    assert not [line for line in files if 'lock' in line]
    assert group == leader != str(os.getpgid(0))
    assert log == []
