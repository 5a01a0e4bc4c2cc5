"""Runs several calls at a time, in threads that never keep the process from ending."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from queue import SimpleQueue
    from threading import Thread

R = TypeVar('R')

_FEWEST: Final = 8  # Threads: most of them wait for a disk, an engine or a network.
_PATIENCE: Final = 1.0

_Call = tuple[int, Callable[[], R]]
_Done = tuple[int, R | None, BaseException | None]


def call_all(calls: Sequence[Callable[[], R]], patience: float = _PATIENCE) -> list[R]:
    """What each of them returns, in their order.

    The first to raise wins: none is begun after it, and those at work have `patience` seconds to end in. Ctrl-C is
    raised at once. What is at work even then goes on unseen, until it ends or the process does.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    import queue
    import threading

    waiting = deque(enumerate(calls))
    done: queue.SimpleQueue[_Done[R]] = queue.SimpleQueue()
    count = min(len(calls), max(_FEWEST, os.cpu_count() or 1))
    threads = [
        threading.Thread(target=_work, args=(waiting, done), daemon=True) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    results: list[R | None] = [None] * len(calls)
    try:
        for _ in calls:
            index, result, error = done.get()
            results[index] = result
            if error is not None:
                waiting.clear()
                _join(threads, patience)
                raise error
    finally:
        waiting.clear()
    return results  # type: ignore[return-value]  # Each has come.


def _work(waiting: deque[_Call[R]], done: SimpleQueue[_Done[R]]) -> None:
    while True:
        try:
            index, call = waiting.popleft()
        except IndexError:
            return
        try:
            done.put((index, call(), None))
        except BaseException as error:  # It is raised where it is waited for.
            done.put((index, None, error))


def _join(threads: Sequence[Thread], patience: float) -> None:
    import time

    latest = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, latest - time.monotonic()))
