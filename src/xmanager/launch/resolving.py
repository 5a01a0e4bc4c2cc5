"""What experiments of `xm_local` share, recorded or planned: executables are packaged, jobs resolved and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import attrs

from xmanager import packaging
from xmanager.backend import Backend, Task
from xmanager.backends import load
from xmanager.launch import planning, seen, settings
from xmanager.launch.packing_progress import PackingProgress
from xmanager.launch.resolve import check_names, resolve
from xmanager.store import Home
from xmanager.xm.executables import Executable
from xmanager.xm.experiment import Experiment, refuse_job_config
from xmanager.xm.job_operators import populate_job_names
from xmanager.xm.jobs import JobConfig, JobType
from xmanager.xm.packageables import Packageable
from xmanager.xm.roles import AuxiliaryUnitRole, ExperimentUnitRole


class ResolvingExperiment(Experiment):
    """Knows the back ends, and what a job becomes there."""

    def __init__(self) -> None:
        super().__init__()
        self._backends: dict[str, Backend] = {}
        self._queueing: dict[str, bool] = {}

    @classmethod
    def _package(cls, packageables: Sequence[Packageable]) -> list[Executable]:
        with PackingProgress() as progress:
            workshop = packaging.Workshop(Home.locate().path, _environ(), progress.tell)
            plan = planning.current()
            if plan is None:
                return [*packaging.package(packageables, workshop)]
            return [*plan.package(packageables, workshop)]

    def _prepare_job(self, job: JobType, role: ExperimentUnitRole) -> tuple[str, tuple[Task, ...]]:
        if isinstance(job, JobConfig):
            raise refuse_job_config(job)
        return self.resolve_for(job, role)

    def resolve_for(
        self, job: JobType, role: ExperimentUnitRole, beside: Sequence[Task] = ()
    ) -> tuple[str, tuple[Task, ...]]:
        """The back end and the tasks of a job; raises ExecutorError if they can never run.

        `job` is nobody else's: its jobs are given their names. `beside` are the tasks that the unit has already.
        """
        populate_job_names(job)
        backend, tasks = resolve(job)
        if isinstance(role, AuxiliaryUnitRole):
            tasks = tuple(_beside_the_work(task) for task in tasks)
        check_names([*beside, *tasks])
        if backend == 'slurm':
            seen.check(tasks, Home.locate().path, settings.get('shared'))
        self._check(backend, [*beside, *tasks])
        return backend, tasks

    def queues_itself(self, backend: str) -> bool:
        """Whether the units of this back end wait in a queue of its own, which goes on without us."""
        if backend not in self._queueing:
            self._queueing[backend] = self._backend(backend).capacity() is None
        return self._queueing[backend]

    def _check(self, backend: str, tasks: Sequence[Task]) -> None:
        self._backend(backend).check(tasks)

    def _backend(self, name: str) -> Backend:
        if name not in self._backends:
            self._backends[name] = load(name, self._environ())
        return self._backends[name]

    def _environ(self) -> Mapping[str, str]:
        """The environment in which back ends are to work."""
        return _environ()


def _environ() -> dict[str, str]:
    environ = dict(os.environ)
    settings.export(environ)
    return environ


def _beside_the_work(task: Task) -> Task:
    """An auxiliary job that states no CPUs takes none of the work's."""
    return attrs.evolve(task, requirements={'cpu': 0.0, **task.requirements})
