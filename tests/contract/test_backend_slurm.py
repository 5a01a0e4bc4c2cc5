"""The back end for Slurm keeps the contract of all back ends, on a real cluster."""

import os

import pytest

from xmanager.backends.slurm.backend import SlurmBackend, create
from xmanager.testing.backend_contract import BackendContract


class TestSlurmBackend(BackendContract):
    deadline = 60.0

    @pytest.fixture(autouse=True)
    def _folder(self, slurm, tmp_path):
        self.folder = tmp_path
        self.missing = (f'{tmp_path}/no/such/program',)
        self.backends: list[SlurmBackend] = []
        yield
        for backend in self.backends:
            backend.close()

    def make_backend(self) -> SlurmBackend:
        self.backends.append(create(os.environ))
        return self.backends[-1]

    def make_unit(self, *argvs, **settings):
        return self.unit_in(self.folder, *argvs, **settings)
