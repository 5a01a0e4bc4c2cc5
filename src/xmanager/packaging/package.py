"""Sends each packageable to the packager of its kind, several at a time."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from xmanager.errors import PackagingError
from xmanager.packaging.workshop import Workshop
from xmanager.xm.executables import (
    BazelBinary,
    BazelContainer,
    Binary,
    Container,
    Dockerfile,
    Executable,
    PythonContainer,
    PythonPackage,
)
from xmanager.xm.packageables import Packageable

Packager = Callable[[Packageable, Workshop], Executable]

# The module beside this one that packages a kind, and the function in it: loaded when it is first needed.
_PACKAGERS: Final[Mapping[type, tuple[str, str]]] = {
    Binary: ('binary', 'package_binary'),
    PythonPackage: ('python_package', 'package_python'),
    Container: ('container', 'package_container'),
    Dockerfile: ('dockerfile', 'package_dockerfile'),
    PythonContainer: ('python_container', 'package_python_container'),
    BazelBinary: ('bazel', 'package_bazel_binary'),
    BazelContainer: ('bazel', 'package_bazel_container'),
}

_ENGINES: Final = {
    'vertex': 'a client of Vertex AI',
    'kubernetes': 'a client of Kubernetes',
}


def package(packageables: Sequence[Packageable], workshop: Workshop) -> list[Executable]:
    """Packages all of them; the order is kept. Raises PackagingError, with nothing launched."""
    packagers = [_packager(packageable) for packageable in packageables]
    if len(packageables) < 2:
        return [
            packager(one, workshop) for packager, one in zip(packagers, packageables, strict=True)
        ]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as executor:
        return list(
            executor.map(lambda packager, one: packager(one, workshop), packagers, packageables)
        )


def _packager(packageable: Packageable) -> Packager:
    spec: Any = packageable.executable_spec
    where = getattr(packageable.executor_spec, 'backend', '')
    if where != 'local':
        raise PackagingError(
            f"{spec.name!r} can't be packaged: {_what_is_missing(packageable, where)}"
        )
    if type(spec) not in _PACKAGERS:
        raise PackagingError(
            f'{type(spec).__name__} is no executable specification that can be packaged here. '
            'Use one of those in xm: xm.binary(…) runs on this machine.'
        )
    module, name = _PACKAGERS[type(spec)]
    packager: Packager = getattr(importlib.import_module(f'xmanager.packaging.{module}'), name)
    return packager


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
