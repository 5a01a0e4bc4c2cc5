"""Signals a process, or waits for it, without ever taking another of the same number for it."""

from __future__ import annotations

import os
import select
import signal

from xmanager.backends.local.processes import Process, read_process


def send(process: Process, signum: int) -> bool:
    """Signals exactly this process; False if it has ended. Raises PermissionError."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except OSError:  # a kernel before 5.3, or too many open files: as exact as can be without
        return _send_by_number(process, signum)
    try:
        current = read_process(process.pid)
        if current is None or current.start != process.start:
            return False
        signal.pidfd_send_signal(descriptor, signum)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)


def _send_by_number(process: Process, signum: int) -> bool:
    current = read_process(process.pid)
    if current is None or current.start != process.start:
        return False
    try:
        os.kill(process.pid, signum)
    except ProcessLookupError:
        return False
    return True


def send_group(group: int, signum: int) -> bool:
    """Signals a process group in one step, which no process can fork its way out of; False if it is empty."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user now: setuid programs, or none of ours
        return False
    return True


class Watch:
    """Tells cheaply which of some processes, not our children, have ended: one system call for all."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._descriptors: dict[int, int] = {}
        self._unwatched: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._descriptors) + len(self._unwatched)

    def add(self, pid: int, start: int) -> None:
        """Watches a process until `ended` names it."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            self._unwatched[pid] = start
            return
        self._descriptors[descriptor] = pid
        self._poll.register(descriptor, select.POLLIN)

    def close(self) -> None:
        """Watches nothing any more."""
        for descriptor in self._descriptors:
            self._poll.unregister(descriptor)
            os.close(descriptor)
        self._descriptors.clear()
        self._unwatched.clear()

    def ended(self) -> set[int]:
        """The numbers of those that have ended since the last call; they are watched no more."""
        found = set()
        for descriptor, _ in self._poll.poll(0) if self._descriptors else ():
            found.add(self._descriptors.pop(descriptor))
            self._poll.unregister(descriptor)
            os.close(descriptor)
        for pid, start in list(self._unwatched.items()):
            current = read_process(pid)
            if current is None or current.start != start:
                found.add(pid)
                del self._unwatched[pid]
        return found
