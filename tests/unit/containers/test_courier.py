"""Signals reach a container though its engine fails or hangs meanwhile, and are dropped only once it has ended."""

import signal
import time
from typing import Any

import pytest

from xmanager.containers import courier as courier_module
from xmanager.containers.courier import Courier
from xmanager.containers.remote import NoAnswer, Refused
from xmanager.containers.signals import AGAIN, KILL


class Remote:
    """Answers each request with the next of `answers`, and then well."""

    def __init__(self, *answers):
        self.answers, self.sent, self.meanwhile = list(answers), [], None

    def inspect(self, name, timeout=None):
        return None

    def call(self, method, path, query=None, body=None, timeout=None):
        assert timeout
        self.sent.append(query['signal'])
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        if self.answers:
            raise self.answers.pop(0)


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(courier_module, '_RETRY', 0.01)
    before = signal.getsignal(AGAIN)

    def make(*answers):
        remote: Any = Remote(*answers)
        courier = Courier(remote, 'name')
        signal.signal(AGAIN, courier.take)
        return courier, remote

    yield make
    signal.signal(AGAIN, before)


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize('failure', [Refused(500, 'trouble'), NoAnswer('broke off')])
def test_a_signal_that_the_engine_did_not_take_is_sent_again(made, failure):
    courier, remote = made(failure, failure)
    courier.deliver()
    courier.take(signal.SIGTERM)
    wait_until(lambda: len(remote.sent) == 3)
    assert remote.sent == ['SIGTERM'] * 3


@pytest.mark.parametrize('status', [404, 409])
def test_a_signal_for_a_container_that_has_ended_is_dropped(made, status):
    courier, remote = made(Refused(status, 'it has ended'))
    courier.deliver()
    courier.take(signal.SIGTERM)
    courier.deliver()
    assert remote.sent == ['SIGTERM']


def test_a_signal_that_comes_while_another_is_sent_waits_for_its_turn(made):
    courier, remote = made()
    courier.deliver()
    remote.meanwhile = lambda: (courier.take(KILL), remote.sent.append('returned'))
    courier.take(signal.SIGTERM)
    assert remote.sent == ['SIGTERM', 'returned', 'SIGKILL']


def test_signals_before_the_container_runs_are_kept(made):
    courier, remote = made()
    courier.take(signal.SIGUSR1)
    assert courier.called_off == 0
    courier.take(signal.SIGTERM)
    assert courier.called_off == signal.SIGTERM
    assert remote.sent == []
    courier.deliver()
    assert remote.sent == ['SIGUSR1', 'SIGTERM']
