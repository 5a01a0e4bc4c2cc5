"""The local back end keeps the contract of all back ends with containers too, of a real engine."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.engines.containers import remove_all

from xmanager.backends.local.backend import LocalBackend, create
from xmanager.backends.local.processes import scan_processes
from xmanager.backends.local.signals import send
from xmanager.containers import Engine
from xmanager.testing.backend_contract import BackendContract
from xmanager.testing.backend_recovery_contract import PiecewiseContract
from xmanager.testing.backend_stage import BackendStage, end_of


class ContainerStage(BackendStage):
    """Every command of the suite is the arguments of an image without an entry point."""

    engine: Engine
    image: str

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path / 'experiments' / '1'
        self.folder.mkdir(parents=True)
        yield
        for process in scan_processes():  # what a failed test left
            if process.mark is not None and process.mark.key.startswith(f'contract.{os.getpid()}.'):
                send(process, signal.SIGKILL)
        assert remove_all(self.engine, tmp_path) == []

    def make_backend(self) -> LocalBackend:
        return create(os.environ)

    def make_unit(self, *argvs, **settings):
        unit = self.unit_in(self.folder, *argvs, **settings)
        executable = {'kind': 'image', 'image': self.image, 'engine': self.engine.url}
        tasks = (attrs.evolve(task, cwd='', executable=executable) for task in unit.tasks)
        return attrs.evolve(unit, tasks=tuple(tasks))


class TestDockerContainers(ContainerStage, BackendContract, PiecewiseContract):
    @pytest.fixture(autouse=True)
    def _engine(self, docker: Engine, base_image: str) -> None:
        self.engine, self.image = docker, base_image

    def test_a_group_of_which_one_task_can_not_start_is_rejected_whole(self) -> None:
        """An engine tells only when it starts a container: the job at fault fails then."""
        backend = self.make_backend()
        unit = self.make_unit(self.succeed, self.missing)
        (observation,) = self.wait_for_end(backend, self.submit(backend, unit))
        assert end_of(observation) == ('exited', 0, None)
        assert end_of(observation, 'job1') == ('exited', 127, None)
        assert b'/no/such/program' in (unit.folder / 'job1' / 'output.log').read_bytes()


class TestPodmanContainers(ContainerStage):
    """Part of the contract: the keeper is the same, the engine's answers differ."""

    @pytest.fixture(autouse=True)
    def _engine(self, podman: Engine, podman_image: str) -> None:
        self.engine, self.image = podman, podman_image

    test_exit_code = BackendContract.test_a_unit_runs_and_its_exit_code_is_told
    test_arguments = BackendContract.test_arguments_arrive_byte_for_byte
    test_stop = BackendContract.test_a_stop_ends_all_tasks
    test_kill = BackendContract.test_what_ignores_term_is_killed_after_the_grace_time
    test_another_attempt = BackendContract.test_another_attempt_is_another_submission
    test_successor = BackendContract.test_a_unit_that_is_submitted_again_runs_once
    wait_until_term_is_ignored = BackendContract.wait_until_term_is_ignored
