"""The local back end keeps the contract of all back ends, with real processes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from xmanager.backends.local.backend import LocalBackend, create
from xmanager.backends.local.processes import scan_processes
from xmanager.backends.local.signals import send
from xmanager.testing.backend_contract import BackendContract
from xmanager.testing.backend_recovery_contract import PiecewiseContract


class TestLocalBackend(BackendContract, PiecewiseContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        yield
        for process in scan_processes():  # what a failed test left
            if process.mark is not None and process.mark.key.startswith(f'contract.{os.getpid()}.'):
                send(process, signal.SIGKILL)

    def make_backend(self) -> LocalBackend:
        return create(os.environ)

    def make_unit(self, *argvs, **settings):
        return self.unit_in(self.folder, *argvs, **settings)
