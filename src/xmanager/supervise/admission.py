"""What fits: amounts and devices of a back end, taken by units and given back."""

from __future__ import annotations

from collections.abc import Mapping

from xmanager.backend import Capacity, Grant

Demand = Mapping[str, Mapping[str, float]]

_TOLERANCE = 1e-9


class Pool:
    """What is free of a back end's capacity. A capacity of None is an engine that queues by itself."""

    def __init__(self, capacity: Capacity | None) -> None:
        self._endless = capacity is None
        self._free = dict(capacity.amounts) if capacity else {}
        self._devices = (
            {name: list(devices) for name, devices in capacity.devices.items()} if capacity else {}
        )

    def fits(self, demand: Demand) -> bool:
        """Whether all tasks of the demand fit at once."""
        if self._endless:
            return True
        return all(
            amount <= self._free.get(name, 0.0) + _TOLERANCE
            for name, amount in total(demand).items()
        )

    def take(self, demand: Demand) -> Grant:
        """Takes what fits, device by device; `take_these` is for units that hold theirs already."""
        grant: dict[str, dict[str, tuple[str, ...]]] = {}
        for task, amounts in demand.items():
            for name, amount in amounts.items():
                if (free := self._devices.get(name)) is not None and amount > 0:
                    count = round(amount)
                    grant.setdefault(task, {})[name] = tuple(free[:count])
                    del free[:count]
        self._change(demand, -1)
        return grant

    def take_these(self, demand: Demand, grant: Grant) -> None:
        """Takes the amounts, and exactly the devices of the grant: for units that were found running."""
        for devices in grant.values():
            for name, taken in devices.items():
                free = self._devices.get(name, [])
                free[:] = [device for device in free if device not in taken]
        self._change(demand, -1)

    def give_back(self, demand: Demand, grant: Grant) -> None:
        for devices in grant.values():
            for name, taken in devices.items():
                if name in self._devices:
                    self._devices[name] = sorted({*self._devices[name], *taken}, key=_by_index)
        self._change(demand, +1)

    def _change(self, demand: Demand, sign: int) -> None:
        for name, amount in total(demand).items():
            self._free[name] = self._free.get(name, 0.0) + sign * amount


def total(demand: Demand) -> dict[str, float]:
    """The sum over the tasks, by resource."""
    amounts: dict[str, float] = {}
    for task in demand.values():
        for name, amount in task.items():
            amounts[name] = amounts.get(name, 0.0) + amount
    return amounts


def _by_index(device: str) -> tuple[int, str]:
    return (int(device), '') if device.isdigit() else (1 << 30, device)
