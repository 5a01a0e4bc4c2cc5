"""What holds for all tests."""

import itertools
import os
import signal
from pathlib import Path

import pytest
from tests.engines.bazel_workspace import bazel
from tests.engines.containers import base_image, docker, podman, podman_image
from tests.engines.registry import password_registry, registry, token_registry
from tests.engines.servers import mariadb, postgresql
from tests.engines.slurm import slurm, slurm_accounting, slurm_accounting_cluster, slurm_cluster

__all__ = [
    'base_image',
    'bazel',
    'docker',
    'mariadb',
    'password_registry',
    'podman',
    'podman_image',
    'postgresql',
    'registry',
    'slurm',
    'slurm_accounting',
    'slurm_accounting_cluster',
    'slurm_cluster',
    'token_registry',
]

# What a developer's own experiments are recorded in is none of the tests' business.
for _variable in ('XM_DATABASE_URL', 'XM_DB_YAML_CONFIG_PATH'):
    os.environ.pop(_variable, None)

# A shell starts what it runs in the background with SIGINT ignored, which all that is started here would inherit:
# tests of Ctrl-C would wait for ever in a suite that was started that way.
signal.signal(signal.SIGINT, signal.default_int_handler)


_numbers = itertools.count()


@pytest.fixture(scope='session')
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ledgers of all tests of this process are."""
    return tmp_path_factory.mktemp('ledgers')


@pytest.fixture(autouse=True)
def _home_and_ledger(ledgers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a home of its own, and this host to itself: else units of other tests would keep its CPUs."""
    name = f'{os.getpid()}-{next(_numbers)}'
    monkeypatch.setenv('XM_LOCAL_LEDGER', str(ledgers / name))
    monkeypatch.setenv('XM_HOME', str(ledgers / f'{name}-home'))
