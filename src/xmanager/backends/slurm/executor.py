"""What users write to run a job on a cluster: `xm_local.Slurm`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import attrs

from xmanager.backends.slurm import container_options, durations, extra_args
from xmanager.backends.slurm.container_options import ContainerOptions
from xmanager.errors import ExecutorError, NotFoundError
from xmanager.xm.executables import Executor, ExecutorSpec
from xmanager.xm.limits import Limits, check_duration
from xmanager.xm.resource_types import GpuType, ResourceType
from xmanager.xm.resources import JobRequirements

# What Slurm's own names are made of; and no option may be smuggled in, nor a line into a script.
_WORD = re.compile(r'(?!-)[^\s\x00-\x1f\x7f]+')

Words = Sequence[str]


@attrs.define(slots=False)
class SlurmSpec(ExecutorSpec):
    """Packages for a cluster: what is made lies in a folder that its nodes see (`$XM_SHARED`, else the home)."""

    backend: ClassVar[str] = 'slurm'


def _check_requirements(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, JobRequirements):
        raise TypeError(
            f'Slurm(requirements={value!r}): expected xm.JobRequirements(...), e.g. with a100=1.'
        )
    _check_placeable(value)


def _check_placeable(requirements: JobRequirements) -> None:
    """Raises ExecutorError for what clusters have no common word for."""
    if requirements.location is not None:
        raise ExecutorError(
            f'Slurm(requirements=xm.JobRequirements(location={requirements.location!r})): a cluster has no locations. '
            'Leave it out, and name a partition= or the constraint= that its nodes fulfil.'
        )
    of_accelerator = requirements.accelerator not in (None, ResourceType.LOCAL_GPU)
    if requirements.architecture is not None and not of_accelerator:
        raise ExecutorError(
            f'Slurm(requirements=xm.JobRequirements(architecture={requirements.architecture})): what the processors of '
            'nodes are called is up to each cluster. Leave it out, and say it as constraint=.'
        )


def _check_word(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    said = f'Slurm({attribute.name}={value!r})'
    if not isinstance(value, str):
        raise TypeError(f'{said}: expected text, or None.')
    if not _WORD.fullmatch(value):
        raise ExecutorError(f'{said}: expected one word, without spaces or a dash in front.')


def _check_count(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    said = f'Slurm({attribute.name}={value!r})'
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'{said}: expected a whole number, or None.')
    if value < 1:
        raise ExecutorError(f'{said}: expected 1 or more.')


def _check_switch(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f'Slurm({attribute.name}={value!r}): expected True or False.')


def _check_time(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    _time_in_seconds(value)


def _time_in_seconds(value: Any) -> float | None:
    if value is None:
        return None
    expected = (
        "expected seconds, a timedelta, or text of Slurm's such as '1-02:00:00' or '90' (minutes)."
    )
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, str):
        try:
            seconds = durations.seconds_of(seconds)
        except ValueError:
            raise ExecutorError(f'Slurm(time={value!r}): {expected}') from None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f'Slurm(time={value!r}): {expected}')
    # Not a number compares false. Slurm counts minutes in 32 bits.
    if not 0 < seconds < 60 * 2**31:
        raise ExecutorError(f'Slurm(time={value!r}): expected more than no time, and an end to it.')
    return float(seconds)


def _check_extra(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    extra_args.check(_texts('extra_sbatch_args', value, "['--mail-type=END']"))


def _check_setup(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    for line in _texts('setup', value, "['module load cuda']"):
        if '\0' in line:
            raise ExecutorError(
                f'Slurm(setup={value!r}): {line!r} holds a NUL, which no shell reads.'
            )


def _texts(name: str, value: Any, example: str) -> Words:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f'Slurm({name}={value!r}): expected a list of texts, such as {example}.')
    for one in value:
        if not isinstance(one, str):
            raise TypeError(f'Slurm({name}={value!r}): {one!r} is no text.')
    return value


def _check_gpu_types(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    _gpu_types(value)


def _gpu_types(value: Any) -> dict[str, str]:
    """The cluster's names by those of `Task.requirements`."""
    said = f'Slurm(gpu_types={value!r})'
    if not isinstance(value, Mapping):
        raise TypeError(f"{said}: expected a dict such as {{'A100_80GIB': 'a100_80'}}.")
    names: dict[str, str] = {}
    for gpu, name in value.items():
        try:
            known = gpu if isinstance(gpu, ResourceType) else GpuType[gpu]
        except NotFoundError:
            known = None
        if known is None or known not in GpuType:
            raise ExecutorError(f'{said}: {gpu!r} is none of xm.GpuType.')
        if not isinstance(name, str) or not re.fullmatch(r'[A-Za-z0-9_.-]*', name):
            raise ExecutorError(
                f'{said}: {name!r} is no name of a kind of GPU. See `sinfo -o %G`: in gpu:a100:4 it is a100; '
                "'' where the cluster names none."
            )
        names[known.name.lower()] = name
    return names


