"""Submitting to Slurm, measured beside others in one run: `python -m benchmarks.slurm [--rounds N] [--only WHAT]`.

Starts a cluster of four virtual nodes on this machine, the one on which the tests run, with Slurm's own MaxArraySize.
All that is submitted in order to be counted is held (`--hold`), so that no job takes part in what is measured. What is
measured takes turns, and medians are printed. Commands of Slurm are counted by programs on PATH that stand before the
real ones. Absolute numbers are this machine's; the ratios are what to quote.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.launch import Peaks, Side, timed
from benchmarks.peers import AbsentError, submitit_python
from benchmarks.queue import bound, row
from tests.engines.slurm import Cluster, cluster

from xmanager.store import ACTIVE_STATES, COMPLETED, Home, Store

OURS = Side('ours', Path(sys.executable))
COMMANDS = ('sbatch', 'squeue', 'scancel', 'sacct', 'scontrol', 'sinfo')
SCRIPT = """\
import os
from xmanager import xm, xm_local

with xm_local.create_experiment('bench') as experiment:
    [program] = experiment.package(
        [xm.binary(xm_local.Slurm.Spec(), os.environ['BENCH_PROGRAM'])])
    executor = xm_local.Slurm(extra_sbatch_args=os.environ['BENCH_OPTIONS'].split())
    for i in range(int(os.environ['BENCH_UNITS'])):
        experiment.add(xm.Job(program, executor, args=[str(i)]))
