"""Where packaging has kept things: in the home, and where the machines of clusters see them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmanager.store import Store


def places(store: Store, environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """The home, then the place of this home in each folder that it has shared: by XM_SHARED now, or at a launch."""
    from xmanager.packaging.workshop import place_in_shared, shared_home

    home = store.home.path
    yield home
    mark = f'/{place_in_shared(home)}'
    found = {'', str(home)}
    for path in (str(shared_home(home, environ)), *_paths(store)):
        folder, is_shared, _ = path.partition(mark)
        place = f'{folder}{mark}' if is_shared else ''
        if place not in found:
            found.add(place)
            yield Path(place)


def _paths(store: Store) -> Iterator[str]:
    """Of all that was kept for recorded units."""
    for _, executable in store.executables():
        environment: Mapping[str, Any] = executable.get('environment') or {}
        kept = [executable.get(name) for name in ('tree', 'copy', 'layout')]
        for path in (*kept, environment.get('folder')):
            if path:
                yield str(path)