def _check_docker_options(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not callable(getattr(value, 'as_json', None)):
        raise TypeError(
            f'Slurm(docker_options={value!r}): expected xm_local.DockerOptions(...), or None.'
        )
    container_options.recorded(value)


def _check_cwd(instance: Slurm, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError(f'Slurm(cwd={value!r}): expected a path, or None.')


@attrs.define(slots=False)
class Slurm(Limits, Executor):
    """Runs a job on the cluster to which this machine, or that of `login`, submits.

    `requirements` become options of sbatch: CPUs, memory and GPUs of each copy, of which there are as many as its
    `replicas`, or as `nodes` times `ntasks_per_node` make. `gpu_types` says what the cluster calls a kind of GPU, where
    that is not its name in lower case. `partition`, `account`, `qos`, `constraint` and `exclusive` are sbatch's own;
    `extra_sbatch_args` are further options of it, each in one word (`'--mail-type=END'`).

    `time` is the limit that Slurm is told: seconds, a timedelta, or text as Slurm reads it. Unless it is stated, it
    follows from `timeout`. `setup` are lines of bash that run on the node before the program (`'module load cuda'`).
    Units that differ in arguments only become one job array; `array_parallelism` is how many of it run at once.
    `login` is the machine to submit on, as ssh knows it: `'user@host'`, or a name of its configuration.

    `cwd` is the folder it starts in; for a container, one of its image. Without `experimental_stream_output` its output
    goes to its log only, not to the launcher's terminal. Retries, timeout and warning are told in `Limits`.
    """

    backend: ClassVar[str] = 'slurm'
    Spec: ClassVar[type[SlurmSpec]] = SlurmSpec

    # Those that `Local` takes by position come first, in its order: a script changes the name only.
    requirements: JobRequirements = attrs.field(
        factory=JobRequirements, validator=_check_requirements
    )
    docker_options: ContainerOptions | None = attrs.field(
        default=None, validator=_check_docker_options
    )
    experimental_stream_output: bool = True
    timeout: float | timedelta | None = attrs.field(default=None, validator=check_duration)
    grace: float | timedelta | None = attrs.field(default=None, validator=check_duration)
    cwd: str | os.PathLike[str] | None = attrs.field(default=None, validator=_check_cwd)

    partition: str | None = attrs.field(default=None, validator=_check_word, kw_only=True)
    account: str | None = attrs.field(default=None, validator=_check_word, kw_only=True)
    qos: str | None = attrs.field(default=None, validator=_check_word, kw_only=True)
    time: float | timedelta | str | None = attrs.field(
        default=None, validator=_check_time, kw_only=True
    )
    constraint: str | None = attrs.field(default=None, validator=_check_word, kw_only=True)
    nodes: int | None = attrs.field(default=None, validator=_check_count, kw_only=True)
    ntasks_per_node: int | None = attrs.field(default=None, validator=_check_count, kw_only=True)
    exclusive: bool = attrs.field(default=False, validator=_check_switch, kw_only=True)
    gpu_types: Mapping[str | ResourceType, str] = attrs.field(
        factory=dict, validator=_check_gpu_types, kw_only=True
    )
    extra_sbatch_args: Words = attrs.field(default=(), validator=_check_extra, kw_only=True)
    setup: Words = attrs.field(default=(), validator=_check_setup, kw_only=True)
    array_parallelism: int | None = attrs.field(default=None, validator=_check_count, kw_only=True)
    login: str | None = attrs.field(default=None, validator=_check_word, kw_only=True)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._check_all()

    def options(self) -> dict[str, Any]:
        """As `Limits.options`, and JSON values of what stands here: `time` in seconds, amounts of each copy.

        `replicas` is how many copies run; `gpus_each` how many GPUs each has, where `Task.requirements` counts those of
        all hosts of a topology; `service_tier` a name in lower case.
        """
        self._check_all()  # again: each may have been assigned since, or changed in place
        options = {
            **super().options(),
            'stream_output': self.experimental_stream_output,
            'replicas': self._replicas(),
            'gpus_each': self._gpus_each(),
            'service_tier': self.requirements.service_tier.name.lower(),
            'time': _time_in_seconds(self.time),
            'gpu_types': _gpu_types(self.gpu_types),
            'extra_sbatch_args': list(self.extra_sbatch_args),
            'setup': list(self.setup),
            'cwd': '' if self.cwd is None else os.fspath(self.cwd),
            **{name: getattr(self, name) for name in _AS_THEY_ARE},
        }
        if self.docker_options is not None:
            options['docker'] = container_options.recorded(self.docker_options)
        return options

    def _check_all(self) -> None:
        attrs.validate(self)
        self._check_time_and_timeout()
        self._replicas()

    def _check_time_and_timeout(self) -> None:
        time = _time_in_seconds(self.time)
        timeout = super().options()['timeout']
        if time is not None and timeout is not None and time < timeout:
            raise ExecutorError(
                f'Slurm(timeout={self.timeout!r}, time={self.time!r}): Slurm would end the job before its timeout. '
                'Leave time out, which then follows from timeout, or ask for more.'
            )

    def _replicas(self) -> int:
        """How many copies run. Raises ExecutorError if requirements and nodes say different things."""
        stated = self.requirements.replicas
        laid_out = (self.nodes or 1) * (self.ntasks_per_node or 1)
        if stated == 1:
            return laid_out
        is_whole = self.nodes is not None and self.ntasks_per_node is not None
        if (is_whole and laid_out != stated) or (self.nodes or 1) > stated:
            raise ExecutorError(
                f'Slurm(nodes={self.nodes!r}, ntasks_per_node={self.ntasks_per_node!r}): that is room for {laid_out} '
                f'copies, and the requirements ask for {stated}. Leave one of them out.'
            )
        return stated

    def _gpus_each(self) -> int | None:
        """Of a topology of several hosts; None where the requirements tell it."""
        accelerator, topology = self.requirements.accelerator, self.requirements.topology
        if accelerator is None or accelerator not in GpuType or topology is None:
            return None
        amount = self.requirements.task_requirements.get(accelerator)
        # An amount may have been assigned since, and then the topology says nothing.
        return topology.dimensions[0] if amount == topology.chip_count else None


_AS_THEY_ARE = (
    *('partition', 'account', 'qos', 'constraint', 'nodes', 'ntasks_per_node', 'exclusive'),
    *('array_parallelism', 'login'),
)
