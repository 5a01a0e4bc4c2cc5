"""Amounts of resources: how they may be written, and a mapping that adds them up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from typing import NamedTuple, Union

from xmanager.errors import ExecutorError, InvalidTpuTopologyError
from xmanager.xm.resource_types import AcceleratorType, ResourceType, resource_type
from xmanager.xm.topology import Topology

_SMALLEST_SHARE = 0.01

ResourceQuantity = Union[int, float, str, Topology]  # noqa: UP007


class Quantity(NamedTuple):
    """What a `ResourceQuantity` says; the last two are for accelerators only."""

    amount: float
    topology: Topology | None = None
    num_slices: int | None = None


def parse_quantity(resource: ResourceType, quantity: object) -> Quantity:
    """Reads a number, a numeric string, a topology, or a topology `*` a number of slices.

    A fraction of LOCAL_GPU is a share of one device, and has no topology. Raises ValueError for anything else, and for
    a topology of what is no accelerator.
    """
    number = quantity if isinstance(quantity, Topology) else _number(quantity)
    if isinstance(number, float):
        return _quantity_from_number(resource, checked_amount(resource.name.lower(), number))
    topology, num_slices = _topology_and_slices(resource, quantity)
    if resource not in AcceleratorType:
        raise ValueError(
            f'A topology specified for non accelerator resource {resource}: {quantity!r}.'
        )
    return Quantity(topology.chip_count, topology, num_slices)


def checked_amount(name: str, amount: object) -> float:
    """Returns `amount` as a number; ValueError unless it is finite and not negative."""
    number = amount if isinstance(amount, int | float) else _number(amount)
    if number is None or not math.isfinite(number) or number < 0:
        raise ValueError(
            f"Couldn't parse resource quantity for {name}. {amount!r} was given. "
            'Expected a finite number that is not negative.'
        )
    return number


def _number(quantity: object) -> float | None:
    try:
        return float(quantity)  # type: ignore[arg-type]  # whatever float() takes is a number
    except (TypeError, ValueError):
        return None


def _quantity_from_number(resource: ResourceType, amount: float) -> Quantity:
    if resource not in AcceleratorType or amount == 0:
        return Quantity(amount)
    if resource is ResourceType.LOCAL_GPU and not amount.is_integer():
        return Quantity(_checked_share(amount))
    if not amount.is_integer():
        raise InvalidTpuTopologyError(
            f'{resource.name.lower()}={amount}: accelerators are handed out whole. '
            'Ask for a whole number.'
        )
    return Quantity(amount, Topology(str(int(amount))))


def _checked_share(amount: float) -> float:
    if not _SMALLEST_SHARE <= amount < 1:
        raise ExecutorError(
            f'local_gpu={amount:g}: a job shares one GPU or has whole ones. '
            f'Ask for a share from {_SMALLEST_SHARE:g} to less than 1, or for a whole number.'
        )
    return amount


def _topology_and_slices(resource: ResourceType, quantity: object) -> tuple[Topology, int | None]:
    if isinstance(quantity, Topology):
        return quantity, None
    name, star, num_slices = quantity.partition('*') if isinstance(quantity, str) else ('', '', '')
    try:
        return Topology(name), int(num_slices) if star else None
    except ValueError as error:
        raise ValueError(
            f"Couldn't parse resource quantity for {resource.name.lower()}. {quantity!r} was "
            "given. Expected a number or, for an accelerator, a topology such as '4x4'."
        ) from error


class ResourceDict(MutableMapping[ResourceType, float]):
    """Amounts by resource. Keys may be given by name in any case; amounts are finite and >= 0.

    `+` adds up, `*` multiplies every amount by a number.
    """

    def __init__(self) -> None:
        self._amounts: dict[ResourceType, float] = {}

    def __getitem__(self, resource: ResourceType | str) -> float:
        return self._amounts[resource_type(resource)]

    def __setitem__(self, resource: ResourceType | str, amount: float | str) -> None:
        key = resource_type(resource)
        self._amounts[key] = checked_amount(key.name, amount)

    def __delitem__(self, resource: ResourceType | str) -> None:
        del self._amounts[resource_type(resource)]

    def __iter__(self) -> Iterator[ResourceType]:
        return iter(self._amounts)

    def __len__(self) -> int:
        return len(self._amounts)

    def __add__(self, other: Mapping[ResourceType, float]) -> ResourceDict:
        total = 1 * self
        for resource, amount in other.items():
            total[resource] = total.get(resource, 0) + amount
        return total

    def __mul__(self, factor: float) -> ResourceDict:
        product = ResourceDict()
        for resource, amount in self.items():
            product[resource] = amount * factor
        return product

    __rmul__ = __mul__

    def __str__(self) -> str:
        amounts = sorted((resource.name, amount) for resource, amount in self.items())
        return ', '.join(f'{name}: {amount}' for name, amount in amounts)

    def __repr__(self) -> str:
        return f'<xm.ResourceDict {self}>'
