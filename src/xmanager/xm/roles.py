"""What part a unit plays in its experiment: work, or something beside the work."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import attrs

from xmanager.xm.jobs import JobType


def _as_tags(words: Sequence[str]) -> tuple[str, ...]:
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise TypeError(f"WorkUnitRole(tags={words!r}): expected a list of texts, such as ['big'].")
    tags = tuple(words)
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError(
                f'WorkUnitRole(tags={words!r}): {tag!r} is of type {type(tag).__name__}. Expected texts.'
            )
    return tags


def _check_delay(role: object, field: attrs.Attribute[float], seconds: float) -> None:
    given: object = seconds
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number:
        raise TypeError(
            f'termination_delay_secs={seconds!r}, of type {type(seconds).__name__}: expected seconds.'
        )
    if not seconds >= 0:  # So that NaN is refused too.
        raise ValueError(f'termination_delay_secs={seconds!r}: expected 0 seconds or more.')


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

    tags: Sequence[str] = attrs.field(default=(), converter=_as_tags)


@attrs.frozen(kw_only=True)
class AuxiliaryUnitRole(ExperimentUnitRole):
    """A unit that serves the work units: TensorBoard, a controller.

    It is stopped `termination_delay_secs` seconds after the last work unit has ended.
    """

    termination_delay_secs: float = attrs.field(validator=_check_delay)


class AuxiliaryUnitJob:
    """A job, group or generator that brings its role: `experiment.add(xm.AuxiliaryUnitJob(job, …))`."""

    def __init__(
        self,
        job: JobType,
        *,
        importance: Importance = Importance.NORMAL,
        termination_delay_secs: float,
    ) -> None:
        self.job = job
        self.role = AuxiliaryUnitRole(
            importance=importance, termination_delay_secs=termination_delay_secs
        )
