"""Packaging, measured beside the original and plain docker in one run: `python -m benchmarks.package [--rounds N]`.

Needs a Docker engine (started if none runs) and `docker-registry`: on Debian `apt-get install docker.io
docker-registry busybox-static`. Every row is a median; peers take turns with ours, so that a slow moment of the machine
hits all.
`--only snapshot|python|container|push` measures one part.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.launch import Side, original
from benchmarks.package_peers import (
    BASE,
    Docker,
    Project,
    docker_push,
    docker_run,
    plain_docker,
    registry,
)

PARTS = ('snapshot', 'python', 'container', 'push')
MB = 1_000_000

PYTHON_SCRIPT = """\
from xmanager import xm, xm_local

with xm_local.create_experiment('bench') as experiment:
    [train] = experiment.package([
        xm.python_package(xm_local.Local.Spec(), path='project', entrypoint=xm.ModuleName('train'))
    ])
    experiment.add(xm.Job(train, xm_local.Local()))
"""

CONTAINER_SCRIPT = """\
import os
from absl import app
from xmanager import xm, xm_local

def main(_):
    with xm_local.create_experiment('bench') as experiment:
        lines = os.environ.get('BENCH_INSTRUCTIONS')
        [train] = experiment.package([xm.python_container(
            executor_spec=xm_local.Local.Spec(), path='project', base_image=os.environ['BENCH_BASE'],
            docker_instructions=lines.splitlines() if lines else None,
            entrypoint=xm.ModuleName('train'))])
        experiment.add(xm.Job(train, xm_local.Local()))

if __name__ == '__main__':
    app.run(main)
"""

# In a process of its own, for its peak of memory: the second look at a folder that has not changed.
TAKE = """\
import resource, sys, time
from pathlib import Path
from xmanager.snapshot import SnapshotStore
store = SnapshotStore(Path(sys.argv[1]))
began = time.perf_counter()
store.take(Path(sys.argv[2]))
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--only', choices=PARTS)
    options = parser.parse_args()
    print(f'{"what":58} {"ours":>10} {"peer":>10} {"ratio":>6}   bound')
    for part in [options.only] if options.only else PARTS:
        _MEASURES[part](options.rounds)


def row(what: str, ours: float, unit: str, bound: str, theirs: float | None = None) -> None:
    other = '' if theirs is None else f'{theirs:.3g} {unit}'
    ratio = '' if theirs is None else f'{ours / theirs:.2f}'
    print(f'{what:58} {f"{ours:.3g} {unit}":>10} {other:>10} {ratio:>6}   {bound}', flush=True)


# Snapshots.


def snapshots(rounds: int) -> None:
    first, same, one = [], [], []
    with scratch() as folder:
        project = Project(folder / 'project', files=3000, size=106 * MB)
        for number in range(rounds + 1):
            store = folder / f'store-{number}'
            times = []
            for step in range(3):
                if step == 2:
                    project.edit()
                times.append(take(store, project.path)[0])
            if number:  # The first round warms the disk cache.
                first.append(times[0])
                same.append(times[1])
                one.append(times[2])
    row('snapshot of 3,000 files, 106 MB: first', statistics.median(first), 's', '≤ 1.0 s')
    row('  nothing changed', 1000 * statistics.median(same), 'ms', '≤ 60 ms')
    row('  one file changed', 1000 * statistics.median(one), 'ms', '≤ 80 ms')
    with scratch() as folder:
        project = Project(folder / 'project', files=100_000, size=100 * MB)
        take(folder / 'store', project.path)
        seen = [take(folder / 'store', project.path) for _ in range(rounds)]
    row('100,000 files, nothing changed', statistics.median(s for s, _ in seen), 's', '≤ 1.5 s')
    row('  peak memory of the process', max(peak for _, peak in seen), 'MB', '≤ 150 MB')