"""
# $0 is the number of jobs.
LOOP = 'i=0; while [ $i -lt $0 ]; do sbatch -Q --hold -o /dev/null job.sh $i; i=$((i + 1)); done'
ARRAY = 'sbatch -Q --hold -o /dev/null --array=0-$(($0 - 1)) job.sh'
SUBMITIT = """
import sys
import submitit
executor = submitit.SlurmExecutor('logs')
executor.update_parameters(time=5, additional_parameters={'hold': True}, array_parallelism=10000)
executor.map_array(abs, range(int(sys.argv[1])))
"""
SHIM = '#!/bin/sh\necho {name} >>{log}\nexec {real} "$@"\n'
JOB = """\
#!/bin/bash
sleep $((3 + $1 % 5))
echo "$EPOCHREALTIME"
"""


class Desk:
    """A home of our own before a cluster, and a PATH on which calls of Slurm's commands are counted."""

    def __init__(self, shop: Path, slurm: Cluster) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=shop))
        self.slurm = slurm
        self.home = Home(self.folder / 'xm')
        self._calls = self.folder / 'calls'
        (self.folder / 'bin').mkdir()
        for name in COMMANDS:
            shim = self.folder / 'bin' / name
            shim.write_text(SHIM.format(name=name, log=self._calls, real=shutil.which(name)))
            shim.chmod(0o755)
        write(self.folder / 'script.py', SCRIPT)
        write(self.folder / 'job.sh', '#!/bin/sh\nexec /bin/true "$@"\n')

    def environment(self, units: int, options: str, program: str) -> dict[str, str]:
        ours = OURS.environment(self.folder, program, units)
        path = f'{self.folder}/bin:{os.environ["PATH"]}'
        return {**ours, **self.slurm.variables, 'PATH': path, 'BENCH_OPTIONS': options}

    def launch(self, units: int, options: str = '--hold', program: str = '/bin/true') -> Peaks:
        """Launches a script; returns when it is over: all units are submitted, and recorded to be."""
        with subprocess.Popen(
            [OURS.command, 'launch', 'script.py'],
            env=self.environment(units, options, program),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            peaks = Peaks(process.pid, self.folder)
            _, errors = process.communicate()
            peaks.finish()
        assert process.returncode == 0, errors
        with Store.open(self.home) as store:
            taken = [unit for unit in store.units(1, with_tasks=False) if unit.reference]
        assert len(taken) == units, f'{len(taken)} of {units} units are submitted'
        return peaks

    def calls(self) -> Counter[str]:
        """How often each of Slurm's commands was called since it was asked last."""
        if not self._calls.exists():
            return Counter()
        called = Counter(self._calls.read_text().split())
        self._calls.unlink()
        return called

    def clear(self) -> None:
        """Ends what runs, and its supervisor."""
        environment = self.environment(0, '', '/bin/true')
        timed([OURS.command, 'stop', '1'], environment, self.folder)
        with Store.open(self.home) as store:
            while store.units(1, states=ACTIVE_STATES, limit=1, with_tasks=False):
                time.sleep(0.05)
        self.slurm.cancel_all()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def ours(desk: Desk, units: int) -> float:
    began = time.perf_counter()
    desk.launch(units)
    return time.perf_counter() - began


def shell(text: str) -> Callable[[Desk, int], float]:
    """A shell that submits so many jobs."""

    def run(desk: Desk, units: int) -> float:
        environment = {**os.environ, **desk.slurm.variables}
        return timed(['sh', '-c', text, str(units)], environment, desk.folder)

    return run


def submitit() -> Callable[[Desk, int], float]:
    """submitit's array: one file for each function that is called, and one sbatch."""
    python = submitit_python()

    def run(desk: Desk, units: int) -> float:
        environment = {**os.environ, **desk.slurm.variables}
        return timed([python, '-c', SUBMITIT, str(units)], environment, desk.folder)

    return run


def submission(shop: Path, slurm: Cluster, units: int, rounds: int) -> None:
    """From the start of the process until all is submitted and the process is over."""
    sides = {'ours, whole process': ours, 'one sbatch --array': shell(ARRAY)}
    sides['a loop of sbatch'] = shell(LOOP)
    try:
        sides["submitit's map_array"] = submitit()
    except AbsentError as error:
        print(f'submitit: left out, {error}', flush=True)
    times: dict[str, list[float]] = {name: [] for name in sides}
    calls: Counter[str] = Counter()
    for name, run in ((name, run) for _ in range(rounds) for name, run in sides.items()):
        desk = Desk(shop, slurm)
        times[name].append(run(desk, units))
        if run is ours:
            calls = desk.calls()
            desk.clear()
        slurm.cancel_all()
    loop = statistics.median(times['a loop of sbatch'])
    for name, values in times.items():
        median = statistics.median(values)
        limit = bound('≤ 1.0 s', median <= 1.0) if sides[name] is ours else ''
        row(f'submit {units:,}: {name}', median, 's', f'loop × {median / loop:.3f}', limit)
    told = ', '.join(f'{count} {name}' for name, count in calls.items())
    row('  commands of Slurm', calls.total(), '', told, bound('≤ 5', calls.total() <= 5))


def many(shop: Path, slurm: Cluster, units: int) -> None:
    """So many units that they are several arrays."""
    desk = Desk(shop, slurm)
    began = time.perf_counter()
    peaks = desk.launch(units)
    took = time.perf_counter() - began
    row(f'submit {units:,}: ours', took, 's', '', bound('≤ 8 s', took <= 8))
    within = bound('≤ 150 MB', peaks.supervisor <= 150)
    row('  supervisor, peak memory', peaks.supervisor, 'MB', '', within)
    desk.clear()


def following(shop: Path, slurm: Cluster, units: int) -> None:
    """Units that run: how often Slurm is asked meanwhile, and when each end is known after it."""
    desk = Desk(shop, slurm)
    program = write(desk.folder / 'job', JOB)
    desk.launch(units, '', str(program))
    desk.calls()
    began = time.perf_counter()
    known = Known(desk.home, units)
    known.join()
    seconds, calls = time.perf_counter() - began, desk.calls()
    rate = calls.total() / seconds
    row(
        f'{units} units run: calls of Slurm',
        rate,
        '1/s',
        str(dict(calls)),
        bound('≤ 0.5', rate <= 0.51),
    )
    late = sorted(known.lateness())
    worst = bound('≤ 3 s', late[-1] <= 3)
    row(
        'an end is known after (worst)',
        late[-1],
        's',
        f'median {statistics.median(late):.2f}',
        worst,
    )


class Known(threading.Thread):
    """Looks into the store, as a page would, and notes when each end is first there to be seen."""

    def __init__(self, home: Home, units: int) -> None:
        super().__init__()
        self._home = home
        self._units = units
        self._seen: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        deadline = time.monotonic() + 300
        with Store.open(self._home) as store:
            while len(self._seen) < self._units and time.monotonic() < deadline:
                for unit in store.units(1, states=(COMPLETED,), with_tasks=False):
                    self._seen.setdefault(unit.label, time.time())
                time.sleep(0.02)

    def lateness(self) -> list[float]:
        """Seconds from what each job printed last."""
        assert len(self._seen) == self._units, f'{len(self._seen)} of {self._units} completed'
        logs = {
            label: self._home.unit_folder(1, label) / 'job' / 'output.log' for label in self._seen
        }
        return [at - float(logs[label].read_text()) for label, at in self._seen.items()]


def measure(shop: Path, options: argparse.Namespace) -> None:
    with cluster() as slurm:
        if options.only in ('submit', None):
            submission(shop, slurm, 1000, options.rounds)
        if options.only in ('many', None):
            many(shop, slurm, 10_000)
        if options.only in ('follow', None):
            following(shop, slurm, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--only', choices=['submit', 'many', 'follow'])
    options = parser.parse_args()
    print(f'{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, medians of {options.rounds}')
    shop = Path(tempfile.mkdtemp(prefix='xm-bench-'))
    try:
        measure(shop, options)
    finally:
        shutil.rmtree(shop, ignore_errors=True)


if __name__ == '__main__':
    main()
