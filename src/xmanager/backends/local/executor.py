"""What users write to run a job on this machine: `xm_local.Local`."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, ClassVar

import attrs

from xmanager.backends.local.docker_options import DockerOptions
from xmanager.errors import ExecutorError
from xmanager.xm.executables import Executor, ExecutorSpec
from xmanager.xm.limits import Limits, check_duration
from xmanager.xm.resources import JobRequirements


@attrs.define(slots=False)
class LocalSpec(ExecutorSpec):
    """Packages for this machine."""

    backend: ClassVar[str] = 'local'


def _check_requirements(instance: Local, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, JobRequirements):
        raise TypeError(
            f'Local(requirements={value!r}): expected xm.JobRequirements(...), e.g. with local_gpu=1.'
        )
    _check_replicas(value)


def _check_replicas(requirements: JobRequirements) -> None:
    if requirements.replicas > 1:
        raise ExecutorError(
            f'Local(requirements=xm.JobRequirements(replicas={requirements.replicas})): one machine runs one copy '
            f'of a job; add it {requirements.replicas} times or use a JobGroup.'
        )


def _check_docker_options(instance: Local, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, DockerOptions):
        raise TypeError(
            f'Local(docker_options={value!r}): expected xm_local.DockerOptions(...), or None.'
        )


def _check_cwd(instance: Local, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError(f'Local(cwd={value!r}): expected a path, or None.')


@attrs.define(slots=False)
class Local(Limits, Executor):
    """Runs a job on this machine, when the resources it asks for are free.

    `cwd` is the folder it starts in; for a container, one of its image. Without `experimental_stream_output` its output
    goes to its log only, not to the launcher's terminal. Retries, timeout and warning are told in `Limits`.
    """

    backend: ClassVar[str] = 'local'
    Spec: ClassVar[type[LocalSpec]] = LocalSpec

    requirements: JobRequirements = attrs.field(
        factory=JobRequirements, validator=_check_requirements
    )
    docker_options: DockerOptions | None = attrs.field(
        default=None, validator=_check_docker_options
    )
    experimental_stream_output: bool = True
    # Scripts may give these two by position.
    timeout: float | timedelta | None = attrs.field(default=None, validator=check_duration)
    grace: float | timedelta | None = attrs.field(default=None, validator=check_duration)
    cwd: str | os.PathLike[str] | None = attrs.field(default=None, validator=_check_cwd)

    def options(self) -> dict[str, Any]:
        """As `Limits.options`, whether output is shown as it comes (`stream_output`), and how a container runs."""
        _check_replicas(self.requirements)  # again: requirements can be changed in place
        options = {**super().options(), 'stream_output': self.experimental_stream_output}
        if self.docker_options is not None:
            options['docker'] = self.docker_options.as_json()
        return options
