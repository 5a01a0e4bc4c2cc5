"""Containers and networks that units have left behind: found by their labels, and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from xmanager.containers.engine import Engine
from xmanager.errors import EngineError


@attrs.frozen
class Leftover:
    """A container or network (`kind`) of a unit. `state` is the engine's word for it, '' for a network."""

    kind: str
    id: str
    name: str
    experiment: str
    unit: str
    key: str
    state: str = ''


def find(engine: Engine, home_id: str, is_over: Callable[[Leftover], bool]) -> list[Leftover]:
    """Containers, then networks, that were made for units of this home which are over."""
    filters = {'filters': {'label': [f'xmanager.home_id={home_id}']}}
    containers = engine.request('GET', '/containers/json', query={'all': '1', **filters}).json()
    networks = engine.request('GET', '/networks', query=filters).json()
    found = [*_listed('container', containers), *_listed('network', networks)]
    return [one for one in found if is_over(one)]


def remove(engine: Engine, leftover: Leftover) -> None:
    """Removes it, killing what still runs in it. What has gone meanwhile is fine."""
    try:
        query = {'force': '1', 'v': '1'} if leftover.kind == 'container' else None
        engine.request('DELETE', f'/{leftover.kind}s/{leftover.id}', query=query)
    except EngineError as error:
        if error.status != 404:
            raise


def _listed(kind: str, answer: Any) -> Iterator[Leftover]:
    for one in answer or ():
        labels: Mapping[str, str] = one.get('Labels') or {}
        names = one.get('Names') or [one.get('Name', '')]
        yield Leftover(
            kind=kind,
            id=str(one['Id']),
            name=str(names[0]).lstrip('/'),
            experiment=labels.get('xmanager.experiment', ''),
            unit=labels.get('xmanager.unit', ''),
            key=labels.get('xmanager.key', ''),
            state=str(one.get('State', '')),
        )
