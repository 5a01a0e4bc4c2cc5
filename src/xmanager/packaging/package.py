"""Sends each packageable to the packager of its kind, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from xmanager.errors import PackagingError
from xmanager.packaging.binary import package_binary
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

_ENGINES: Final = {
    'vertex': 'a client of Vertex AI and a container builder',
    'kubernetes': 'a client of Kubernetes and a container builder',
}

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
            f"{spec.name!r} can't be packaged: {_what_is_missing(packageable, where)}"
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


def _what_is_missing(packageable: Packageable, backend: str) -> str:
    kind = type(packageable.executor_spec).__name__
    engine = _ENGINES.get(backend)
    if engine is None:
        return (
            f'{kind} is no executor specification of xm_local. Package for xm_local.Local.Spec().'
        )
    executor = kind.removesuffix('Spec')
    return (
        f'xm_local.{executor} needs {engine}, which this version does not bring. '
        'Run it on this machine: package for xm_local.Local.Spec() and launch with xm_local.Local().'
    )
