"""What back ends and frameworks do with jobs and groups: copy, name, flatten, filter."""

from __future__ import annotations

import copy
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import TypeGuard, TypeVar

import attrs

from xmanager.xm.jobs import Constraint, Job, JobConfig, JobGeneratorType, JobGroup, JobType

_OfJobs = TypeVar('_OfJobs', bound=JobType)


def is_job_generator(job: object) -> TypeGuard[JobGeneratorType]:
    """Whether `job` is an async function, a partial of one, or an object with an async call."""
    while isinstance(job, functools.partial):
        job = job.func
    if inspect.iscoroutinefunction(job):
        return True
    return callable(job) and inspect.iscoroutinefunction(type(job).__call__)


def shallow_copy_job_type(job_type: _OfJobs) -> _OfJobs:
    """Copies jobs and groups all the way down; executables, executors and generators are shared."""
    if not isinstance(job_type, Job | JobGroup | JobConfig):
        return job_type
    copied = copy.copy(job_type)
    if isinstance(copied, Job):
        copied.env_vars = dict(copied.env_vars)
    elif isinstance(copied, JobGroup):
        copied.constraints = list(copied.constraints)
        copied.jobs = {name: shallow_copy_job_type(member) for name, member in copied.jobs.items()}
    return copied


def populate_job_names(job_type: JobType) -> None:
    """Names each job that has no name: by its path in the group, or by its executable."""
    if isinstance(job_type, Job):
        job_type.name = job_type.name or job_type.executable.name
    elif isinstance(job_type, JobGroup):
        for path, job in _walk(job_type):
            if isinstance(job, Job):
                job.name = job.name or '_'.join(path)


def flatten_jobs(job_group: JobType) -> list[Job]:
    """All jobs in the order in which they were written.

    Raises TypeError for a group that holds anything but jobs and groups.
    """
    jobs = []
    for path, job in _walk(job_group):
        if not isinstance(job, Job):
            raise TypeError(
                f'{".".join(path) or "The job"} is {job!r}, of type {type(job).__name__}. '
                'Expected an xm.Job or an xm.JobGroup.'
            )
        jobs.append(job)
    return jobs


def collect_jobs_by_filter(job_group: JobType, predicate: Callable[[Job], bool]) -> list[Job]:
    """The jobs for which `predicate` holds, in the order in which they were written."""
    return [job for job in flatten_jobs(job_group) if predicate(job)]


def get_jobs(job_group: JobGroup) -> dict[str, JobType]:
    """Jobs by name, and job configs by their key in the group; ValueError if two share a name."""
    by_name: dict[str, JobType] = {}
    for path, job in _walk(job_group):
        name = job.name if isinstance(job, Job) else path[-1]
        if name in by_name:
            raise ValueError(
                f'Two jobs of the group are called {name!r}. Give each xm.Job a `name` of its own.'
            )
        by_name[name] = job
    return by_name


def _walk(job: JobType, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], JobType]]:
    """Everything in a group that is not itself a group, with the keys that lead to it."""
    if not isinstance(job, JobGroup):
        yield path, job
        return
    for name, member in job.jobs.items():
        yield from _walk(member, (*path, name))


@attrs.define(slots=False)
class ConstraintClique:
    """A constraint and the jobs it holds for.

    `group_name` is unique to the group, `size` the number of its direct members, and
    `parent_group_name` the name of the group around it if that has constraints too.
    """

    constraint: Constraint
    jobs: list[Job]
    group_name: str | None = None
    size: int | None = None
    parent_group_name: str | None = None


def aggregate_constraint_cliques(job_group: JobType) -> list[ConstraintClique]:
    """One clique for each constraint in the group and its subgroups, outer ones first."""
    cliques: list[ConstraintClique] = []
    seen = 0

    def visit(group: JobType, parent_name: str | None) -> None:
        nonlocal seen
        if not isinstance(group, JobGroup):
            return
        name = f'jobgroup_{seen}_{os.urandom(16).hex()}' if group.constraints else None
        seen += 1
        for constraint in group.constraints:
            jobs, size = flatten_jobs(group), len(group.jobs)
            cliques.append(ConstraintClique(constraint, jobs, name, size, parent_name))
        for member in group.jobs.values():
            visit(member, name)

    visit(job_group, None)
    return cliques
