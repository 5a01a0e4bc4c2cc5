"""What part a unit plays in its experiment: work, or something beside the work."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs

from xmanager.xm.jobs import JobType


def _as_tuple(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(words)


class Importance(enum.Enum):
    """Who goes first in a queue; within one importance it is first come, first served."""

    HIGH = 'high'
    NORMAL = 'normal'
    LOW = 'low'


@attrs.frozen(kw_only=True)
class ExperimentUnitRole:
    """What all roles have."""

    importance: Importance = attrs.field(
        default=Importance.NORMAL, validator=attrs.validators.instance_of(Importance)
    )


@attrs.frozen(kw_only=True)
class WorkUnitRole(ExperimentUnitRole):
    """A unit that does the experiment's work: one trial of a sweep, say. `tags` are free words to find it by."""

    tags: Sequence[str] = attrs.field(default=(), converter=_as_tuple)


@attrs.frozen(kw_only=True)
class AuxiliaryUnitRole(ExperimentUnitRole):
    """A unit that serves the work units: TensorBoard, a controller.

    It is stopped `termination_delay_secs` seconds after the last work unit has ended.
    """

    termination_delay_secs: int = attrs.field(validator=attrs.validators.ge(0))


class AuxiliaryUnitJob:
    """A job, group or generator that brings its role: `experiment.add(xm.AuxiliaryUnitJob(job, …))`."""

    def __init__(
        self,
        job: JobType,
        *,
        importance: Importance = Importance.NORMAL,
        termination_delay_secs: int,
    ) -> None:
        self.job = job
        self.role = AuxiliaryUnitRole(
            importance=importance, termination_delay_secs=termination_delay_secs
        )
