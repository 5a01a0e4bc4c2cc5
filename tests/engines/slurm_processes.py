"""What the jobs of a test's Slurm cluster leave on this host, found and ended: their processes and control groups."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_CGROUPS = Path('/sys/fs/cgroup')


def of_jobs(cluster: str, logs: Sequence[Path], node: str = '') -> list[int]:
    """Process ids of slurmstepds, which write to these `logs`, and of the programs below them; of one node or all."""
    marks = {f'SLURM_CLUSTER_NAME={cluster}', *([f'SLURMD_NODENAME={node}'] if node else [])}
    names = {str(log) for log in logs}
    found = []
    for process in Path('/proc').glob('[0-9]*'):
        # Many end while this looks at them, or are another user's.
        with contextlib.suppress(OSError):
            environ = (process / 'environ').read_bytes().decode(errors='replace').split('\0')
            is_stepd = 'slurmstepd' in os.readlink(process / 'exe') and names & _open_files(process)
            if is_stepd or marks <= set(environ):
                found.append(int(process.name))
    return found


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    """Whether it runs; a zombie doesn't."""
    try:
        return ') Z ' not in Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return False


def lack_for_cgroups() -> str:
    """What is missing for jobs whose memory is limited; '' if nothing is."""
    if os.geteuid() != 0:
        return 'root, to limit the memory of jobs'
    there = (_CGROUPS / 'memory').is_dir() and (_CGROUPS / 'freezer').is_dir()
    return '' if there else 'cgroup v1 (memory, freezer)'


@contextlib.contextmanager
def own_cgroups() -> Iterator[None]:
    """One cluster at a time: their groups have the names of nodes, which are the same in all. They go afterwards."""
    with Path(tempfile.gettempdir(), f'xm-test-slurm-cgroups-{os.geteuid()}').open('a') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            for top in _CGROUPS.glob('*/slurm_n*'):
                for folder in [*sorted(top.rglob('*/'), reverse=True), top]:
                    _remove(folder)


def _remove(cgroup: Path) -> None:
    """Also of what a job left in it, which needs a moment to die."""
    latest = time.monotonic() + 10.0
    while cgroup.exists():
        kill([int(pid) for pid in (cgroup / 'cgroup.procs').read_text().split()])
        try:
            cgroup.rmdir()
        except OSError:
            if time.monotonic() > latest:
                raise
            time.sleep(0.02)


def _open_files(process: Path) -> set[str]:
    found = set()
    for descriptor in (process / 'fd').iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(descriptor))
    return found
