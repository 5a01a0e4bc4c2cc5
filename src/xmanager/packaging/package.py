"""Sends each packageable to the packager of its kind, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from xmanager.packaging.binary import package_binary
from xmanager.xm.errors import PackagingError
from xmanager.xm.executables import (
    BazelBinary,
    BazelContainer,
    Binary,
    Container,
    Dockerfile,
    Executable,
    PythonContainer,
)
from xmanager.xm.packageables import Packageable

_PACKAGERS: Final[Mapping[type, Callable[[Packageable], Executable]]] = {Binary: package_binary}

_CONTAINERS: Final = (Container, Dockerfile, PythonContainer, BazelContainer)


def package(packageables: Sequence[Packageable]) -> list[Executable]:
    """Packages all of them; the order is kept. Raises PackagingError, with nothing launched."""
    for packageable in packageables:
        _check(packageable)
    if len(packageables) < 2:
        return [_PACKAGERS[type(p.executable_spec)](p) for p in packageables]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as executor:
        return list(executor.map(lambda p: _PACKAGERS[type(p.executable_spec)](p), packageables))


def _check(packageable: Packageable) -> None:
    spec: Any = packageable.executable_spec
    where = getattr(packageable.executor_spec, 'backend', '')
    if where != 'local':
        raise PackagingError(
            f'{spec.name!r} is packaged for {type(packageable.executor_spec).__name__}, '
            'which this version cannot launch to. Use xm_local.Local.Spec() and xm_local.Local().'
        )
    if type(spec) in _PACKAGERS:
        return
    if isinstance(spec, _CONTAINERS):
        raise PackagingError(
            f'{type(spec).__name__} {spec.name!r} needs a container engine, which this version does not drive. '
            'Use xm.binary(path=…), with the interpreter as the path for Python code.'
        )
    if isinstance(spec, BazelBinary):
        raise PackagingError(
            f'BazelBinary {spec.label!r} needs Bazel, which this version does not call. '
            'Build it by `bazel build` and use xm.binary(path=…) with the output.'
        )
    raise PackagingError(
        f'{type(spec).__name__} is no executable specification that can be packaged here. '
        'Use one of those in xm: xm.binary(…) runs on this machine.'
    )
