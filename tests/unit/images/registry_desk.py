"""A client of the faulty registry whose pauses take no time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.unit.images.faulty_registry import FaultyRegistry

from xmanager.images.reference import Reference
from xmanager.images.registry import Registry
from xmanager.images.registry_patience import Patience
from xmanager.images.values import OCI_LAYER_GZIP, Descriptor, digest_of

NOBODY: Mapping[str, str] = {'HOME': '/nowhere', 'PATH': '/nowhere'}


@dataclass
class Clock:
    """Time that passes by sleeping alone; a Patience's `tell` too."""

    now: float = 1_000_000.0
    slept: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def patience(self) -> Patience:
        return Patience(self.told.append, self.time, self.sleep)

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def client(
    server: FaultyRegistry,
    name: str = 'team/app:1',
    environ: Mapping[str, str] = NOBODY,
    clock: Clock | None = None,
) -> Registry:
    reference = Reference.parse(f'{server.host}/{name}')
    return Registry(reference, environ, patience=(clock or Clock()).patience)


def described(data: bytes) -> Descriptor:
    return Descriptor(OCI_LAYER_GZIP, digest_of(data), len(data))
