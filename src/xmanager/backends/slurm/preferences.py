"""What a site or a user settles once for all jobs: how service tiers, importance and kinds of GPU are called there."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Final

import attrs

from xmanager.errors import UsageError

_IMPORTANCE: Final = {1: 'high', 0: 'normal', -1: 'low'}
_NAME: Final = re.compile(r'[A-Za-z0-9_.][A-Za-z0-9_.@:+-]*')

# Only operators may lower a nice value below 0, so what is important by itself is not made nicer.
_USUAL_NICE: Final = {'batch': 100, 'freebie': 1000, 'low': 100}


@attrs.frozen
class Preferences:
    """By names in lower case: the QOS of service tiers, nice values of tiers and importance, and names of GPUs.

    A tier that has a QOS has no nice value beside it.
    """

    qos: Mapping[str, str] = attrs.field(factory=dict)
    nice: Mapping[str, int] = attrs.field(factory=lambda: dict(_USUAL_NICE))
    gpu_types: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Preferences:
        """From XM_SLURM_QOS, XM_SLURM_NICE and XM_SLURM_GPU_TYPES (`name=value,…`). Raises UsageError."""
        qos = _pairs(environ, 'slurm_qos', _tiers, 'prod=high,batch=low')
        nice = _pairs(environ, 'slurm_nice', _tiers_and_ranks, 'batch=100,low=50')
        types = _pairs(environ, 'slurm_gpu_types', gpus, 'a100_80gib=a100_80,l4_24th=l4')
        return cls(
            _named(qos, 'slurm_qos'),
            {**_USUAL_NICE, **_numbers(nice, 'slurm_nice')},
            _named(types, 'slurm_gpu_types'),
        )

    def nice_of(self, tier: str, importance: int) -> int:
        """The nice value of a job; 0 for none."""
        of_tier = 0 if tier in self.qos else self.nice.get(tier, 0)
        return of_tier + self.nice.get(_IMPORTANCE[importance], 0)


# The supervisor needs none of these names, and the room that knows them takes longer to load than all of this one.


@cache
def gpus() -> frozenset[str]:
    """The kinds of GPU that a job may ask for, in lower case."""
    from xmanager.xm.resource_types import GpuType

    return frozenset(gpu.name.lower() for gpu in GpuType)


def _tiers() -> tuple[str, ...]:
    from xmanager.xm.resource_types import ServiceTier

    return tuple(tier.name.lower() for tier in ServiceTier)


def _tiers_and_ranks() -> tuple[str, ...]:
    return (*_tiers(), *_IMPORTANCE.values())


def _pairs(
    environ: Mapping[str, str], setting: str, names: Callable[[], Collection[str]], example: str
) -> dict[str, str]:
    text = environ.get(f'XM_{setting.upper()}', '')
    pairs: dict[str, str] = {}
    known = names() if text else ()
    for part in filter(None, (part.strip() for part in text.split(','))):
        name, equals, value = (piece.strip() for piece in part.partition('='))
        if not equals or name.lower() not in known or not value:
            raise UsageError(
                f"--xm_{setting}={text}: {part!r} makes no sense. Expected a list such as '{example}', "
                f'with names from {", ".join(known)}.'
            )
        pairs[name.lower()] = value
    return pairs


def _named(pairs: Mapping[str, str], setting: str) -> dict[str, str]:
    for value in pairs.values():
        if not _NAME.fullmatch(value):
            raise UsageError(f'--xm_{setting}: {value!r} is no name that a cluster may use.')
    return dict(pairs)


def _numbers(pairs: Mapping[str, str], setting: str) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for name, value in pairs.items():
        try:
            numbers[name] = int(value)
        except ValueError:
            raise UsageError(
                f'--xm_{setting}: {name}={value} is no nice value. Expected a whole number; the larger, the later.'
            ) from None
    return numbers