def take(store: Path, project: Path) -> tuple[float, float]:
    """Seconds and peak MB of one look, in a process of its own."""
    time.sleep(
        0.02
    )  # What was written in this very tick of the clock has to be read again next time.
    command = [sys.executable, '-c', TAKE, str(store), str(project)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


# From an edit to the first line.


def python_package(rounds: int) -> None:
    ours = Side('ours', Path(sys.executable))
    for files, size, label in (
        (3, 3000, 'a small project'),
        (3000, 106 * MB, '3,000 files, 106 MB'),
    ):
        with scratch() as folder:
            (folder / 'script.py').write_text(PYTHON_SCRIPT)
            project = Project(folder / 'project', files=files, size=size)
            edited = repeat(rounds, lambda: first_line(ours, folder, {}), project.edit)
            same = repeat(rounds, lambda: first_line(ours, folder, {}))
        row(f'PythonPackage, {label}: edit → first line', edited, 's', '≤ 0.5 s')
        row('  no change', same, 's', '')


def python_container(rounds: int) -> None:
    theirs, ours = original(), Side('ours', Path(sys.executable))
    with plain_docker() as docker:
        for files, size, label, bound in (
            (3, 3000, 'a small project', '≤ 0.85 s, ratio ≤ 0.7'),
            (3000, 106 * MB, '3,000 files, 106 MB', 'ratio ≤ 0.7'),
        ):
            with scratch() as folder:
                (folder / 'script.py').write_text(CONTAINER_SCRIPT)
                project = Project(folder / 'project', files=files, size=size)
                edited, same = _beside(docker, ours, theirs, folder, project, rounds)
            row(f'python_container, {label}: edit → first line', edited[0], 's', bound, edited[1])
            row('  docker build, docker run', edited[2], 's', '')
            row('  no change', same[0], 's', '', same[1])


def _beside(
    docker: Docker, ours: Side, theirs: Side, folder: Path, project: Project, rounds: int
) -> tuple[list[float], list[float]]:
    """Medians of ours, the original and plain docker: after an edit, and with none."""
    instructions = {'BENCH_INSTRUCTIONS': 'COPY project/ /project\nWORKDIR /project'}
    measures: list[Callable[[], float]] = [
        lambda: first_line(ours, folder, docker.environment),
        lambda: first_line(theirs, folder, docker.environment | instructions),
        lambda: docker_run(docker, folder),
    ]
    results = []
    for change in (project.edit, lambda: None):
        times: list[list[float]] = [[] for _ in measures]
        for number in range(rounds + 1):
            for measure, taken in zip(measures, times, strict=True):
                change()
                seconds = measure()
                if number:
                    taken.append(seconds)
        results.append([statistics.median(taken) for taken in times])
    return results[0], results[1]


def first_line(side: Side, folder: Path, more: Mapping[str, str]) -> float:
    """Seconds from `xmanager launch` to the job's first line on the launcher's output."""
    environment = {**side.environment(folder), 'BENCH_BASE': BASE, **more}
    began = time.perf_counter()
    seen = None
    with subprocess.Popen(
        [side.command, 'launch', 'script.py'],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        output = b''
        for line in process.stdout:
            output += line
            if b'line-0' in line and seen is None:
                seen = time.perf_counter() - began
        process.wait()
    assert seen is not None, output.decode(errors='replace')
    return seen


# Pushing.


def pushing(rounds: int) -> None:
    with plain_docker() as docker, registry() as host, scratch() as folder:
        base = docker.push_base(host)
        for size, bound in ((MB, '≤ 80 ms, ratio ≤ 0.5'), (50 * MB, '≤ 0.8 s, ratio ≤ 0.3')):
            project = Project(folder / f'project-{size}', files=10, size=size)
            ours, theirs = [], []
            for number in range(rounds + 1):
                project.rewrite()
                one = push(folder / 'home', project.path, base, f'{host}/ours')
                project.rewrite()
                other = docker_push(docker, project.path, f'{host}/theirs:{number}')
                if number:
                    ours.append(one)
                    theirs.append(other)
            row(
                f'repackage and push, {size // MB} MB changed (docker build + push)',
                1000 * statistics.median(ours),
                'ms',
                bound,
                1000 * statistics.median(theirs),
            )


def push(home: Path, project: Path, base: str, target: str) -> float:
    """Seconds of `package`, in this process: what a launcher adds to its start for it."""
    from xmanager import packaging, xm, xm_local

    spec = xm.python_container(
        xm_local.Local.Spec(), xm.ModuleName('train'), str(project), base_image=base
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith('XM_')}
    began = time.perf_counter()
    packaging.package([spec], packaging.Workshop(home, environ, push=target))
    return time.perf_counter() - began


def repeat(
    rounds: int, measure: Callable[[], float], before: Callable[[], None] = lambda: None
) -> float:
    """The median, less a first round that warms the disk cache."""
    times = []
    for _ in range(rounds + 1):
        before()
        times.append(measure())
    return statistics.median(times[1:])


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix='xm-bench-'))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


_MEASURES: dict[str, Callable[[int], None]] = {
    'snapshot': snapshots,
    'python': python_package,
    'container': python_container,
    'push': pushing,
}


if __name__ == '__main__':
    main()
