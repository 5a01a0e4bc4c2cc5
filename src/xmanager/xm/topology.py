"""How the chips of an accelerator are wired together, such as `4x4` or `2x2x2_twisted`."""

from __future__ import annotations

import math
import re

from xmanager.errors import InvalidTpuTopologyError

_NAME = re.compile(r'(?P<dimensions>\d+(x\d+)*)(_twisted|_untwisted)?', re.ASCII)


class Topology:
    """A grid of chips; raises InvalidTpuTopologyError for a name that describes none."""

    def __init__(self, name: str) -> None:
        parsed = _NAME.fullmatch(str(name))
        self._name = str(name)
        self.dimensions: list[int] = (
            [int(size) for size in parsed['dimensions'].split('x')] if parsed else []
        )
        if not self.chip_count or not self.dimensions:
            raise InvalidTpuTopologyError(
                f'{name!r} is no topology. Expected sizes joined with x, each at least 1, '
                "such as '4x4' or '2x2x2_twisted'."
            )

    @property
    def name(self) -> str:
        return self._name

    @property
    def chip_count(self) -> int:
        return math.prod(self.dimensions)

    def __eq__(self, other: object) -> bool:
        return self._name == other._name if isinstance(other, Topology) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f'xm.Topology({self._name!r})'
