"""Points at which a test may have this process killed, to see what its successor makes of it; else they do nothing.

    XM_FAULTS='commit.after:17'      SIGKILL at the 17th passing of that point, counted for each process
    XM_FAULTS='any:40 commit.before:3'   the first process to obey dies at its 40th passing of any point, the next …
    XM_FAULTS_LOG=/path/of/a/file    a line for each death; as many of the faults as it has lines are over
    XM_FAULTS_IN=launcher            launchers and commands obey; unless that is set, supervisors do

Without a log each process obeys the first of the faults.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

POINTS = frozenset(
    {
        'adopt',  # A supervisor has found what an earlier one left, and recorded nothing yet.
        'commit.before',  # A transaction that writes is complete, but not committed.
        'commit.after',
        'ledger.before',  # The entry of a supervisor is written beside the one that it replaces.
        'ledger.after',
        'slurm.submit.before',  # Of each batch: nothing of it is written yet.
        'slurm.submit.after',  # sbatch has made a job or refused to, and nobody wrote down which.
        'spawn.before',  # Of each task: the folder is made, the process is not started.
        'spawn.after',  # The process is started, and nobody knows its number.
        'stop.sent',
    }
)
_ANY = 'any'


class Fault:
    """Kills this process at one passing."""

    def __init__(self, point: str, passing: int, log: str) -> None:
        self._point = point
        self._passing = passing
        self._log = log
        self._passed: Counter[str] = Counter()

    def pass_by(self, point: str) -> None:
        assert point in POINTS, point
        self._passed[point] += 1
        self._passed[_ANY] += 1
        if self._passed[self._point] == self._passing and self._point in (point, _ANY):
            self._strike(point)

    def _strike(self, point: str) -> None:
        if self._log:
            with open(self._log, 'a') as log:
                log.write(f'{os.getpid()} {self._point}:{self._passing} {point}\n')
        os.kill(os.getpid(), signal.SIGKILL)


def armed(environ: Mapping[str, str], command_line: Sequence[str]) -> Fault | None:
    """The fault that a process of this environment and command line obeys, if any. Raises ValueError."""
    faults = environ.get('XM_FAULTS', '').split()
    is_supervisor = 'xmanager.supervise' in command_line
    if not faults or is_supervisor == (environ.get('XM_FAULTS_IN') == 'launcher'):
        return None
    log = environ.get('XM_FAULTS_LOG', '')
    over = _lines(log) if log else 0
    if over >= len(faults):
        return None
    point, _, passing = faults[over].partition(':')
    if point not in POINTS | {_ANY} or not passing.isdecimal():
        known = ', '.join(sorted(POINTS))
        raise ValueError(
            f'XM_FAULTS: {faults[over]!r} is no fault; expected POINT:NUMBER with one of any, {known}.'
        )
    return Fault(point, int(passing), log)


def _lines(path: str) -> int:
    try:
        with open(path, 'rb') as file:
            return file.read().count(b'\n')
    except FileNotFoundError:
        return 0


_FAULT = armed(os.environ, sys.orig_argv) if 'XM_FAULTS' in os.environ else None


def pass_by(point: str) -> None:
    """Says that this process is at a point where it might die as well as anywhere."""
    if _FAULT is not None:
        _FAULT.pass_by(point)
