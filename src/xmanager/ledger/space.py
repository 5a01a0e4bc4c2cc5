"""What is free of a capacity: amounts, and devices that may be shared in parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from xmanager.backend import Capacity, Grant

Demand = Mapping[str, Mapping[str, float]]
"""What each task of a unit takes, by task and resource: `{'train': {'cpu': 1.0, 'local_gpu': 0.5}}`."""

NOTHING: Grant = {}

_TOLERANCE = 1e-9


class Space:
    """Amounts by resource; for resources that come as devices, the free share of each device (1: nobody uses it)."""

    def __init__(
        self,
        capacity: Capacity,
        without: Mapping[str, Collection[str]] = NOTHING,
    ) -> None:
        """`without` are devices that can't be had, by resource."""
        self._shares = {
            resource: {name: 1.0 for name in names if name not in without.get(resource, ())}
            for resource, names in capacity.devices.items()
        }
        self._amounts = {
            resource: amount
            for resource, amount in capacity.amounts.items()
            if resource not in self._shares
        }

    def copy(self) -> Space:
        twin = Space.__new__(Space)
        twin._amounts = dict(self._amounts)
        twin._shares = {resource: dict(shares) for resource, shares in self._shares.items()}
        return twin

    def free(self, resource: str) -> float:
        """How much of a resource is free; of devices, how many are free as a whole."""
        if resource in self._shares:
            return sum(share >= 1 - _TOLERANCE for share in self._shares[resource].values())
        return max(0.0, self._amounts.get(resource, 0.0))

    def largest_share(self, resource: str) -> float:
        """How much is free of the device of which the most is."""
        return max(self._shares.get(resource, {}).values(), default=0.0)

    def place(self, demand: Demand) -> Grant | None:
        """The devices that the demand would get (none: `{}`), or None if it does not fit. Takes nothing."""
        for resource, amount in total(demand).items():
            if resource not in self._shares and not self._fits(resource, amount):
                return None
        grant: dict[str, dict[str, tuple[str, ...]]] = {}
        for resource in self._shares:
            asked = {task: a[resource] for task, a in demand.items() if a.get(resource)}
            if not asked:
                continue
            placed = _place_devices(self._shares[resource], asked)
            if placed is None:
                return None
            for task, names in placed.items():
                grant.setdefault(task, {})[resource] = names
        return grant

    def take(self, demand: Demand, grant: Grant) -> None:
        self._change(demand, grant, -1.0)

    def give(self, demand: Demand, grant: Grant) -> None:
        self._change(demand, grant, +1.0)

    def set_aside(self, demand: Demand) -> None:
        """Takes as much of the demand as is free of each resource; of devices that don't suffice, all."""
        for resource, amount in total(demand).items():
            if resource in self._shares:
                self._set_devices_aside(resource, demand)
            elif amount > 0:
                self._amounts[resource] = max(0.0, self._amounts.get(resource, 0.0) - amount)

    def meet(self, other: Space) -> Space:
        """What is free here and there."""
        both = self.copy()
        for resource, amount in both._amounts.items():
            both._amounts[resource] = min(amount, other._amounts.get(resource, 0.0))
        for resource, shares in both._shares.items():
            theirs = other._shares.get(resource, {})
            for name, share in shares.items():
                shares[name] = min(share, theirs.get(name, 0.0))
        return both

    def _fits(self, resource: str, amount: float) -> bool:
        # What asks for nothing fits even where more is held than there is.
        return amount <= 0 or amount <= self._amounts.get(resource, 0.0) + _TOLERANCE

    def _set_devices_aside(self, resource: str, demand: Demand) -> None:
        asked = {task: a[resource] for task, a in demand.items() if a.get(resource)}
        placed = _place_devices(self._shares[resource], asked)
        if placed is None:
            self._shares[resource] = dict.fromkeys(self._shares[resource], 0.0)
            return
        for task, names in placed.items():
            for name in names:
                self._shares[resource][name] -= min(1.0, asked[task])

    def _change(self, demand: Demand, grant: Grant, sign: float) -> None:
        for task, amounts in demand.items():
            devices = grant.get(task, NOTHING)
            for resource, amount in amounts.items():
                shares = self._shares.get(resource)
                if shares is None:
                    self._amounts[resource] = self._amounts.get(resource, 0.0) + sign * amount
                    continue
                for name in devices.get(resource, ()):
                    if name in shares:  # Else it is none of this process's devices.
                        share = shares[name] + sign * min(1.0, amount)
                        shares[name] = 1.0 if share > 1 - _TOLERANCE else share


def total(demand: Demand) -> dict[str, float]:
    """The sum over the tasks, by resource."""
    amounts: dict[str, float] = {}
    for task in demand.values():
        for resource, amount in task.items():
            amounts[resource] = amounts.get(resource, 0.0) + amount
    return amounts


def _place_devices(
    shares: Mapping[str, float], asked: Mapping[str, float]
) -> dict[str, tuple[str, ...]] | None:
    """Whole devices for whole numbers, one device for a part; parts go where others share already."""
    free = dict(shares)
    placed: dict[str, tuple[str, ...]] = {}
    parts = sorted((task for task in asked if asked[task] < 1), key=lambda task: -asked[task])
    opened = [task for task in parts if not _place_part(free, task, asked[task], placed, True)]
    for task, amount in asked.items():
        if amount >= 1:
            names = [name for name, share in free.items() if share >= 1 - _TOLERANCE]
            if len(names) < round(amount):
                return None
            placed[task] = tuple(names[: round(amount)])
            free.update(dict.fromkeys(placed[task], 0.0))
    for task in opened:
        if not _place_part(free, task, asked[task], placed, False):
            return None
    return placed


def _place_part(
    free: dict[str, float],
    task: str,
    amount: float,
    placed: dict[str, tuple[str, ...]],
    only_shared: bool,
) -> bool:
    """Puts a part where it leaves the least over; True if there is such a device."""
    fitting: Iterable[tuple[float, int, str]] = (
        (share, place, name)
        for place, (name, share) in enumerate(free.items())
        if share + _TOLERANCE >= amount and not (only_shared and share >= 1 - _TOLERANCE)
    )
    best = min(fitting, default=None)
    if best is None:
        return False
    name = best[2]
    placed[task] = (name,)
    free[name] -= amount
    return True
