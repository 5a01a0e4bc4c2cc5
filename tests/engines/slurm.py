"""Real Slurm clusters on this host: four virtual nodes with fake GPUs, under one temporary folder, on loopback ports.

One is up in about a second, and several may run side by side. `python -m tests.engines.slurm` starts one by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.engines import slurm_processes as processes
from tests.engines.servers import MariaDB, require, running
from tests.engines.slurm_cluster import Cluster, find_program
from tests.engines.slurm_config import Settings

__all__ = [
    'Cluster',
    'Settings',
    'cluster',
    'slurm',
    'slurm_accounting',
    'slurm_accounting_cluster',
    'slurm_cluster',
]


@contextlib.contextmanager
def cluster(settings: Settings | None = None, database: MariaDB | None = None) -> Iterator[Cluster]:
    """A cluster of one's own, which is gone afterwards with all its processes. With a database it has accounting."""
    require('slurm', lacks())
    if database is not None:
        require('slurmdbd', lacks_accounting())
    settings = settings or Settings()
    if settings.cgroups:
        require('slurm', processes.lack_for_cgroups())
    memory = Path('/dev/shm')
    folder = Path(tempfile.mkdtemp(prefix='xm-slurm-', dir=memory if memory.is_dir() else None))
    folder.chmod(0o755)
    made = Cluster(folder, settings, database)
    with processes.own_cgroups() if settings.cgroups else contextlib.nullcontext():
        try:
            made.start()
            yield made
        finally:
            made.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope='session')
def slurm_cluster() -> Iterator[Cluster]:
    """One for all tests of this process; a test takes `slurm` in its place, unless it puts right what it breaks."""
    with cluster() as made:
        yield made


@pytest.fixture(scope='session')
def slurm_accounting_cluster(mariadb: MariaDB) -> Iterator[Cluster]:
    with cluster(database=mariadb) as made:
        yield made


@pytest.fixture
def slurm(slurm_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster without jobs, which this process's environment means; whole again after the test."""
    yield from _lent(slurm_cluster, monkeypatch)


@pytest.fixture
def slurm_accounting(
    slurm_accounting_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """One with slurmdbd: `sacct` works, and accounts, QOS and their limits are enforced (`Settings.accounts`)."""
    yield from _lent(slurm_accounting_cluster, monkeypatch)


def _lent(made: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    for name, value in made.variables.items():
        monkeypatch.setenv(name, value)
    yield made
    made.mend()


def lacks() -> str:
    """What is not installed for a cluster; '' if all is."""
    missing = [
        name for name in ('slurmctld', 'slurmd', 'munged', 'sbatch') if not find_program(name)
    ]
    return f'Slurm (apt-get install slurm-wlm munge; no {missing[0]})' if missing else ''


def lacks_accounting() -> str:
    return lacks() or ('' if find_program('slurmdbd') else 'slurmdbd (apt-get install slurmdbd)')


def main() -> None:
    """Starts a cluster, prints what a shell must set to use it, and ends it at Ctrl-C, TERM or the end of input."""
    parser = argparse.ArgumentParser(prog='python -m tests.engines.slurm', description=main.__doc__)
    parser.add_argument('--accounting', action='store_true', help='with slurmdbd, over a MariaDB')
    for field in attrs.fields(Settings):
        if field.type in (int, 'int'):
            parser.add_argument(f'--{field.name}', type=int, default=field.default)
        elif field.type in (bool, 'bool'):
            parser.add_argument(f'--{field.name}', action='store_true')
    options = vars(parser.parse_args())
    accounting = options.pop('accounting')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(running('mariadb')) if accounting else None
        assert database is None or isinstance(database, MariaDB)
        made = stack.enter_context(cluster(Settings(**options), database))
        for name, value in made.variables.items():
            print(f'export {name}={value}', flush=True)
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        sys.stdin.read()


if __name__ == '__main__':
    main()
