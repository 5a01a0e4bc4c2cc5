"""From the requirements and settings of jobs to the options of sbatch. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from xmanager.backend import DEFAULT_GRACE, Task
from xmanager.backends.slurm import durations, extra_args
from xmanager.backends.slurm.preferences import Preferences, gpus
from xmanager.errors import ExecutorError

_CPU, _RAM, _DISK, _ANY_GPU = 'cpu', 'ram', 'disk', 'local_gpu'
_NO_KIND: Final = frozenset({_CPU, _RAM, _DISK, _ANY_GPU})
_MIB = 1024**2
_SLACK = 1e-9

_NAMED: Final = ('partition', 'account', 'constraint')


def check(tasks: Sequence[Task], preferences: Preferences | None = None) -> None:
    """Raises ExecutorError for what the tasks of one unit ask for that sbatch has no word for."""
    options_of_unit(tasks, preferences)
    logins = {task.options.get('login') for task in tasks}
    if len(logins) > 1:
        told = ' and '.join(sorted(repr(login) for login in logins))
        raise ExecutorError(
            f'The jobs of one group are submitted together; these name login={told}. Give all of them the same.'
        )
    for task in tasks:
        most = task.options.get('array_parallelism')
        if most is not None and len(tasks) > 1:
            raise ExecutorError(
                f'Slurm(array_parallelism={most}) (job {task.name}): a group of several jobs is a job of its own, '
                'which no array can hold. Leave it out.'
            )


def options_of(
    task: Task, preferences: Preferences | None = None, importance: int = 0
) -> tuple[str, ...]:
    """The options of a unit of one task, a word each. Raises ExecutorError, as `check` does."""
    return options_of_unit((task,), preferences, importance)[0]


def options_of_unit(
    tasks: Sequence[Task], preferences: Preferences | None = None, importance: int = 0
) -> tuple[tuple[str, ...], ...]:
    """The options of each task, a word each; those of several tasks are components of one heterogeneous job.

    `importance` is the unit's. What names the job, its log, its environment and its array is not among them.
    """
    preferences = preferences or Preferences()
    together = (*_time(tasks), _requeue(tasks))
    # Slurm refuses a heterogeneous job that says both --mem and --mem-per-cpu.
    by_cpu = any(task.requirements.get(_RAM) and _of_node(task.options) is None for task in tasks)
    return tuple((*_of_task(task, preferences, importance, by_cpu, together),) for task in tasks)


def _of_task(
    task: Task,
    preferences: Preferences,
    importance: int,
    by_cpu: bool,
    together: Sequence[str],
) -> list[str]:
    _check_requirements(task)
    options = task.options
    extra = options.get('extra_sbatch_args') or ()
    ours = [f'--{name}={options[name]}' for name in _NAMED if options.get(name)]
    ours += [
        *_priority(options, preferences, importance, extra),
        *_layout(options),
        *_cpus_and_memory(task, by_cpu=by_cpu),
        *_gpus(task, preferences, extra),
        *together,
    ]
    extra_args.check(extra)
    extra_args.check_against(extra, ours)
    return [*ours, *extra]


def _priority(
    options: Mapping[str, Any], preferences: Preferences, importance: int, extra: Sequence[str]
) -> list[str]:
    """What the job says itself goes before what is settled for all: that may be settled anew before it is submitted."""
    tier, said = options.get('service_tier') or '', extra_args.names(extra)
    qos = options.get('qos') or (preferences.qos.get(tier) if 'qos' not in said else None)
    nice = preferences.nice_of(tier, importance) if 'nice' not in said else 0
    return [*([f'--qos={qos}'] if qos else []), *([f'--nice={nice}'] if nice else [])]


def _layout(options: Mapping[str, Any]) -> list[str]:
    words = []
    if options.get('nodes'):
        words.append(f'--nodes={options["nodes"]}')
    if _copies(options) > 1:
        words.append(f'--ntasks={_copies(options)}')
    if options.get('ntasks_per_node'):
        words.append(f'--ntasks-per-node={options["ntasks_per_node"]}')
    if options.get('exclusive'):
        words.append('--exclusive')
    return words


def _cpus_and_memory(task: Task, *, by_cpu: bool) -> list[str]:
    needs, options = task.requirements, task.options
    words = []
    cpus = _ceil(needs.get(_CPU, 0))
    if cpus:
        words.append(f'--cpus-per-task={cpus}')
    if needs.get(_RAM):  # None at all would mean all that a node has.
        of_node = _of_node(options)
        if by_cpu or of_node is None:
            words.append(f'--mem-per-cpu={_mib(needs[_RAM] / max(1, cpus))}M')
        else:
            words.append(f'--mem={_mib(needs[_RAM] * of_node)}M')
    if needs.get(_DISK):
        words.append(f'--tmp={_mib(needs[_DISK] * (_of_node(options) or 1))}M')
    return words


def _of_node(options: Mapping[str, Any]) -> int | None:
    """How many copies run on each node; None if that is up to Slurm."""
    copies = _copies(options)
    if copies in (1, options.get('nodes')):
        return 1
    stated: int | None = options.get('ntasks_per_node')
    return stated


def _gpus(task: Task, preferences: Preferences, extra: Sequence[str]) -> list[str]:
    gpu = next((n for n in task.requirements if n == _ANY_GPU or n not in _NO_KIND), None)
    if gpu is None or not task.requirements[gpu]:
        return []
    options = task.options
    each = options.get('gpus_each') or int(task.requirements[gpu])
    kind = _kind(gpu, options.get('gpu_types') or {}, preferences)
    amount = f'{kind}:{each}' if kind else str(each)
    if _copies(options) == 1:
        # Known to every Slurm, whichever plug-in selects the nodes.
        return [f'--gres=gpu:{amount}']
    words = [f'--gpus-per-task={amount}']
    if kind and 'gpu-bind' not in extra_args.names(extra):
        # Slurm 22.05 gives the tasks of a node no GPU at all where the kind is named: it reads "a100:1" as 0.
        words.append(f'--gpu-bind=per_task:{each}')
    return words


def _kind(gpu: str, by_job: Mapping[str, str], preferences: Preferences) -> str:
    """What the cluster calls the GPU; '' for any."""
    if gpu == _ANY_GPU:
        return ''
    return by_job.get(gpu, preferences.gpu_types.get(gpu, gpu))


def _time(tasks: Sequence[Task]) -> list[str]:
    """The limit of all tasks alike: those of a group lose their first component with the batch script.

    It is a net below our own timeout, which ends a task earlier. None, where one may run for as long as it likes.
    """
    stated = [task.options['time'] for task in tasks if task.options.get('time')]
    limits = [limit for task in tasks if (limit := _minutes(task.options)) is not None]
    if not limits or (len(limits) < len(tasks) and not stated):
        return []
    return [f'--time={max(limits)}']


def _minutes(options: Mapping[str, Any]) -> int | None:
    if options.get('time'):
        return durations.minutes_for(options['time'])
    if not options.get('timeout'):
        return None
    grace = options.get('grace')
    return (
        durations.minutes_for(options['timeout'] + (DEFAULT_GRACE if grace is None else grace)) + 1
    )


def _requeue(tasks: Sequence[Task]) -> str:
    """Whether Slurm may begin it anew by itself. Said in any case, for sites differ in what they do unless told."""
    for options in (task.options for task in tasks):
        causes = options.get('restart_on')
        if options.get('max_restarts') and (causes is None or 'preempted' in causes):
            return '--requeue'
    return '--no-requeue'


def _check_requirements(task: Task) -> None:
    for name, amount in task.requirements.items():
        said = f'Slurm(requirements=xm.JobRequirements({name}={amount:g})) (job {task.name})'
        if name not in _NO_KIND and name not in gpus():
            raise ExecutorError(
                f'{said}: Slurm has no {name.upper()} to give. Ask for CPUs, memory, disk, and GPUs by kind or by '
                'local_gpu; what else a cluster has, by extra_sbatch_args.'
            )
        if not math.isfinite(amount) or amount < 0:
            raise ExecutorError(f'{said}: expected a finite number that is not negative.')
        if name == _ANY_GPU and amount != int(amount):
            raise ExecutorError(
                f'{said}: Slurm gives whole GPUs. Ask for a whole number; or, where the cluster shares its GPUs, leave '
                "it out and say extra_sbatch_args=['--gres=shard:1'], as the cluster calls it."
            )


def _copies(options: Mapping[str, Any]) -> int:
    return int(options.get('replicas') or 1)


def _ceil(amount: float) -> int:
    return math.ceil(amount - _SLACK)


def _mib(amount: float) -> int:
    return max(1, _ceil(amount / _MIB))
