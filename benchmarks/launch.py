"""Launching, measured beside the original in one run: `python benchmarks/launch.py [--rounds N] [--quick]`.

Installs `xmanager==0.8.5.post1` in an environment of its own (kept under `.bench/`), runs the same launch scripts on
both in turn, and prints medians and ratios. Absolute times are this machine's; the ratios are what to quote.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ORIGINAL = 'xmanager==0.8.5.post1'

SCRIPT = """\
import os
from absl import app
from xmanager import xm, xm_local

def main(_):
    with xm_local.create_experiment('bench') as experiment:
        [program] = experiment.package(
            [xm.binary(xm_local.Local.Spec(), os.environ['BENCH_PROGRAM'])])
        for i in range(int(os.environ['BENCH_UNITS'])):
            experiment.add(xm.Job(program, xm_local.Local(), args=[f'line-{i}']))

if __name__ == '__main__':
    app.run(main)
"""


class Side:
    """One of the two: its interpreter and its command."""

    def __init__(self, name: str, python: Path) -> None:
        self.name = name
        self.python = python
        self.command = python.with_name('xmanager')

    def environment(self, home: Path, program: str = '/bin/true', units: int = 1) -> dict[str, str]:
        changed = {
            'HOME': str(home),
            'XM_HOME': str(home / 'xm'),
            'BENCH_PROGRAM': program,
            'BENCH_UNITS': str(units),
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(('XM_', 'PYTHON'))}
        return kept | changed


def original() -> Side:
    """Installs the original where that was not done before."""
    environment = ROOT / '.bench' / 'original'
    python = environment / 'bin' / 'python'
    if not python.exists():
        print(f'Installing {ORIGINAL} (once)…', file=sys.stderr, flush=True)
        subprocess.run([sys.executable, '-m', 'venv', environment], check=True)
        subprocess.run([python, '-m', 'pip', 'install', '-q', ORIGINAL], check=True)
    return Side('original', python)


def timed(command: list[str | Path], environment: dict[str, str], cwd: Path) -> float:
    """Seconds of a whole process; it must succeed."""
    began = time.perf_counter()
    subprocess.run(command, env=environment, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - began


def first_line(side: Side, home: Path) -> float:
    """Seconds from the launch to the job's first line on the launcher's output."""
    environment = side.environment(home, program='/bin/echo')
    began = time.perf_counter()
    with subprocess.Popen(
        [side.command, 'launch', 'script.py'],
        env=environment,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b'line-0' in line:
                seen = time.perf_counter() - began
        process.wait()
    return seen


def launch(side: Side, home: Path, units: int) -> float:
    environment = side.environment(home, units=units)
    return timed([side.command, 'launch', 'script.py'], environment, home)


class Peaks:
    """The highest resident memory (VmHWM) of the launcher and of the supervisor, in MB, sampled while they live."""

    def __init__(self, launcher: int, home: Path) -> None:
        self.launcher = self.supervisor = 0.0
        self._pid = launcher
        self._folder = f'{home}/xm/experiments/'
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def finish(self) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.2):
            self.launcher = max(self.launcher, peak_memory(self._pid))
            for pid in supervisors(self._folder):
                self.supervisor = max(self.supervisor, peak_memory(pid))


def supervisors(folder: str) -> list[int]:
    """Processes of ours whose working directory is an experiment of that home."""
    found = []
    for entry in Path('/proc').iterdir():
        try:
            ours = entry.name.isdigit() and os.readlink(entry / 'cwd').startswith(folder)
            if ours and b'xmanager.supervise' in (entry / 'cmdline').read_bytes():
                found.append(int(entry.name))
        except OSError:  # Ended meanwhile, or somebody else's.
            continue
    return found


def peak_memory(pid: int) -> float:
    try:
        status = Path(f'/proc/{pid}/status').read_text()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in status.splitlines() if 'VmHWM' in x), 0.0)


def many_units(side: Side, home: Path, units: int) -> tuple[float, Peaks]:
    environment = side.environment(home, units=units)
    began = time.perf_counter()
    process = subprocess.Popen(
        [side.command, 'launch', 'script.py'],
        env=environment,
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peaks = Peaks(process.pid, home)
    code = process.wait()
    took = time.perf_counter() - began
    peaks.finish()
    assert code == 0
    return took, peaks


def beside_a_job(side: Side, home: Path) -> tuple[float, float]:
    """RSS and PSS, in MB, of what stands beside one running job (the runner; not the supervisor)."""
    program = home / 'sleeper'
    program.write_text('#!/bin/sh\nexec sleep 5\n')
    program.chmod(0o755)
    environment = side.environment(home, program=str(program))
    process = subprocess.Popen(
        [side.command, 'launch', 'script.py'],
        env=environment,
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    rss = pss = 0.0
    deadline = time.monotonic() + 4
    while not rss and time.monotonic() < deadline:
        time.sleep(0.05)
        for entry in Path('/proc').iterdir():
            try:
                if entry.name.isdigit() and b'xm-runner' in (entry / 'cmdline').read_bytes():
                    smaps = (entry / 'smaps_rollup').read_text().splitlines()
                    values = {x.split()[0]: int(x.split()[1]) / 1024 for x in smaps[1:]}
                    rss, pss = values['Rss:'], values['Pss:']
            except (OSError, IndexError, KeyError):  # Ended meanwhile.
                continue
    process.wait()
    return rss, pss


FILL = """\
import sys
from xmanager.backend import Task
from xmanager.store import Home, NewExperiment, NewUnit, Store
store = Store.open(Home.locate())
task = Task(name='train', full_name='', argv=('/bin/true',), cwd='/')
for i in range(int(sys.argv[1])):
    e = store.create_experiment(NewExperiment(title=f'sweep {i}', user='me', host='here'))
    units = [NewUnit(kind='work', backend='local', tasks=(task,), args={'args': {'i': n}},
                     state='queued') for n in range(10)]
    store.add_units(e.id, units, actor='bench')
