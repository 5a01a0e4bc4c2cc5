"""The status of a unit, as `unit.get_status()` returns it."""

from __future__ import annotations

import abc


class ExperimentUnitStatus(abc.ABC):
    """Where a unit stands; the three flags exclude one another, and a stopped unit has none."""

    @property
    @abc.abstractmethod
    def is_active(self) -> bool:
        """Whether it waits, starts or runs, or will be started again."""

    @property
    @abc.abstractmethod
    def is_completed(self) -> bool:
        """Whether all its jobs ended well."""

    @property
    @abc.abstractmethod
    def is_failed(self) -> bool:
        """Whether one of its jobs failed, or it could not be started."""

    @property
    @abc.abstractmethod
    def message(self) -> str:
        """Why, in one sentence for people; empty when there is nothing to say."""
