"""The back end for Slurm keeps the contract from a machine that reaches its cluster by SSH only."""

import pytest
from tests.engines.slurm import Cluster
from tests.engines.sshd import Sshd, made

from xmanager.backends.slurm.backend import SlurmBackend, create
from xmanager.testing.backend_contract import BackendContract


class TestSlurmBackendOverSsh(BackendContract):
    deadline = 60.0
    missing = ('/usr/bin/no-such-program',)

    @pytest.fixture(autouse=True)
    def _laptop(self, slurm_cluster: Cluster, tmp_path):
        self.folder = tmp_path / 'laptop'
        self.backends: list[SlurmBackend] = []
        with made() as sshd:
            sshd.start(slurm_cluster.variables)
            self.sshd: Sshd = sshd
            yield
            for backend in self.backends:
                backend.close()
        slurm_cluster.mend()

    def make_backend(self) -> SlurmBackend:
        environ = {name: v for name, v in self.sshd.environ.items() if name != 'SLURM_CONF'}
        self.backends.append(create({**environ, 'XM_HOME': str(self.folder)}))
        return self.backends[-1]

    def make_unit(self, *argvs, **settings):
        login = {'login': self.sshd.login, 'cwd': ''}
        return self.unit_in(self.folder, *argvs, **login, **settings)
