"""`python -m xmanager.supervise EXPERIMENT_ID`: the supervisor's process. Started by `xmanager.launch.wake`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

from xmanager.backends import load
from xmanager.errors import StoreError, XManagerError
from xmanager.store import Home, Store
from xmanager.store.presence import Lock, Presence
from xmanager.supervise.supervisor import Supervisor

_TRIES, _MOMENT = 5, 0.01
_RETRY = 5.0  # Seconds between two tries when the store can't be used.


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

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        for descriptor in (self._pipe, self._signals, self._signalled):
            os.close(descriptor)

    def wait(self, seconds: float) -> None:
        for descriptor, _ in self._poll.poll(max(0.0, seconds) * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 65536)


def supervise(store: Store, experiment_id: int) -> None:
    """Supervises the experiment until nothing is left to do; returns at once if somebody else does."""
    presence = Presence(store.home.experiment_folder(experiment_id))
    while lock := _become_supervisor(presence):
        alarm = Alarm(presence)
        supervisor = _supervise_patiently(store, experiment_id, alarm)
        alarm.close()
        supervisor.close()
        lock.release()
        # Whoever wrote before the release saw a supervisor and left the work to us: look once more.
        if not supervisor.has_work():
            return


def _become_supervisor(presence: Presence) -> Lock | None:
    """None if there is a supervisor. Somebody who only asks holds the lock too, for a moment."""
    for _ in range(_TRIES):
        if lock := presence.supervise():
            return lock
        time.sleep(_MOMENT)
    return None


def _supervise_patiently(store: Store, experiment_id: int, alarm: Alarm) -> Supervisor:
    """Supervises to the end; while the store can't be used the jobs run on, and all is looked at anew."""
    while True:
        supervisor = Supervisor(store, experiment_id, lambda name: load(name, os.environ))
        try:
            supervisor.adopt()
            for _ in _until_done(supervisor):
                alarm.wait(supervisor.patience())
            return supervisor
        except StoreError as error:
            if not store.home.experiment_folder(experiment_id).exists():
                raise  # The home was removed: nothing is left to supervise.
            supervisor.close()
            print(f'{error} Trying again.', file=sys.stderr, flush=True)
            alarm.wait(_RETRY)


def _until_done(supervisor: Supervisor) -> Iterator[None]:
    while True:
        while supervisor.step():
            pass
        if not supervisor.has_work():
            return
        yield


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
