"""What a dry run says of an executable, read from `Packaged.facts['plan']`. Every field may be unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from xmanager.errors import PackagingError

T = TypeVar('T')


@attrs.frozen
class Omission:
    """Something of a folder that its snapshot leaves out; `rule` is why, in the same words for the same reason."""

    path: str = ''
    rule: str = ''


@attrs.frozen
class PlannedSnapshot:
    """The code that would be kept. `exists`: it is kept already."""

    path: str = ''
    digest: str = ''
    files: int | None = None
    bytes: int | None = None
    exists: bool | None = None
    omitted: tuple[Omission, ...] = ()


@attrs.frozen
class PlannedFile:
    """A single file; `kept` if a copy of it would be kept, else it would only be checked when a unit starts."""

    path: str = ''
    bytes: int | None = None
    digest: str = ''
    exists: bool | None = None
    kept: bool | None = None


@attrs.frozen
class PlannedEnvironment:
    """A Python environment; `lock` is empty for the launcher's own."""

    lock: str = ''
    key: str = ''
    python: str = ''
    exists: bool | None = None


@attrs.frozen
class PlannedLayer:
    """One layer of an image."""

    what: str = ''
    digest: str = ''
    bytes: int | None = None
    exists: bool | None = None


@attrs.frozen
class PlannedImage:
    """An image; `action` is what would be done to have it: pull, build, load, push, write or none."""

    name: str = ''
    action: str = ''
    exists: bool | None = None
    engine: str = ''


@attrs.frozen
class Plan:
    """All that would be done for one executable."""

    snapshot: PlannedSnapshot | None = None
    files: tuple[PlannedFile, ...] = ()
    environment: PlannedEnvironment | None = None
    layers: tuple[PlannedLayer, ...] = ()
    image: PlannedImage | None = None
    commands: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Plan:
        """The plan in the facts of a `Packaged`; an empty one if there is none. Raises PackagingError for no plan."""
        given = facts.get('plan', {})
        _refuse_unknown(Plan, given, 'plan')
        snapshot = _one(PlannedSnapshot, given, 'snapshot')
        if snapshot is not None:
            omitted = _several(Omission, given['snapshot'], 'omitted')
            snapshot = attrs.evolve(snapshot, omitted=omitted)
        return Plan(
            snapshot=snapshot,
            files=_several(PlannedFile, given, 'files'),
            environment=_one(PlannedEnvironment, given, 'environment'),
            layers=_several(PlannedLayer, given, 'layers'),
            image=_one(PlannedImage, given, 'image'),
            commands=tuple(tuple(map(str, argv)) for argv in given.get('commands', ())),
            notes=tuple(map(str, given.get('notes', ()))),
        )


_CHECKS: Final[Mapping[str, type]] = {'str': str, 'int | None': int, 'bool | None': bool}


def _one(kind: type[T], given: Mapping[str, Any], name: str) -> T | None:
    value = given.get(name)
    return None if value is None else _read(kind, value, name)


def _several(kind: type[T], given: Mapping[str, Any], name: str) -> tuple[T, ...]:
    values = given.get(name, ())
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise PackagingError(f'plan: {name} is {values!r}. Expected a list.')
    return tuple(_read(kind, value, name) for value in values)


def _read(kind: type[T], value: Any, name: str) -> T:
    _refuse_unknown(kind, value, name)
    for field in attrs.fields(kind):  # type: ignore[arg-type]  # Each kind here is one of attrs.
        expected = _CHECKS.get(str(field.type))
        found = value.get(field.name)
        if expected is not None and found is not None and not isinstance(found, expected):
            raise PackagingError(
                f'plan: {name}.{field.name} is {found!r}. Expected {expected.__name__}.'
            )
    return kind(**{key: inner for key, inner in value.items() if inner is not None})


def _refuse_unknown(kind: type, value: Any, name: str) -> None:
    if not isinstance(value, Mapping):
        raise PackagingError(f'{name} is {value!r}. Expected a mapping.')
    known = {field.name for field in attrs.fields(kind)}
    for key in value:
        if key not in known:
            raise PackagingError(
                f'{name} has no field {key!r}. There are {", ".join(sorted(known))}.'
            )
