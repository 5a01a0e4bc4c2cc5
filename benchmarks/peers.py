"""What the queue is measured beside, each installed once under `.bench/`: how long so many `/bin/true` take there.

Every function returns seconds, and raises unless each of its units has run and ended with code 0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.launch import ROOT, launch, original, timed

CPUS = len(os.sched_getaffinity(0))
SUBMITIT = 'submitit==1.5.4'

FLOOR = r"""
set -e
seq "$1" | xargs mkdir
seq "$1" | xargs -P "$2" -n 1 sh -c '/bin/true >"$0/log" 2>&1; echo $? >"$0/exit"'
"""
SPOOL = r"""
set -e
i=0
while [ $i -lt "$1" ]; do tsp -n /bin/true; i=$((i + 1)); done >ids
for id in $(tail -n "$2" ids); do tsp -w "$id"; done
"""
SUBMIT = """
import sys
import submitit
executor = submitit.LocalExecutor('logs')
executor.update_parameters(timeout_min=5)
true = submitit.helpers.CommandFunction(['/bin/true'])
for job in [executor.submit(true) for _ in range(int(sys.argv[1]))]:
    job.result()
"""


class AbsentError(Exception):
    """A peer that can't be had on this machine; the message says why."""


class Peer(NamedTuple):
    """Somebody to measure: `run(units, folder)` in an empty folder; `remark` says what to know of the number."""

    name: str
    units: int
    run: Callable[[int, Path], float]
    remark: str = ''


def floor(units: int, folder: Path) -> float:
    """The least that keeps what we keep: a folder, a log and an exit code for each, by xargs and one shell a unit."""
    took = timed(['sh', '-c', FLOOR, 'floor', str(units), str(CPUS)], dict(os.environ), folder)
    codes = [(folder / str(number) / 'exit').read_text() for number in range(1, units + 1)]
    assert codes == ['0\n'] * units
    return took


def spooler() -> Callable[[int, Path], float]:
    """Debian's task-spooler, unpacked without being installed. It keeps no log here (`tsp -n`)."""
    place = ROOT / '.bench' / 'task-spooler'
    if not (place / 'usr/bin/tsp').exists():
        if not shutil.which('apt-get') or not shutil.which('dpkg-deb'):
            raise AbsentError('no apt-get and dpkg-deb here')
        place.mkdir(parents=True, exist_ok=True)
        _install(['apt-get', 'download', '-q', 'task-spooler'], place)
        [package] = place.glob('task-spooler_*.deb')
        _install(['dpkg-deb', '-x', package.name, '.'], place)
        package.unlink()

    def run(units: int, folder: Path) -> float:
        environment = {
            **os.environ,
            'PATH': f'{place}/usr/bin:{os.environ["PATH"]}',
            'TMPDIR': str(folder),
            'TS_SOCKET': str(folder / 'socket'),
            'TS_SLOTS': str(CPUS),
            'TS_MAXFINISHED': str(units + 1),
        }
        try:
            took = timed(['sh', '-c', SPOOL, 'spool', str(units), str(CPUS)], environment, folder)
            listing = subprocess.check_output(['tsp'], env=environment, text=True)
        finally:
            subprocess.run(['tsp', '-K'], env=environment, check=False)
        ends = [line.split()[1:4:2] for line in listing.splitlines()[1:]]
        assert ends == [['finished', '0']] * units, listing[:500]
        return took

    return run


def submitit_python() -> Path:
    """The interpreter of an environment that has submitit."""
    python = ROOT / '.bench' / 'submitit' / 'bin' / 'python'
    if not python.exists():
        try:
            _install([sys.executable, '-m', 'venv', str(python.parents[1])], ROOT)
            _install([str(python), '-m', 'pip', 'install', '-q', SUBMITIT], ROOT)
        except AbsentError:  # Half an environment would be taken for a whole one the next time.
            shutil.rmtree(python.parents[1], ignore_errors=True)
            raise
    return python


def submitit() -> Callable[[int, Path], float]:
    """submitit's local executor: no queue, a Python for each unit and another beside it, all at once."""
    python = submitit_python()

    def run(units: int, folder: Path) -> float:
        return timed([python, '-c', SUBMIT, str(units)], dict(os.environ), folder)

    return run


def the_original() -> Callable[[int, Path], float]:
    """The xmanager that we measure against: no queue, all units at once."""
    try:
        side = original()
    except (OSError, subprocess.CalledProcessError) as error:
        raise AbsentError(f'it could not be installed ({error})') from error

    def run(units: int, folder: Path) -> float:
        return launch(side, folder, units)

    return run


def _install(command: list[str], folder: Path) -> None:
    print(f'{" ".join(command[:4])} … (once)', file=sys.stderr, flush=True)
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        lines = f'{error.stderr}'.strip().splitlines()
        raise AbsentError(lines[-1] if lines else str(error)) from error
