"""What `experiment.add` is given beside the job: checked at the call, before anything is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from xmanager.xm.roles import ExperimentUnitRole

# Levels of arguments; each costs those who encode and show them a few frames.
_DEEPEST: Final = 100


def check_addition(args: object, role: object, identity: object) -> None:
    """Raises TypeError for an identity that is no text or a role that is none, ValueError for endless `args`."""
    if not isinstance(identity, str):
        raise TypeError(
            f'add(identity={identity!r}): of type {type(identity).__name__}. '
            "Expected a text, such as 'seed-5'."
        )
    if role is not None and not isinstance(role, ExperimentUnitRole):
        raise TypeError(
            f'add(role={role!r}): of type {type(role).__name__}. Expected a role, such as '
            'xm.WorkUnitRole() or xm.AuxiliaryUnitRole(termination_delay_secs=60).'
        )
    check_nesting(args, 'add(args=…): args')


def check_nesting(value: object, path: str, above: tuple[int, ...] = ()) -> None:
    """Raises ValueError, which calls the value `path`, if it holds itself or is nested very deep."""
    if not isinstance(value, Mapping | list | tuple):
        return
    if id(value) in above:
        raise ValueError(f'{path} holds itself. Expected arguments that can be written down.')
    if len(above) >= _DEEPEST:
        raise ValueError(
            f'{path[:100]}… is nested more than {_DEEPEST} levels deep. Expected flatter arguments.'
        )
    for key, inner in _items(value):
        check_nesting(inner, f'{path}[{key!r}]', (*above, id(value)))


def _items(value: Mapping[Any, Any] | list[Any] | tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """The members that may have members themselves, by key or place."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    return ((key, inner) for key, inner in pairs if isinstance(inner, Mapping | list | tuple))
