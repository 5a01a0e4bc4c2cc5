"""The local back end keeps the contract of all back ends, with real processes."""

import os
from pathlib import Path

import pytest

from xmanager.backends.local.backend import LocalBackend, create
from xmanager.testing.backend_contract import BackendContract


class TestLocalBackend(BackendContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_backend(self) -> LocalBackend:
        return create(os.environ)

    def make_unit(self, *argvs, **settings):
        return self.unit_in(self.folder, *argvs, **settings)
