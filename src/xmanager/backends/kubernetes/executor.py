"""What users write to run a job on Kubernetes: `xm_local.Kubernetes` and its options."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from xmanager.xm.executables import Executor, ExecutorSpec
from xmanager.xm.limits import Limits
from xmanager.xm.resources import JobRequirements

GOOGLE_KUBERNETES_ENGINE = 'GOOGLE_KUBERNETES_ENGINE'


@attrs.define(slots=False)
class TpuCapability:
    """What a job on TPUs needs besides them: `tpu_runtime_version` is that of the TPU's software, such as `'2.3'`."""

    tpu_runtime_version: str


@attrs.define(slots=False)
class KubernetesSpec(ExecutorSpec):
    """Packages for Kubernetes. The image is pushed as `push_image_tag`; by default to the project's registry."""

    backend: ClassVar[str] = 'kubernetes'

    push_image_tag: str | None = None


def _check_requirements(instance: Kubernetes, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, JobRequirements):
        raise TypeError(
            f'Kubernetes(requirements={value!r}): expected xm.JobRequirements(...), e.g. with t4=1.'
        )


@attrs.define(slots=False)
class Kubernetes(Limits, Executor):
    """Runs a container on the cluster of the current kubectl context.

    `cloud_provider` says how the cluster names its accelerators; any other text than the default means that it
    has none of Google's node labels.
    """

    backend: ClassVar[str] = 'kubernetes'
    Spec: ClassVar[type[KubernetesSpec]] = KubernetesSpec

    requirements: JobRequirements = attrs.field(
        factory=JobRequirements, validator=_check_requirements
    )
    cloud_provider: str = GOOGLE_KUBERNETES_ENGINE
    tpu_capability: TpuCapability | None = None
