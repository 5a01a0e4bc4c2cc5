"""The kinds of resources a job can ask for, and where they may be."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

from xmanager.errors import NotFoundError


class Architecture(enum.Enum):
    """The processors of the hosts."""

    HASWELL = 1
    ARM = 2


class ServiceTier(enum.Enum):
    """How likely a job is to be pushed aside; PROD is the least likely."""

    PROD = 200
    BATCH = 100
    FREEBIE = 25


class _AnyCase(enum.EnumMeta):
    """Looks members up by name in any case, as scripts do with the value of a flag."""

    def __getitem__(cls, name: str) -> Any:
        return super().__getitem__(name.upper())


class ResourceType(enum.Enum, metaclass=_AnyCase):
    """A countable resource. `ResourceType['v100']` finds one by its name in any case.

    Memory and disk are counted in bytes, all else in pieces. The numbers are those of XManager 0.8.
    """

    CPU = 100002
    MEMORY = 39
    RAM = 39
    EPHEMERAL_STORAGE = 100003
    DISK = 100003
    LOCAL_GPU = 100006  # any GPU of the machine that launches

    P4 = 21
    T4 = 22
    L4_24TH = 68
    P100 = 14
    V100 = 17
    A100 = 46
    A100_80GIB = 66
    H100 = 70
    H100_MEGA = 113
    H200 = 86
    B200 = 87
    B300 = 112
    GB200 = 89
    GB300 = 100
    VR200 = 110
    B40_48TH = 93

    TPU_V2 = 3
    TPU_V3 = 16
    TPU_V4 = 34
    TPU_V5E = 60
    TPU_V5P = 59
    TPU_V6E = 63
    TPU_V7X = 92

    def __str__(self) -> str:
        return self.name

    def architecture(self) -> Architecture:
        """The processors beside this accelerator; ValueError when it may be any."""
        if self not in AcceleratorType or self is ResourceType.LOCAL_GPU:
            raise ValueError(f'{self} is no accelerator of a known architecture.')
        on_arm = {ResourceType.GB200, ResourceType.GB300, ResourceType.VR200}
        return Architecture.ARM if self in on_arm else Architecture.HASWELL


_by_name = dict(ResourceType.__members__)


def resource_type(resource: ResourceType | str) -> ResourceType:
    """Finds a resource by its name in any case; KeyError for a name that there isn't."""
    if isinstance(resource, ResourceType):
        return resource
    if not isinstance(resource, str):
        raise TypeError(
            f'{resource!r} is no resource. Expected an xm.ResourceType or the name of one.'
        )
    found = _by_name.get(resource.upper())
    if found is None:
        raise NotFoundError(
            f'Unknown resource {resource!r}. Known are {", ".join(sorted(_by_name))}.'
        )
    return found


class _Subset(type):
    """A class that stands for some of the resource types, and looks them up like an enum."""

    _members: tuple[ResourceType, ...] = ()

    def __iter__(cls) -> Iterator[ResourceType]:
        return iter(cls._members)

    def __len__(cls) -> int:
        return len(cls._members)

    def __contains__(cls, resource: object) -> bool:
        return isinstance(resource, ResourceType) and resource in cls._members

    def __getitem__(cls, name: str) -> ResourceType:
        found = _by_name.get(str(name).upper())
        if found is not None and found in cls:
            return found
        raise NotFoundError(f'{cls.__name__} has no {name!r}.')

    def __getattr__(cls, name: str) -> ResourceType:
        found = _by_name.get(name)
        if found is not None and found in cls:
            return found
        raise AttributeError(f'{cls.__name__} has no {name!r}.')

    def __call__(cls, value: int) -> ResourceType:
        for member in cls._members:
            if member.value == value:
                return member
        raise ValueError(f'{value!r} is not a valid {cls.__name__}.')


_types = tuple(ResourceType)
_gpus = _types[_types.index(ResourceType.P4) : _types.index(ResourceType.TPU_V2)]
_tpus = _types[_types.index(ResourceType.TPU_V2) :]


class GpuType(metaclass=_Subset):
    """The resource types that are GPUs of a known model."""

    _members = _gpus


class TpuType(metaclass=_Subset):
    """The resource types that are TPUs."""

    _members = _tpus


class AcceleratorType(metaclass=_Subset):
    """The resource types of which a job may ask for only one: GPUs, TPUs and LOCAL_GPU."""

    _members = (ResourceType.LOCAL_GPU, *_gpus, *_tpus)
