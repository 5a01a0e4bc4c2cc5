"""Signals on their way to a container: kept until it runs and its engine answers, and handed on one after the other."""

from __future__ import annotations

import signal
import time

from xmanager.containers.host import can_be_signalled
from xmanager.containers.remote import NoAnswer, Refused, Remote
from xmanager.containers.signals import AGAIN, KILL

_FATAL = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL}
_REPEAT = 1.0  # A signal is not handed on twice within this time: a group and a process may both be sent it.
_BIRTH = 1.0
_TIMEOUT = 10.0  # For each wait for an engine that hangs.
_RETRY = 1.0


class Courier:
    """Hands signals on to the container of that name. `take` is the handler of all that a keeper handles."""

    def __init__(self, remote: Remote, name: str) -> None:
        self._remote = remote
        self._name = name
        self._asked: list[signal.Signals] = []  # Not handed on yet.
        self._taken: dict[int, float] = {}
        self._started_at: float | None = None
        self._is_busy = False

    @property
    def called_off(self) -> int:
        """The signal by which the container was told to end before it began; 0 if there is none."""
        return next((wanted for wanted in self._asked if wanted in _FATAL), 0)

    def take(self, signum: int, frame: object = None) -> None:
        """Handles a signal: hands it on, or keeps it until the container runs and the engine answers."""
        if signum != AGAIN:
            wanted = signal.SIGKILL if signum == KILL else signal.Signals(signum)
            now = time.monotonic()
            if now - self._taken.get(wanted, -_REPEAT) < _REPEAT:
                return
            self._taken[wanted] = now
            if wanted not in self._asked:
                self._asked.append(wanted)
        if self._started_at is not None:
            self._hand_on()

    def deliver(self) -> None:
        """To be told that the container runs: it gets what was asked for and not sent yet."""
        if self._started_at is None:
            self._started_at = time.monotonic()
        self._hand_on()

    def _hand_on(self) -> None:
        # This runs in the handler too, also while it runs already: what comes then only joins the row.
        while self._asked and not self._is_busy:
            self._is_busy = True
            try:
                was_sent = self._send_first()
            finally:
                self._is_busy = False
            if not was_sent:
                self._come_back()
                return

    def _send_first(self) -> bool:
        """Sends one signal. False if the engine did not take it, and has to be asked again."""
        wanted = signal.SIGKILL if signal.SIGKILL in self._asked else self._asked[0]
        try:
            if wanted != signal.SIGKILL:
                self._wait_for_birth(wanted)
            path = f'/containers/{self._name}/kill'
            self._remote.call('POST', path, {'signal': wanted.name}, timeout=_TIMEOUT)
        except NoAnswer:
            return False
        except Refused as error:
            if error.status not in (404, 409):  # With these it says that the container has ended.
                return False
        self._asked.remove(wanted)
        return True

    def _come_back(self) -> None:
        """Has this process signalled a little later, for it may be waiting for the container's output until then."""
        import threading

        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(_RETRY, signal.pthread_kill, (main, AGAIN))
        timer.daemon = True
        timer.start()

    def _wait_for_birth(self, wanted: signal.Signals) -> None:
        """Waits until the first process of the container can be signalled: before that a signal is lost on it.

        Linux drops what is sent to process 1 of a namespace unless it has said what it does with it.
        """
        born = self._started_at or 0.0
        if time.monotonic() - born > _BIRTH:
            return
        found = self._remote.inspect(self._name, timeout=_TIMEOUT)
        pid = found['State'].get('Pid') if found else 0
        while pid and time.monotonic() - born < _BIRTH:
            if can_be_signalled(pid, wanted):
                return
            time.sleep(0.005)
