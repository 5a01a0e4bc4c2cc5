"""Sends each packageable to the packager of its kind, several at a time."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from xmanager.errors import PackagingError
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.side_by_side import call_all
from xmanager.packaging.workshop import Workshop
from xmanager.xm.executables import (
    BazelBinary,
    BazelContainer,
    Binary,
    Container,
    Dockerfile,
    ExecutableSpec,
    PythonContainer,
    PythonPackage,
)
from xmanager.xm.packageables import Packageable

Packager = Callable[[Packageable, Workshop], Packaged]
GroupPackager = Callable[[Sequence[Packageable], Workshop], list[Packaged]]

# The module beside this one that packages a kind, and the function in it: loaded when it is first needed.
_PACKAGERS: Final[Mapping[type, tuple[str, str]]] = {
    Binary: ('binary', 'package_binary'),
    PythonPackage: ('python_package', 'package_python'),
    Container: ('container', 'package_container'),
    Dockerfile: ('dockerfile', 'package_dockerfile'),
    PythonContainer: ('python_container', 'package_python_container'),
}

# Kinds of which one call packages all that there are.
_GROUP_PACKAGERS: Final[Mapping[type, tuple[str, str]]] = {
    BazelBinary: ('bazel', 'package_bazel'),
    BazelContainer: ('bazel', 'package_bazel'),
}

_RUNNABLE: Final = frozenset({'local', 'slurm'})  # Back ends that this version has.

_ENGINES: Final = {
    'vertex': 'a client of Vertex AI',
    'kubernetes': 'a client of Kubernetes',
}


def package(packageables: Sequence[Packageable], workshop: Workshop) -> list[Packaged]:
    """Packages all of them; the order is kept. Raises PackagingError, with nothing launched.

    What several of them ask for in the same words is packaged once; arguments and variables stay each one's own.
    """
    for packageable in packageables:
        _check(packageable)
    places = _places(packageables)
    distinct = [packageables[indices[0]] for indices in places]
    executables: dict[int, Packaged] = {}
    for indices, packaged in zip(places, _package_distinct(distinct, workshop), strict=True):
        for index in indices:
            own = packageables[index]
            executables[index] = attrs.evolve(packaged, args=own.args, env_vars=own.env_vars)
    return [executables[index] for index in range(len(packageables))]


def _places(packageables: Sequence[Packageable]) -> list[list[int]]:
    """The indices of the packageables, those together that ask for the same."""
    alike: dict[str, list[list[int]]] = {}
    places: list[list[int]] = []
    for index, one in enumerate(packageables):
        asked = (one.executable_spec, one.executor_spec)
        # Specifications hold lists, so they have no hash; what they show of themselves narrows the search.
        candidates = alike.setdefault(repr(asked), [])
        for indices in candidates:
            first = packageables[indices[0]]
            if (first.executable_spec, first.executor_spec) == asked:
                indices.append(index)
                break
        else:
            places.append([index])
            candidates.append(places[-1])
    return places


def _package_distinct(packageables: Sequence[Packageable], workshop: Workshop) -> list[Packaged]:
    """One result for each, in order; those of a kind that is packaged in groups go to their packager together."""
    teams: dict[tuple[str, str], list[int]] = {}
    calls: list[Callable[[], list[Packaged]]] = []
    indices: list[list[int]] = []
    for index, one in enumerate(packageables):
        kind = type(one.executable_spec)
        if kind in _GROUP_PACKAGERS:
            teams.setdefault(_GROUP_PACKAGERS[kind], []).append(index)
        else:
            calls.append(functools.partial(_package_one, one, workshop))
            indices.append([index])
    for packager, team in teams.items():
        members = [packageables[index] for index in team]
        calls.append(functools.partial(_package_group, packager, members, workshop))
        indices.append(team)
    found: dict[int, Packaged] = {}
    for of_call, results in zip(indices, call_all(calls), strict=True):
        found.update(zip(of_call, results, strict=True))
    return [found[index] for index in range(len(packageables))]


def _package_one(packageable: Packageable, workshop: Workshop) -> list[Packaged]:
    spec = packageable.executable_spec
    with _named([spec], workshop):
        packager: Packager = _load(*_PACKAGERS[type(spec)])
        return [packager(packageable, workshop)]


def _package_group(
    packager: tuple[str, str], packageables: Sequence[Packageable], workshop: Workshop
) -> list[Packaged]:
    with _named([one.executable_spec for one in packageables], workshop):
        package_all: GroupPackager = _load(*packager)
        return package_all(packageables, workshop)


def _load(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f'xmanager.packaging.{module}'), name)


@contextlib.contextmanager
def _named(specs: Sequence[ExecutableSpec], workshop: Workshop) -> Iterator[None]:
    """Tells when these are begun and done; what goes wrong meanwhile is raised as an error that names them."""
    names = [spec.name for spec in specs]
    for name in names:
        workshop.tell(name, 'packaging')
    try:
        yield
    except PackagingError as error:
        if any(word in str(error) for spec in specs for word in _words(spec)):
            raise
        raise PackagingError(f"{_quoted(specs)} can't be packaged: {error}") from error
    except OSError as error:  # A full disk, for one.
        raise PackagingError(f"{_quoted(specs)} can't be packaged: {error}") from error
    finally:
        for name in names:
            workshop.tell(name, '')


def _words(spec: ExecutableSpec) -> list[str]:
    """By which of them a person knows what is meant: the name, the path or label as it was given."""
    given = [getattr(spec, field, '') for field in ('path', 'label', 'image_path')]
    return [spec.name, *(word for word in given if len(word) > 1)]


def _quoted(specs: Sequence[ExecutableSpec]) -> str:
    # A Bazel target is known by its label; the name that is made of it looks strange.
    return ', '.join(repr(getattr(spec, 'label', spec.name)) for spec in specs)


def _check(packageable: Packageable) -> None:
    """Raises PackagingError for what no packager here knows."""
    spec: Any = packageable.executable_spec
    where = getattr(packageable.executor_spec, 'backend', '')
    if where not in _RUNNABLE:
        raise PackagingError(
            f"{spec.name!r} can't be packaged: {_what_is_missing(packageable, where)}"
        )
    if type(spec) not in _PACKAGERS and type(spec) not in _GROUP_PACKAGERS:
        raise PackagingError(
            f'{type(spec).__name__} is no executable specification that can be packaged here. '
            'Use one of those in xm: xm.binary(…) runs on this machine.'
        )


def _what_is_missing(packageable: Packageable, backend: str) -> str:
    kind = type(packageable.executor_spec).__name__
    engine = _ENGINES.get(backend)
    if engine is None:
        return (
            f'{kind} is no executor specification of xm_local. '
            'Package for xm_local.Local.Spec() or xm_local.Slurm.Spec().'
        )
    executor = kind.removesuffix('Spec')
    return (
        f'xm_local.{executor} needs {engine}, which this version does not bring. '
        'Run it on this machine: package for xm_local.Local.Spec() and launch with xm_local.Local(); '
        'or on a cluster: xm_local.Slurm.Spec() and xm_local.Slurm().'
    )
