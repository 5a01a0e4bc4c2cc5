"""The engines that run units. Siblings never import one another; the supervisor loads them by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from xmanager.errors import ExecutorError

if TYPE_CHECKING:
    from xmanager.backend import Backend

ENTRY_POINTS = 'xmanager.backends'


def load(name: str, environ: Mapping[str, str]) -> Backend:
    """Makes the back end of that name; `environ` holds its settings (`XM_…`) and the jobs' environment.

    Ours are found by where they stand; a stranger's by an entry point `name = module:create` of the group
    `xmanager.backends`. (Looking through all entry points costs 50 ms, which ours need not pay.)
    """
    import importlib.util

    package = f'{__name__}.{name}'
    if importlib.util.find_spec(package) and importlib.util.find_spec(f'{package}.backend'):
        module = importlib.import_module(f'{package}.backend')
        return cast('Backend', module.create(environ))
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        return cast('Backend', entry_point.load()(environ))
    raise ExecutorError(
        f'No back end is called {name!r}. Install the package that provides it (entry point group {ENTRY_POINTS!r}).'
    )
