"""Speaks with a container engine (Docker or Podman) over its socket, and keeps watch over single containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmanager.containers.engine import Engine as Engine
    from xmanager.containers.locate import find_engine as find_engine
    from xmanager.errors import EngineError as EngineError

__all__ = ['Engine', 'EngineError', 'find_engine']

_WHERE = {
    'Engine': 'xmanager.containers.engine',
    'EngineError': 'xmanager.errors',
    'find_engine': 'xmanager.containers.locate',
}


def __getattr__(name: str) -> object:
    # Late: a keeper is of this package too, and must start in a few milliseconds.
    if name not in _WHERE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)
