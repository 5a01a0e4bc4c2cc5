"""From a job as the script wrote it to the task that will run: argv, environment, requirements, options."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from xmanager.backend import Task
from xmanager.errors import ExecutorError
from xmanager.packaging import Packaged
from xmanager.store import masking
from xmanager.xm.arguments import SequentialArgs, merge_args
from xmanager.xm.environment import Secret, env_strings
from xmanager.xm.executables import Executor
from xmanager.xm.job_operators import flatten_jobs
from xmanager.xm.jobs import Job, JobType
from xmanager.xm.resource_types import ResourceType

logger = logging.getLogger(__name__)

# These two have two names each; the contract of back ends uses the shorter one.
_SPOKEN = {ResourceType.RAM: 'ram', ResourceType.DISK: 'disk'}

_warned: set[str] = set()


def resolve(job: JobType) -> tuple[str, tuple[Task, ...]]:
    """The back end's name and the tasks of a job or group whose arguments were applied and names populated.

    Raises ExecutorError for a missing secret, for jobs that can't run together, and for a group of none.
    """
    jobs = flatten_jobs(job)
    if not jobs:
        raise ExecutorError(f'{job!r} holds no job. Put an xm.Job into it.')
    executors = [_executor(job) for job in jobs]
    backends = {executor.backend for executor in executors}
    if len(backends) != 1:
        raise ExecutorError(
            f'The jobs of one group must run on one back end; these ask for {", ".join(sorted(backends))}. '
            'Add them as units of their own.'
        )
    return backends.pop(), tuple(map(_task, jobs, executors))


def recorded(args: Any) -> Any:
    """The arguments of a unit as they may be written down: secrets by name, `xm.SequentialArgs` as what they hold."""
    if isinstance(args, Secret):
        return masking.placeholder(args.name)
    if isinstance(args, Mapping):
        return {name: recorded(value) for name, value in args.items()}
    if isinstance(args, SequentialArgs):
        keywords = args.to_dict(kwargs_only=True)
        return recorded(keywords) if len(keywords) == len(args.to_dict()) else args.to_argv()
    return args


def check_names(tasks: Sequence[Task]) -> None:
    """Raises ExecutorError unless each job of a unit can have a folder of its name."""
    seen: set[str] = set()
    for name in (task.name for task in tasks):
        if name in seen:
            raise ExecutorError(
                f'Two jobs of one unit are called {name!r}. Give each xm.Job a `name` of its own.'
            )
        if name in ('.', '..') or '/' in name or '\0' in name or len(os.fsencode(name)) > 255:
            raise ExecutorError(
                f'xm.Job(name={name!r}): the folder of a job has its name, and no folder can be called so. '
                'Use at most 255 bytes without a slash.'
            )
        seen.add(name)


def _executor(job: Job) -> Executor:
    executor = job.executor
    is_ours = all(hasattr(executor, name) for name in ('cwd', 'options', 'requirements'))
    if not getattr(executor, 'backend', '') or not is_ours:
        raise ExecutorError(
            f'{type(executor).__name__} is no executor that this version can run. '
            'Use xm_local.Local() or xm_local.Slurm().'
        )
    return executor


def _task(job: Job, executor: Any) -> Task:
    executable = job.executable
    if not isinstance(executable, Packaged):
        raise ExecutorError(
            f'{type(executor).__name__} cannot run the executable {executable.name!r} '
            f'({type(executable).__name__}). Package it by experiment.package([…]) for this executor.'
        )
    environment = env_strings({**executable.env, **executable.env_vars, **job.env_vars})
    values = {name: value for name, value in environment.items() if isinstance(value, str)}
    _warn_of_plain_secrets(values)
    return Task(
        name=job.name,
        full_name='',
        argv=(*executable.command, *merge_args(executable.args, job.args).to_argv()),
        cwd=_cwd(executable, executor),
        env=values,
        secrets=_secrets(environment),
        requirements=requirements_of(executor),
        options=executor.options(),
        executable=dict(executable.facts),
    )


def _cwd(executable: Packaged, executor: Any) -> str:
    if (
        executable.facts.get('kind') == 'image'
    ):  # A path in the image, which a dry run does not make.
        return str(executor.cwd or '')
    if executor.cwd:
        login = getattr(executor, 'login', None)
        if login and not os.path.isabs(executor.cwd):
            raise ExecutorError(
                f'{type(executor).__name__}(cwd={str(executor.cwd)!r}, login={login!r}): expected an absolute path, '
                'as it is on that machine.'
            )
        return str(os.path.abspath(executor.cwd))
    return executable.cwd or os.getcwd()


def requirements_of(executor: Any) -> dict[str, float]:
    """The amounts that an executor asks for, by the names that back ends use."""
    amounts = executor.requirements.task_requirements
    return {
        _SPOKEN.get(resource, resource.name.lower()): float(amount)
        for resource, amount in amounts.items()
    }


def _secrets(environment: Mapping[str, str | Secret]) -> dict[str, str]:
    secrets = {name: v.name for name, v in environment.items() if isinstance(v, Secret)}
    for variable, name in secrets.items():
        if name not in os.environ:
            raise ExecutorError(
                f'env_vars[{variable!r}] = xm.Secret({name!r}): {name} is not set in the environment of this script. '
                f'Run `export {name}=…` first.'
            )
    return secrets


def _warn_of_plain_secrets(values: Mapping[str, str]) -> None:
    for name in values:
        if masking.looks_secret(name) and name not in _warned:
            _warned.add(name)
            logger.warning(
                'env_vars[%r] looks like a secret and is recorded as given (it is masked in every view). '
                'Give it as xm.Secret(%r) and it is never recorded.',
                name,
                name,
            )
