"""The `args` of `experiment.add(job, args=…)`: how they change a job, and what is shown of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from xmanager.xm.arguments import merge_args
from xmanager.xm.executables import ExecutableSpec
from xmanager.xm.job_operators import is_job_generator, shallow_copy_job_type
from xmanager.xm.jobs import Job, JobConfig, JobGroup, JobType
from xmanager.xm.packageables import Packageable

_OfJobs = TypeVar('_OfJobs', bound=JobType)

_JOB_KEYS = ('args', 'env_vars')


def apply_args(job: _OfJobs, args: Mapping[str, Any] | None) -> _OfJobs:
    """Returns a copy of `job` with the overrides merged in; generators and configs as they are.

    Keys are `args` and `env_vars` for a job, and names of jobs, recursively, for a group. Raises
    ValueError for any other key.
    """
    copied = shallow_copy_job_type(job)
    _merge_into(copied, {} if args is None else args, path='')
    return copied


def _merge_into(job: JobType, args: Mapping[str, Any], path: str) -> None:
    if isinstance(job, Job):
        _check_keys(args, _JOB_KEYS, f'xm.Job{path}')
        if args.get('args') is not None:
            job.args = merge_args(job.args, args['args'])
        if args.get('env_vars'):
            job.env_vars = {**job.env_vars, **args['env_vars']}
    elif isinstance(job, JobGroup):
        _check_keys(args, job.jobs, f'xm.JobGroup{path}')
        for name, member in job.jobs.items():
            _merge_into(member, args.get(name) or {}, f'{path}[{name!r}]')


def _check_keys(args: Mapping[str, Any], allowed: Collection[str], owner: str) -> None:
    if not isinstance(args, Mapping):
        raise TypeError(
            f'add(args=…): {owner} is given {args!r}, of type {type(args).__name__}. '
            f'Expected a mapping with the keys {sorted(allowed)}.'
        )
    unknown = sorted(str(key) for key in args if key not in allowed)
    if unknown and allowed is _JOB_KEYS:
        raise ValueError(
            f'add(args=…): {owner} does not take {unknown}. Allowed are {sorted(allowed)}: command-line '
            f"arguments go inside, args={{'args': {{{unknown[0]!r}: …}}}}."
        )
    if unknown:
        raise ValueError(
            f'add(args=…): {owner} does not take {unknown}. Allowed are {sorted(allowed)}.'
        )


def shown_args(job: JobType, args: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is shown as a unit's arguments.

    The `args` given, as they are (a copy of the mapping); else what the job itself says: keyword
    arguments and environment, less what is empty, nested by name in groups.
    """
    return dict(args) if args is not None else _own_args(job)


def _own_args(job: JobType) -> dict[str, Any]:
    if isinstance(job, Job):
        own = {'args': job.args.to_dict(kwargs_only=True), 'env_vars': dict(job.env_vars)}
    elif isinstance(job, JobGroup):
        own = {name: _own_args(member) for name, member in job.jobs.items()}
    else:
        own = {}
    return {name: value for name, value in own.items() if value}


def validate_job(job: object) -> None:
    """Raises when `job` is nothing that `experiment.add` takes.

    ValueError for a function that is not async, which is nearly a job generator; TypeError for
    whatever is no job at all, and for a job whose executable was not packaged.
    """
    if isinstance(job, Job):
        _check_executable(job)
    elif isinstance(job, JobGroup):
        for name, member in job.jobs.items():
            _validate_member(name, member)
    elif callable(job) and not is_job_generator(job):
        raise ValueError(
            f'{job!r} is not async. A job generator has the form '
            '`async def make_jobs(work_unit: xm.WorkUnit, **args) -> None`.'
        )
    elif not callable(job) and not isinstance(job, JobConfig):
        raise TypeError(
            f'{job!r}, of type {type(job).__name__}, is no job. '
            'Expected an xm.Job, an xm.JobGroup or an async job generator.'
        )


def _validate_member(name: str, member: object) -> None:
    if is_job_generator(member):
        raise TypeError(
            f'xm.JobGroup({name}={member!r}): a group holds jobs and groups. '
            'Add the job generator to the experiment, and the group from inside it.'
        )
    validate_job(member)


def _check_executable(job: Job) -> None:
    executable: object = job.executable
    kind = type(executable).__name__
    if isinstance(executable, Packageable | ExecutableSpec):
        raise TypeError(
            f'xm.Job(executable={kind}(…)) is not packaged yet. '
            'Write `[executable] = experiment.package([…])` and pass what that returns.'
        )
    if isinstance(executable, list | tuple):
        raise TypeError(
            'xm.Job(executable=…) is given a list, as experiment.package([…]) returns it. '
            'Write `[executable] = experiment.package([…])`.'
        )
    if hasattr(executable, '__await__'):
        raise TypeError(
            f'xm.Job(executable={kind}) is still to be awaited. '
            'Call `experiment.package()`, then pass `await executable`.'
        )
