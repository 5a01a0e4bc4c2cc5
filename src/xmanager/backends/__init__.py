"""The engines that run units. Siblings never import one another; the supervisor loads them by name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import cast

from xmanager.backend import Backend
from xmanager.xm.errors import ExecutorError

ENTRY_POINTS = 'xmanager.backends'


def load(name: str, environ: Mapping[str, str]) -> Backend:
    """Makes the back end of that name; `environ` holds its settings (`XM_…`) and the jobs' environment.

    Ours are found by where they stand; a stranger's by an entry point `name = module:create` of the group
    `xmanager.backends`. (Looking through all entry points costs 50 ms, which ours need not pay.)
    """
    if importlib.util.find_spec(f'{__name__}.{name}') is not None:
        module = importlib.import_module(f'{__name__}.{name}.backend')
        return cast(Backend, module.create(environ))
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        return cast(Backend, entry_point.load()(environ))
    raise ExecutorError(
        f'No back end is called {name!r}. Install the package that provides it (entry point group {ENTRY_POINTS!r}).'
    )
