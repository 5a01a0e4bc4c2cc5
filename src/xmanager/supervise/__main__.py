"""`python -m xmanager.supervise EXPERIMENT_ID`: the supervisor's process. Started by `xmanager.launch.wake`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from xmanager.backends import load
from xmanager.errors import FencedError, LedgerError, StoreError, XManagerError
from xmanager.store import Home, Store
from xmanager.store.presence import Lock, Presence
from xmanager.supervise.on_demand import OnDemand, is_needed
from xmanager.supervise.supervisor import Supervisor
from xmanager.supervise.tenure import Tenure

_TRIES, _MOMENT = 5, 0.01
_UNREST = (
    0.02  # Seconds for which one thing after the other may happen before what can wait is written.
)
_RETRY, _LONGEST_RETRY = (
    2.0,
    30.0,
)  # Seconds between two tries when the store or the ledger can't be used.


class Alarm:
    """Sleeps until the wake pipe, a child's death or the time is up."""

    def __init__(self, presence: Presence) -> None:
        self._pipe = presence.open_wake_pipe()
        self._signals, self._signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll = select.poll()
        for descriptor in (self._pipe, self._signals):
            self._poll.register(descriptor, select.POLLIN)
        self.was_called = False  # By somebody at the pipe, since this was last set.

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        for descriptor in (self._pipe, self._signals, self._signalled):
            os.close(descriptor)

    def wait(self, seconds: float) -> bool:
        """Returns whether anything has happened meanwhile."""
        ringing = self._poll.poll(max(0.0, seconds) * 1000)
        for descriptor, _ in ringing:
            self.was_called = self.was_called or descriptor == self._pipe
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 65536)
        return bool(ringing)


def supervise(store: Store, experiment_id: int) -> None:
    """Supervises the experiment until nothing is left to do; returns at once if somebody of this host does.

    Raises FencedError if somebody of another host has taken over, UsageError if it belongs to another machine.
    """
    presence = Presence(store.home.experiment_folder(experiment_id))
    while lock := _become_supervisor(presence):
        with contextlib.closing(Alarm(presence)) as alarm:
            needed = _supervise_patiently(store, experiment_id, alarm)
        lock.release()
        # Whoever wrote before the release saw a supervisor and left the work to us: look once more.
        if not needed():
            return


def _become_supervisor(presence: Presence) -> Lock | None:
    """None if there is a supervisor. Somebody who only asks holds the lock too, for a moment."""
    for _ in range(_TRIES):
        if lock := presence.supervise():
            return lock
        time.sleep(_MOMENT)
    return None


def _supervise_patiently(store: Store, experiment_id: int, alarm: Alarm) -> Callable[[], bool]:
    """Supervises to the end; while the store can't be used the jobs run on, and all is looked at anew.

    Returns what tells whether a supervisor is needed again.
    """
    pause, told = _RETRY, ''
    while True:
        try:
            tenure = Tenure.begin(store, experiment_id, alarm.wait)
            if tenure is None:
                return lambda: False
            return _supervise(store, experiment_id, alarm, tenure)
        except FencedError:
            raise
        except (StoreError, LedgerError) as error:
            if not store.home.experiment_folder(experiment_id).exists():
                raise  # The home was removed: nothing is left to supervise.
            if str(error) != told:
                told, pause = str(error), _RETRY
                now = time.strftime('%Y-%m-%d %H:%M:%S')
                sentence = str(error).rstrip('.')
                print(f'{now} {sentence}. Trying again.', file=sys.stderr, flush=True)
            alarm.wait(pause)
            pause = min(_LONGEST_RETRY, 1.5 * pause)


def _supervise(
    store: Store, experiment_id: int, alarm: Alarm, tenure: Tenure
) -> Callable[[], bool]:
    supervisor = Supervisor(
        store, experiment_id, lambda name: load(name, os.environ), lease=tenure.lease
    )
    presence = Presence(store.home.experiment_folder(experiment_id))
    on_demand = OnDemand(presence)
    try:
        supervisor.adopt()
        rested_at = time.monotonic()
        while True:
            while supervisor.step():
                tenure.keep()
            has_rung = alarm.wait(0)
            if has_rung and time.monotonic() < rested_at + _UNREST:
                continue
            supervisor.rest()
            rested_at = time.monotonic()
            if not supervisor.has_work():
                break
            if alarm.was_called:
                alarm.was_called = False
                on_demand.called()
            if on_demand.may_leave(supervisor.rests):
                supervisor.leave()
                tenure.end()
                return lambda: is_needed(store, experiment_id, presence)
            tenure.keep()
            if not has_rung:  # Else what has happened meanwhile is still to be looked at.
                alarm.wait(supervisor.patience())
        supervisor.leave()
        tenure.end()
        return supervisor.has_work
    finally:
        supervisor.close()


def main() -> None:
    # A hang-up or an interrupt at the launcher's terminal is no reason to leave the units alone.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    try:
        with contextlib.closing(Store.open(Home.locate())) as store:
            supervise(store, int(sys.argv[1]))
    except XManagerError as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
