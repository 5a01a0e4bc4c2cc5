"""Jobs, groups of jobs, and the other things that `experiment.add` takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Union

import attrs

from xmanager.xm.arguments import SequentialArgs, as_arguments
from xmanager.xm.environment import checked_env_vars
from xmanager.xm.executables import Executable, Executor


def _name_or_empty(name: str | None) -> str:
    return name or ''


@attrs.define(slots=False)
class Job:
    """One program to run: an executable, on an executor, with arguments and environment.

    Attributes may be assigned until the job is added, which copies it. An empty `name` stands for
    the executable's, and inside a group for the path of keys joined with `_`.
    """

    executable: Executable
    executor: Executor
    name: str = attrs.field(default='', converter=_name_or_empty)
    args: SequentialArgs = attrs.field(factory=SequentialArgs, converter=as_arguments)
    env_vars: dict[str, Any] = attrs.field(factory=dict, converter=checked_env_vars)


class Constraint:
    """A wish about all jobs of a group together, such as being placed close to one another."""


class JobConfig:
    """A description of jobs that only an experiment's own implementation understands."""


class JobGroup:
    """Jobs that start and stop together, by name, nested as deep as one likes."""

    def __init__(self, *, constraints: Sequence[Constraint] | None = None, **jobs: JobType) -> None:
        self.constraints: list[Constraint] = list(constraints or ())
        self.jobs: dict[str, JobType] = jobs

    def __repr__(self) -> str:
        parts = [f'constraints={self.constraints!r}'] if self.constraints else []
        parts += [f'{name}={job!r}' for name, job in self.jobs.items()]
        return f'JobGroup({", ".join(parts)})'


JobGeneratorType = Callable[..., Awaitable[Any] | None]
JobType = Union[Job, JobGroup, JobGeneratorType, JobConfig]  # noqa: UP007


@attrs.frozen(slots=False, kw_only=True)
class LaunchedJob:
    """A job as its back end knows it; `address` and `logs` are None where there are none."""

    name: str
    address: str | None = None
    logs: str | None = None


def get_args_for_all_jobs(job: JobType, args: dict[str, Any]) -> dict[str, Any]:
    """The value for `experiment.add(job, args=…)` that gives the same `args` to every job."""
    if isinstance(job, JobGroup):
        return {name: get_args_for_all_jobs(member, args) for name, member in job.jobs.items()}
    return {'args': args}
