"""When a task's timeout or the warning before it is due, and what a successor must know of both."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterable
from pathlib import Path

from xmanager.backends.local.processes import read_process
from xmanager.backends.local.runs import Run
from xmanager.backends.local.signals import send_group

_DEFAULT_SIGNAL = 'SIGUSR1'
_SHORTEST_PATIENCE = 0.01


def patience(runs: Iterable[Run], now: float) -> float:
    """Seconds until the first of these tasks is to be warned or ended; infinity if none is. `now`: since boot."""
    due = min((_next_limit(run) for run in runs), default=math.inf)
    return max(due - now, _SHORTEST_PATIENCE)


def is_due_for_warning(run: Run, now: float) -> bool:
    """Whether a task has less time left than `warn_before`, and was not warned by this process."""
    return run.warn_before is not None and not run.warned and now >= _next_limit(run)


def warn(run: Run) -> None:
    """Sends the warning to the task's process group, unless an earlier supervisor did so in this attempt."""
    run.warned = True
    if _marker(run, 'warned').exists():
        return
    runner = read_process(run.pid)
    if runner is None or runner.start != run.start:
        return  # It has just ended.
    # The runner is in the group too: it survives the signals that Limits.warn_signal admits.
    send_group(run.pid, _warning(run))
    # Left after the signal: whoever dies in between has warned, and its successor warns once more.
    _leave(_marker(run, 'warned'))


def time_out(run: Run) -> None:
    """Notes that a task is to be ended because its time is up; sends nothing."""
    run.reason, run.cause = f'timed out after {run.timeout} s', 'timeout'
    _leave(_marker(run, 'timed_out'))


def explain_end(run: Run) -> None:
    """Notes of a task that has ended what its exit code does not tell: that its time was up, or a warning killed it."""
    if run.timeout is None or run.cause or run.end is None:
        return
    if _marker(run, 'timed_out').exists():
        time_out(run)
    elif run.end.signal == _warning(run) and _marker(run, 'warned').exists():
        name = signal.Signals(_warning(run)).name
        when = f'{run.warn_before} s before its timeout'
        run.reason = f'was killed by {name}, our warning {when}, which it must handle'


def _warning(run: Run) -> signal.Signals:
    return signal.Signals[run.task.options.get('warn_signal') or _DEFAULT_SIGNAL]


def _marker(run: Run, what: str) -> Path:
    return run.unit.task_folder(run.task) / f'{what}.{run.unit.attempt}'


def _leave(marker: Path) -> None:
    # Where the folder was removed or the disk is full, only this process knows; the job is ended in time all the same.
    with contextlib.suppress(OSError):
        marker.touch()


def _next_limit(run: Run) -> float:
    """When a running task is to be warned, or ended once it was warned; seconds since boot, infinity for never."""
    if run.timeout is None or run.end is not None or run.kill_at is not None:
        return math.inf
    left = 0.0 if run.warned or run.warn_before is None else run.warn_before
    return run.began_at + run.timeout - left
