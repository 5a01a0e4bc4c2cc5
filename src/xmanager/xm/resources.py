"""What a job needs of the machines it runs on: `xm.JobRequirements`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xmanager.xm.amounts import ResourceDict, ResourceQuantity, parse_quantity
from xmanager.xm.resource_types import (
    AcceleratorType,
    Architecture,
    GpuType,
    ResourceType,
    ServiceTier,
    TpuType,
    resource_type,
)
from xmanager.xm.topology import Topology


class JobRequirements:
    """The resources of one task, and how many tasks where.

    `resources` and keyword arguments name resources (in any case) and give their amounts: a number,
    a numeric string, or, for the one accelerator there may be, a topology. `'4x18*3'` and
    `num_slices` ask for several slices of a topology. A GPU topology of several dimensions, or
    several slices of one, implies the number of replicas: the product of the dimensions after the
    first, for each slice.

    Raises KeyError for an unknown resource, ValueError for an amount that makes no sense.
    """

    def __init__(
        self,
        resources: Mapping[ResourceType | str, ResourceQuantity] | None = None,
        *,
        architecture: Architecture | None = None,
        location: str | None = None,
        replicas: int | None = None,
        service_tier: ServiceTier | None = None,
        num_slices: int | None = None,
        **kw_resources: ResourceQuantity,
    ) -> None:
        self.task_requirements = ResourceDict()
        self.accelerator: ResourceType | None = None
        self.topology: Topology | None = None
        self.location = location
        self._architecture = architecture
        self._service_tier = service_tier
        self._num_slices = num_slices
        self._replicas = replicas
        for source in (resources or {}, kw_resources):
            for resource, quantity in source.items():
                self._set(resource_type(resource), quantity)
        self._check()

    def _set(self, resource: ResourceType, quantity: ResourceQuantity) -> None:
        if resource in self.task_requirements:
            raise ValueError(f'{resource} has been specified twice.')
        amount, topology, slices = parse_quantity(resource, quantity)
        self.task_requirements[resource] = amount
        if resource not in AcceleratorType:
            return
        if self.accelerator is not None:
            raise ValueError(
                f"Accelerator already set. {resource} can't be asked for beside {self.accelerator}."
            )
        self.accelerator, self.topology = resource, topology
        if slices is not None:
            if self._num_slices not in (None, slices):
                raise ValueError(
                    f'num_slices={self._num_slices} contradicts {resource.name.lower()}='
                    f'{quantity!r}, which asks for {slices} slices. Leave one of them out.'
                )
            self._num_slices = slices

    def _check(self) -> None:
        _check_positive('replicas', self._replicas)
        _check_positive('num_slices', self._num_slices)
        if self.accelerator in TpuType and self.num_slices > 1:
            raise ValueError(
                f'num_slices={self.num_slices} is given for {self.accelerator}: '
                "TPUs can't be asked for in several slices. Add a job for each slice."
            )
        implied = self._implied_replicas()
        if implied is not None and self._replicas not in (None, implied):
            raise ValueError(
                f'replicas={self._replicas} contradicts {self.accelerator} {self.topology!r} with '
                f'{self.num_slices} slice(s), which implies {implied}. Leave `replicas` out.'
            )
        needed = self._implied_architecture()
        if needed is not None and self._architecture not in (None, needed):
            raise ValueError(
                f'architecture={self._architecture!r} contradicts {self.accelerator}, '
                f'which is found with {needed!r} only. Leave `architecture` out.'
            )

    def _implied_replicas(self) -> int | None:
        if self.topology is None or self.accelerator not in GpuType:
            return None
        hosts = self.topology.dimensions[1:]
        return math.prod(hosts) * self.num_slices if hosts or self.num_slices > 1 else None

    def _implied_architecture(self) -> Architecture | None:
        if self.accelerator is None or self.accelerator is ResourceType.LOCAL_GPU:
            return None
        return self.accelerator.architecture()

    @property
    def replicas(self) -> int:
        """How many copies of the task run together: as given, else as implied, else 1."""
        return self._replicas or self._implied_replicas() or 1

    @replicas.setter
    def replicas(self, replicas: int | None) -> None:
        self._replicas = replicas
        self._check()

    @property
    def architecture(self) -> Architecture | None:
        """As given, else that of the accelerator; None for any."""
        return self._architecture or self._implied_architecture()

    @architecture.setter
    def architecture(self, architecture: Architecture | None) -> None:
        self._architecture = architecture
        self._check()

    @property
    def service_tier(self) -> ServiceTier:
        return self._service_tier or ServiceTier.PROD

    @service_tier.setter
    def service_tier(self, service_tier: ServiceTier | None) -> None:
        self._service_tier = service_tier

    @property
    def num_slices(self) -> int:
        return self._num_slices or 1

    def merge(self, other: JobRequirements) -> JobRequirements:
        """A copy in which whatever `other` states replaces what is stated here.

        An accelerator replaces the one here along with its topology, and with the slices and
        replicas that go with it.
        """
        mine, theirs = self._stated(), other._stated()
        if other.accelerator is not None and self.accelerator is not None:
            mine.pop(self.accelerator.name.lower(), None)
            mine.pop('num_slices', None)
        if other._implied_replicas() is not None:
            mine.pop('replicas', None)
        return JobRequirements(**{**mine, **theirs})

    def _stated(self) -> dict[str, Any]:
        """Arguments for the constructor that make an equal value, less what is implied."""
        stated: dict[str, Any] = {
            resource.name.lower(): amount for resource, amount in self.task_requirements.items()
        }
        if self.accelerator is not None and self.topology is not None:
            amount = self.task_requirements.get(self.accelerator)
            # The amounts may have been assigned to since, and then the topology says nothing.
            if amount == self.topology.chip_count and self.topology.name != str(int(amount)):
                stated[self.accelerator.name.lower()] = self.topology
        fields = {
            'location': self.location,
            'service_tier': self._service_tier,
            'architecture': None if self._implied_architecture() else self._architecture,
            'replicas': self._replicas if self._implied_replicas() is None else None,
            'num_slices': self._num_slices,
        }
        return stated | {name: value for name, value in fields.items() if value is not None}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobRequirements):
            return NotImplemented
        return self._effective() == other._effective()

    __hash__ = None  # type: ignore[assignment]  # attributes may be assigned

    def _effective(self) -> tuple[Any, ...]:
        return (
            self.task_requirements,
            self.topology,
            self.location,
            self.service_tier,
            self.architecture,
            self.replicas,
            self.num_slices,
        )

    def __repr__(self) -> str:
        parts = (f'{name}={_pasteable(value)}' for name, value in self._stated().items())
        return f'xm.JobRequirements({", ".join(parts)})'


def _pasteable(value: object) -> str:
    if isinstance(value, ServiceTier | Architecture):
        return f'xm.{type(value).__name__}.{value.name}'
    return repr(value)


def _check_positive(name: str, count: int | None) -> None:
    if count is not None and count < 1:
        raise ValueError(f'{name}={count!r} is given. Expected a whole number, at least 1.')
