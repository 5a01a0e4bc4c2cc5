"""What a dry run says of an image of Python code: everything is looked at, nothing is written, fetched or run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xmanager.errors import PackagingError
from xmanager.images.layer_cache import LayerCache
from xmanager.images.values import Layer
from xmanager.packaging import image_base
from xmanager.packaging.dependency_layer import find_dependency_layer
from xmanager.packaging.entry_point import entrypoint_of
from xmanager.packaging.python_image import PythonImage, layer_facts
from xmanager.packaging.requirements import Requirements
from xmanager.xm.executables import ModuleName

if TYPE_CHECKING:
    from xmanager.packaging.image_base import Found
    from xmanager.snapshot import Survey


def plan(making: PythonImage) -> dict[str, Any]:
    """As `xmanager.packaging.plan` reads it. Raises PackagingError for what packaging would refuse."""
    survey = making.snapshots.survey(making.spec.path, limits=making.limits)
    making.check_entrypoint(survey.entries)
    notes = [f'entry point: {json.dumps(_entrypoint(making))}']
    planned: dict[str, Any] = {'snapshot': _snapshot(making, survey), 'notes': notes}
    instructions = making.spec.docker_instructions
    if instructions is not None:
        notes += [f'instruction: {line}' for line in instructions]
        return planned | {'image': {'name': making.base_name, 'action': 'build'}}
    engine = making.engine_if_any()
    found = None if engine is None else image_base.look_in_engine(making.base_name, engine)
    image = {'name': making.base_name, 'action': _action(making)}
    if engine is not None:
        image['engine'] = engine.url
        notes.append(f'base image: {"in the engine" if found else "not in the engine yet"}')
    return planned | {'image': image, 'layers': _layers(making, found, survey)}


def _snapshot(making: PythonImage, survey: Survey) -> dict[str, Any]:
    return {
        'path': making.spec.path,
        'digest': survey.digest,
        'files': survey.files,
        'bytes': survey.bytes,
        'omitted': [{'path': path, 'rule': rule} for path, rule in survey.omitted.items()],
    }


def _entrypoint(making: PythonImage) -> list[str]:
    entrypoint = making.spec.entrypoint
    if isinstance(entrypoint, ModuleName):
        return entrypoint_of(entrypoint)
    return list(entrypoint.commands)


def _action(making: PythonImage) -> str:
    if making.workshop.push:
        return 'push'
    return 'write' if making.workshop.output is not None or making.is_shared else 'load'


def _layers(making: PythonImage, found: Found | None, survey: Survey) -> list[dict[str, Any]]:
    layers = []
    if requirements := making.requirements(survey.entries):
        layers.append(_layer(requirements.lock, _packages(making, found, requirements)))
    compressed = _action(making) != 'load'
    cache = LayerCache(making.workshop.cache)
    code = cache.find(survey.digest, making.place, compressed=compressed)
    return [*layers, _layer('code', code)]


def _packages(making: PythonImage, found: Found | None, requirements: Requirements) -> Layer | None:
    if found is None:
        return None
    try:
        # Nothing is run: a base that doesn't say which Python it has may have been asked before.
        target = image_base.target_of(found, making.workshop, lambda: None, making.asked)
    except PackagingError:
        return None
    return find_dependency_layer(requirements, target, making.workshop)


def _layer(what: str, layer: Layer | None) -> dict[str, Any]:
    if layer is None:
        return {'what': what, 'exists': False}
    return {**layer_facts(what, layer), 'exists': True}
