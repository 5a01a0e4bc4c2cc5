"""The back end for Slurm keeps the contract from a machine that reaches its cluster by SSH only."""

import pytest
from tests.engines.slurm import Cluster
from tests.engines.sshd import Sshd, made

from xmanager.backend import Unit
from xmanager.backends.slurm.backend import SlurmBackend, create
from xmanager.testing.backend_contract import BackendContract
from xmanager.testing.backend_stage import end_of, have_ended


class TestSlurmBackendOverSsh(BackendContract):
    deadline = 60.0

    @pytest.fixture(autouse=True)
    def _laptop(self, slurm_cluster: Cluster, tmp_path):
        self.folder = tmp_path / 'laptop'
        self.backends: list[SlurmBackend] = []
        self.submitted: dict[str, Unit] = {}
        with made() as sshd:
            sshd.start(slurm_cluster.variables)
            self.sshd: Sshd = sshd
            self.missing = (f'{sshd.home}/.xmanager/no/such/program',)
            yield
            for backend in self.backends:
                backend.close()
        slurm_cluster.mend()

    def make_backend(self) -> SlurmBackend:
        environ = {name: v for name, v in self.sshd.environ.items() if name != 'SLURM_CONF'}
        self.backends.append(create({**environ, 'XM_HOME': str(self.folder)}))
        return self.backends[-1]

    def make_unit(self, *argvs, **settings):
        return self.unit_in(self.folder, *argvs, login=self.sshd.login, cwd='', **settings)

    def submit(self, backend, *units):
        refs = super().submit(backend, *units)
        self.submitted.update(refs)
        return refs

    def wait_for_output(self, unit, output):
        """Logs come here while somebody observes, as a supervisor always does; word of the start comes by itself."""
        log = unit.task_folder(unit.tasks[0]) / 'output.log'
        for _ in self._until_deadline(f'{output!r} in {log}'):
            seen = self.backends[-1].observe(self.submitted)
            mine = [seen[ref] for ref, one in self.submitted.items() if one is unit]
            has_begun = all(task.state != 'waiting' for tasks in mine for task in tasks.values())
            if has_begun and log.exists() and log.read_bytes().startswith(output):
                return
            self.pass_time(0.02)

    def test_a_backend_that_lost_its_memory_finds_what_runs_and_what_has_ended(self) -> None:
        """As for all back ends; but what has ended is told once a look has come back from there."""
        ended, running, never = (
            self.make_unit(argv) for argv in (self.exit_with_7, self.run_on, self.succeed)
        )
        backend = self.make_backend()
        submitted = self.submit(backend, ended, running)
        first = next(iter(submitted))
        self.wait(backend, submitted, lambda o: have_ended('job0')({first: o[first]}))
        fresh = self.make_backend()
        found = fresh.find([never, running, ended])
        assert found.keys() == {running.key, ended.key}
        refs = {found[ended.key]: ended, found[running.key]: running}
        self.wait(fresh, refs, lambda o: have_ended('job0')({first: o[first]}))
        assert end_of(fresh.observe(refs)[first]) == ('exited', 7, None)
        (observation,) = self.end(fresh, {found[running.key]: running})
        assert end_of(observation)[0] == 'exited'