"""


def listing(side: Side, home: Path, experiments: int, rounds: int) -> dict[str, float]:
    environment = side.environment(home)
    subprocess.run(
        [side.python, '-c', FILL, str(experiments)], env=environment, check=True, cwd=home
    )
    commands: dict[str, list[str | Path]] = {
        'list': [side.command, 'list'],
        'list --limit 0': [side.command, 'list', '--limit', '0'],
    }
    return {
        name: statistics.median(timed(command, environment, home) for _ in range(rounds))
        for name, command in commands.items()
    }


def imports(side: Side, home: Path, rounds: int) -> dict[str, float]:
    """Milliseconds over a bare interpreter."""
    programs = {
        'bare': 'pass',
        'xm': 'from xmanager import xm',
        'xm_local': 'from xmanager import xm_local',
    }
    environment = side.environment(home)
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            times[name].append(timed([side.python, '-c', program], environment, home))
    bare = statistics.median(times['bare'])
    return {name: 1000 * (statistics.median(t) - bare) for name, t in times.items()}


def in_turn(
    sides: list[Side], rounds: int, measure: Callable[[Side, Path], float]
) -> dict[str, float]:
    """Medians of a measure; the sides take turns, so that a slow moment of the machine hits both."""
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for round_number in range(rounds + 1):
        for side in sides:
            with scratch() as home:
                warm(side, home)
                value = measure(side, home)
            if round_number:  # The first round warms the disk cache.
                times[side.name].append(value)
    return {name: statistics.median(values) for name, values in times.items()}


def warm(side: Side, home: Path) -> None:
    """The first launch in a home makes its database; that is not what is measured."""
    launch(side, home, 1)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder with the script in it, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix='xm-bench-'))
    (path / 'script.py').write_text(SCRIPT)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def row(what: str, ours: float, theirs: float | None, unit: str, bound: str) -> None:
    other = '' if theirs is None else f'{theirs:.2f} {unit}'
    ratio = '' if theirs is None else f'{ours / theirs:.2f}'
    print(f'{what:44} {ours:9.2f} {unit:3} {other:>10} {ratio:>6}   {bound}', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--quick', action='store_true', help='leave out 10,000 units and the list')
    options = parser.parse_args()
    ours, theirs = Side('ours', Path(sys.executable)), original()
    sides = [ours, theirs]
    print(f'{"what":44} {"ours":>13} {"original":>10} {"ratio":>6}   bound')
    with scratch() as home:
        mine = imports(ours, home, 3 * options.rounds)
        other = imports(theirs, home, options.rounds)
    row('import xm, over bare Python', mine['xm'], other['xm'], 'ms', '≤ 60 ms')
    row('import xm_local, over bare Python', mine['xm_local'], other['xm_local'], 'ms', '≤ 80 ms')
    result = in_turn(sides, options.rounds, lambda side, home: launch(side, home, 1))
    row('launch 1 unit, whole process', result['ours'], result['original'], 's', 'ratio ≤ 0.5')
    result = in_turn(sides, options.rounds, first_line)
    row("launch → the job's first line", result['ours'], result['original'], 's', '≤ 0.45 s')
    half = 0.0
    for units in (100, 500):
        result = in_turn(sides, options.rounds, functools.partial(launch, units=units))
        bound = 'ratio ≤ 1.0' if units == 500 else ''
        row(f'launch {units} units', result['ours'], result['original'], 's', bound)
        half = result['ours']
    with scratch() as home:
        rss, pss = beside_a_job(ours, home)
    row('beside one running job: RSS', rss, None, 'MB', '≤ 2 MB')
    row('beside one running job: PSS', pss, None, 'MB', '')
    if options.quick:
        return
    with scratch() as home:
        warm(ours, home)
        took, peaks = many_units(ours, home, 10_000)
    row('launch 10,000 units', took, None, 's', f'≤ 22 × 500 units; here {took / half:.1f} ×')
    row('  launcher, peak', peaks.launcher, None, 'MB', '≤ 120 MB')
    row('  supervisor, peak', peaks.supervisor, None, 'MB', '≤ 120 MB')
    with scratch() as home:
        for name, seconds in listing(ours, home, 5000, options.rounds).items():
            row(f'xmanager {name}, 5,000 × 10 units', seconds, None, 's', '≤ 0.4 s')


if __name__ == '__main__':
    main()
