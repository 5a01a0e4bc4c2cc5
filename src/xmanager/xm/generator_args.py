"""The `args` of `experiment.add(generator, args=…)`: checked before anything is kept."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from xmanager.xm.jobs import JobGeneratorType


def checked_generator_args(
    generator: JobGeneratorType, args: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A copy of `args`. Raises ValueError if the generator takes no such arguments, or lacks some."""
    checked = {} if args is None else dict(args)
    try:
        signature = inspect.signature(generator)
    except ValueError:  # Written in C, or disguised: nothing can be known before it is called.
        return checked
    try:
        signature.bind(None, **checked)
    except TypeError as error:
        raise ValueError(
            f'add(args=…): the job generator {_name(generator)!r} is given {sorted(map(str, checked))}: {error}. '
            f'Its signature is {_name(generator)}{signature}; the first parameter is the unit.'
        ) from None
    return checked


def _name(generator: JobGeneratorType) -> str:
    return getattr(generator, '__name__', type(generator).__name__)
