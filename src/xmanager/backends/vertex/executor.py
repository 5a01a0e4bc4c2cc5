"""What users write to run a job on Vertex AI: `xm_local.Vertex` and its options."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from xmanager.xm.executables import Executor, ExecutorSpec
from xmanager.xm.limits import Limits
from xmanager.xm.resources import JobRequirements


@attrs.define(slots=False)
class TensorboardCapability:
    """Sends a job's summaries to a Vertex TensorBoard.

    `name` is the resource name of the TensorBoard instance. Summaries are read from `base_output_directory`, a
    `gs://` path; by default a folder of the experiment in the project's bucket.
    """

    name: str
    base_output_directory: str | None = None


@attrs.define(slots=False)
class VertexSpec(ExecutorSpec):
    """Packages for Vertex AI. The image is pushed as `push_image_tag`; by default to the project's registry."""

    backend: ClassVar[str] = 'vertex'

    push_image_tag: str | None = None


def _check_requirements(instance: Vertex, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, JobRequirements):
        raise TypeError(
            f'Vertex(requirements={value!r}): expected xm.JobRequirements(...), e.g. with t4=1.'
        )


@attrs.define(slots=False)
class Vertex(Limits, Executor):
    """Runs a container as a custom job of Vertex AI."""

    backend: ClassVar[str] = 'vertex'
    Spec: ClassVar[type[VertexSpec]] = VertexSpec

    requirements: JobRequirements = attrs.field(
        factory=JobRequirements, validator=_check_requirements
    )
    tensorboard: TensorboardCapability | None = None


# The product's earlier name, Cloud AI Platform, under which older scripts know it.
Caip = Vertex
CaipSpec = VertexSpec
