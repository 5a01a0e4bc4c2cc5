"""The queue, measured beside others in one run: `python -m benchmarks.queue [--units N] [--rounds N] [--only WHAT]`.

All units are `/bin/true` unless said otherwise. What is measured takes turns, and medians are printed. Each round has
a home and a ledger of its own, and is counted only if every unit completed with code 0, has its log and its times.
Absolute numbers are this machine's; the ratios to the floor (see `peers.floor`) are what to quote.

Nothing is removed before the end: ext4 passes over the numbers of files that were deleted in the last minutes, one by
one, so that each new file costs ten times as much after a large folder was removed. For the same reason a second run
just after a first one is slower; `--folder /dev/shm` leaves the disk out of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import peers
from benchmarks.launch import SCRIPT, Side, peak_memory, timed
from benchmarks.peers import CPUS, AbsentError, Peer

from xmanager.backend import Task
from xmanager.store import COMPLETED, Home, NewExperiment, NewUnit, Store, UnitRecord

OURS = Side('ours', Path(sys.executable))
BATCH = 5000
END_TO_END = 'ours, end to end'
JOB = """\
#!/bin/bash
echo "$EPOCHREALTIME"
sleep 0.05
echo "$EPOCHREALTIME"
"""
STUBBORN = """\
#!/bin/bash
trap 'sleep {seconds}; exit' TERM
sleep 1000 & wait
"""


class Desk:
    """A home of our own: its environment, and its store once something is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / 'xm')

    def environment(self, **changed: str) -> dict[str, str]:
        ledger = {'XM_LOCAL_LEDGER': str(self.folder / 'ledger')}
        return {**OURS.environment(self.folder), **ledger, **changed}

    def command(self, *words: str, **changed: str) -> float:
        """Seconds that one `xmanager …` takes."""
        return timed([OURS.command, *words], self.environment(**changed), self.folder)

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        with Store.open(self.home) as store:
            yield store

    def fill(self, units: int, program: str) -> int:
        """Records an experiment of so many queued units, with no supervisor about; returns its id."""
        task = Task('job', '', (program,), str(self.folder), options={'stream_output': True})
        unit = NewUnit(kind='work', backend='local', tasks=(task,), args={'args': {'lr': 0.1}})
        with self.store() as store:
            id = store.create_experiment(NewExperiment('bench', user='bench', host='here')).id
            for start in range(0, units, BATCH):
                store.add_units(id, [unit] * min(BATCH, units - start), actor='bench')
        return id

    @contextlib.contextmanager
    def supervisor(self, id: int) -> Iterator[subprocess.Popen[bytes]]:
        """Supervises the experiment; it is killed at the end if it is still at work then."""
        with (self.folder / 'supervisor.log').open('wb') as log:
            process = subprocess.Popen(
                [OURS.python, '-P', '-m', 'xmanager.supervise', str(id)],
                env=self.environment(),
                cwd=self.home.experiment_folder(id),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def completed(self, id: int, units: int) -> list[UnitRecord]:
        """The units of an experiment, each of which must have completed and left all that is kept."""
        with self.store() as store:
            records = store.units(id)
        assert len(records) == units, f'{len(records)} units instead of {units}'
        for record in records:
            [task] = record.tasks
            assert record.state == COMPLETED, (
                f'unit {record.label} {record.state}: {record.message}'
            )
            assert task.exit_code == 0, f'unit {record.label} ended with {task.exit_code}'
            assert (task.folder / 'output.log').exists(), f'unit {record.label} has no log'
            assert None not in (record.started_at, record.ended_at), f'{record.label}: no times'
        return records


class Drain(NamedTuple):
    """How a queue was emptied: seconds from the supervisor's start, units/s between the first and the last, MB."""

    seconds: float
    rate: float
    memory: float


def drain(units: int, folder: Path) -> Drain:
    """Empties a queue that was filled before."""
    desk = Desk(folder)
    id = desk.fill(units, '/bin/true')
    memory = 0.0
    began = time.time()
    with desk.supervisor(id) as process:
        while process.poll() is None:
            memory = max(memory, peak_memory(process.pid))
            time.sleep(0.1)
    records = desk.completed(id, units)
    first = min(record.started_at or 0 for record in records)
    last = max(record.ended_at or 0 for record in records)
    return Drain(last - began, units / (last - first), memory)


def end_to_end(units: int, folder: Path) -> float:
    """One launch script that adds all units, until the last has ended and the launcher has left."""
    desk = Desk(folder)
    took = desk.command('launch', 'script.py', BENCH_UNITS=str(units))
    desk.completed(1, units)
    return took


# What is measured.


def throughput(shop: Path, units: int, rounds: int) -> None:
    sides = [
        Peer('floor: xargs and sh', units, peers.floor),
        Peer(END_TO_END, units, end_to_end, '≥ 700 units/s, ratio ≥ 0.5'),
        Peer('ours, queue only', units, lambda n, folder: drain(n, folder).seconds),
    ]
    others = {
        'task-spooler': (min(units, 2000), peers.spooler, 'keeps no log, forgets at its end'),
        'original': (200, peers.the_original, 'has no queue: all at once'),
        "submitit's local executor": (24, peers.submitit, 'has no queue: all at once'),
    }
    for name, (least, install, remark) in others.items():
        try:
            sides.append(Peer(name, least, install(), remark))
        except AbsentError as error:
            print(f'{name}: left out, {error}', flush=True)
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for side in (side for _ in range(rounds) for side in sides):
        times[side.name].append(side.run(side.units, fresh(shop)))
    rates = {side.name: side.units / statistics.median(times[side.name]) for side in sides}
    print(f'{"":28} {"units":>7} {"units/s":>9} {"s/1,000":>9} {"of floor":>9}')
    for name, count, _, remark in sides:
        rate = rates[name]
        ratio = rate / rates[sides[0].name]
        kept = bound(remark, name != END_TO_END or (rate >= 700 and ratio >= 0.5))
        print(f'{name:28} {count:7,} {rate:9.1f} {1000 / rate:9.2f} {ratio:9.2f}   {kept}')
    sys.stdout.flush()


def flatness(shop: Path, sizes: Iterable[int], rounds: int) -> None:
    """Long queues are emptied once: they are their own median."""
    found: dict[int, list[Drain]] = {size: [] for size in sizes}
    for round_number in range(rounds):
        for size, drains in found.items():
            if size < 10_000 or not round_number:
                drains.append(drain(size, fresh(shop)))
    rates = {size: statistics.median(d.rate for d in drains) for size, drains in found.items()}
    first = next(iter(rates.values()))
    for size, drains in found.items():
        ratio = rates[size] / first
        flat = bound('± 20 %', abs(ratio - 1) <= 0.2)
        row(f'queue of {size:,}', rates[size], 'units/s', f'× {ratio:.2f}', flat)
        memory = statistics.median(d.memory for d in drains)
        row('  supervisor, peak memory', memory, 'MB', '', bound('≤ 150 MB', memory <= 150))


def latency(shop: Path, waiting: int, rounds: int, measured: int = 100) -> None:
    """From the end of one job to the start of the next, by the jobs' own clock readings."""
    gaps: list[float] = []
    for _ in range(rounds):
        desk = Desk(fresh(shop))
        id = desk.fill(waiting, executable(desk.folder / 'job', JOB))
        with desk.supervisor(id) as process:
            spans = _spans(desk, id, min(measured, waiting), process)
        ends = sorted(end for _, end in spans)
        # The n-th end frees the CPU on which, once all were taken, the n-th of the other starts takes place.
        starts = sorted(start for start, _ in spans)[CPUS:]
        gaps += [1000 * (start - end) for start, end in zip(starts, ends, strict=False)]
    median, ninth = statistics.median(gaps), statistics.quantiles(gaps, n=10)[-1]
    least = bound('≤ 15 ms', median <= 15)
    row(f'end → next start, {waiting:,} waiting', median, 'ms', f'p90 {ninth:.1f}', least)


def _spans(
    desk: Desk, id: int, count: int, process: subprocess.Popen[bytes]
) -> list[tuple[float, float]]:
    """Start and end of the first jobs, as each has printed them."""
    logs = [desk.home.unit_folder(id, str(n)) / 'job' / 'output.log' for n in range(1, count + 1)]
    deadline = time.monotonic() + 60 + count
    while process.poll() is None and time.monotonic() < deadline:
        if all(log.exists() and log.read_text().count('\n') == 2 for log in logs[-CPUS:]):
            break
        time.sleep(0.1)
    times = [[float(line) for line in log.read_text().splitlines()] for log in logs]
    return [(start, end) for start, end in times]


def stopping(shop: Path, units: int, seconds: float, rounds: int) -> None:
    """From the call of `xmanager stop` until no process of the units is left. They take `seconds` to end."""
    times = [_stop(Desk(fresh(shop)), units, seconds) for _ in range(rounds)]
    gone, back = (statistics.median(values) for values in zip(*times, strict=True))
    least = bound(f'≤ {seconds + 0.2:.1f} s', gone <= seconds + 0.2)
    name = f'stop {units} units that take {seconds} s to end'
    row(name, gone, 's', f'command {back:.2f}', least)


def _stop(desk: Desk, units: int, seconds: float) -> tuple[float, float]:
    """Seconds until the processes are gone, and until the command has come back."""
    program = executable(desk.folder / 'stubborn', STUBBORN.format(seconds=seconds))
    changed = {'XM_DETACH': 'true', 'BENCH_PROGRAM': program, 'BENCH_UNITS': str(units)}
    desk.command('launch', 'script.py', **changed)
    try:
        # A shell beside each, the job, and its sleep.
        pids = wait_for(lambda: _processes_of(desk), 3 * units)
        began = time.perf_counter()
        with subprocess.Popen(
            [OURS.command, 'stop', '1'], env=desk.environment(), stdout=subprocess.DEVNULL
        ) as command:
            while any(os.path.exists(f'/proc/{pid}') for pid in pids):
                time.sleep(0.001)
            gone = time.perf_counter() - began
        assert command.returncode == 0
        return gone, time.perf_counter() - began
    finally:
        for pid in _processes_of(desk):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes_of(desk: Desk) -> list[int]:
    """Processes of units: those that bear the mark of one, in our home."""
    home, found = os.fsencode(f'XM_HOME={desk.home.path}'), []
    for entry in Path('/proc').iterdir():
        with contextlib.suppress(OSError):  # Ended meanwhile, or somebody else's.
            variables = (entry / 'environ').read_bytes() if entry.name.isdigit() else b''
            if home in variables and b'\0XM_JOB_NAME=' in variables:
                found.append(int(entry.name))
    return found


def wait_for(look: Callable[[], list[int]], count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(found := look()) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(found) == count, f'{len(found)} processes instead of {count}'
    return found


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def fresh(shop: Path) -> Path:
    """A folder with the launch script in it."""
    folder = Path(tempfile.mkdtemp(dir=shop))
    (folder / 'script.py').write_text(SCRIPT)
    return folder


def bound(text: str, is_kept: bool) -> str:
    return text if is_kept else f'{text}: MISSED'


def row(what: str, value: float, unit: str, beside: str, bound: str) -> None:
    print(f'{what:44} {value:9.2f} {unit:8} {beside:14} {bound}', flush=True)


def measure(shop: Path, options: argparse.Namespace) -> None:
    rounds = options.rounds
    if options.only in ('throughput', None):
        throughput(shop, options.units, rounds)
    if options.only in ('flat', None):
        flatness(shop, (1000, 10_000, 100_000) if options.long else (1000, 10_000), rounds)
    if options.only in ('latency', None):
        latency(shop, 100, rounds)
        latency(shop, 100_000, 1)
    if options.only in ('stop', None):
        stopping(shop, CPUS, 0, rounds)
        stopping(shop, CPUS, 0.5, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--units', type=int, default=10_000, help='of the throughput')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--only', choices=['throughput', 'flat', 'latency', 'stop'])
    parser.add_argument('--long', action='store_true', help='flatness up to 100,000 units')
    parser.add_argument('--folder', help='where homes are made (by default in /tmp)')
    options = parser.parse_args()
    print(f'{CPUS} CPUs, Python {sys.version.split()[0]}, medians of {options.rounds} rounds')
    shop = Path(tempfile.mkdtemp(prefix='xm-bench-', dir=options.folder))
    try:
        measure(shop, options)
    finally:
        shutil.rmtree(shop, ignore_errors=True)


if __name__ == '__main__':
    main()
