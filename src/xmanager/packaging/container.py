"""Images that exist already: in the engine of this machine, in a registry, in a `.tar` file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xmanager.errors import EngineError, PackagingError
from xmanager.packaging.engine_images import pull, push_from_engine, refuse_output
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.shared_image import (
    find_shared,
    is_for_cluster,
    share_archive,
    share_from_engine,
    share_from_registry,
)
from xmanager.packaging.workshop import Workshop
from xmanager.xm.executables import Container
from xmanager.xm.launch_script import resolve_launch_path
from xmanager.xm.packageables import Packageable

if TYPE_CHECKING:
    from xmanager.containers import Engine

_ARCHIVES: Final = ('.tar', '.tar.gz', '.tgz')
_ID: Final = re.compile(r'(?:sha256:)?[0-9a-f]{64}')


def package_container(packageable: Packageable, workshop: Workshop) -> Packaged:
    """Finds, loads or pulls it, and fixes it: what a tag means later doesn't matter. Raises PackagingError."""
    spec = packageable.executable_spec
    assert isinstance(spec, Container)
    asked = f'xm.container(image_path={spec.image_path!r})'
    refuse_output(asked, workshop)
    facts: dict[str, Any] = {'kind': 'image', 'name': spec.name, 'path': spec.image_path}
    if spec.image_path.endswith(_ARCHIVES):
        shared = is_for_cluster(packageable)
        facts |= package_archive(spec.image_path, asked, spec.name, workshop, shared=shared)
    elif is_for_cluster(packageable) and not workshop.push:
        facts |= _shared(spec.image_path, asked, spec.name, workshop)
    else:
        facts |= _named(spec.image_path, asked, spec.name, workshop)
    return Packaged(
        name=spec.name, facts=facts, args=packageable.args, env_vars=packageable.env_vars
    )


def package_archive(
    path: str, asked: str, name: str, workshop: Workshop, *, shared: bool = False
) -> dict[str, Any]:
    """The facts of an image in a file, which is loaded unless the engine has it; `shared`, it needs no engine."""
    from xmanager.containers import find_engine
    from xmanager.packaging.image_file import identify, load_file

    file = Path(resolve_launch_path(path))
    _check(file, asked)
    image = identify(file, workshop)
    if shared and not workshop.push:
        if workshop.dry_run:
            return {'image': image, 'plan': _shared_plan(image, workshop)}
        return share_archive(file, image, name, workshop)
    if workshop.dry_run:
        return {'image': image, 'plan': _plan(image, 'load', workshop)}
    engine = find_engine(workshop.environ)
    image = load_file(file, image, name, engine, workshop)
    return {'engine': engine.url, 'image': image, **_made(image, name, engine, workshop)}


def _named(text: str, asked: str, name: str, workshop: Workshop) -> dict[str, Any]:
    from xmanager.containers import find_engine
    from xmanager.images.reference import Reference

    reference = None if _ID.fullmatch(text) else Reference.parse(text)
    if workshop.dry_run:
        return {'plan': _plan(text, 'pull', workshop)}
    engine = find_engine(workshop.environ)
    found = engine.inspect_image(text)
    if found is None and reference is not None:
        pull(text, reference, asked, name, engine, workshop)
        found = engine.inspect_image(str(reference)) or engine.inspect_image(text)
    if found is None:
        raise PackagingError(
            f'{asked}: the engine at {engine.url} has no such image. See `{engine.kind} images`.'
        )
    image = _id_of(found)
    facts = {'engine': engine.url, 'image': image}
    pinned = reference and _pinned(found, reference)
    if workshop.push and pinned:
        return {**facts, 'made': {'reference': pinned}}
    return {**facts, **_made(image, name, engine, workshop)}


def _shared(text: str, asked: str, name: str, workshop: Workshop) -> dict[str, Any]:
    """From the engine of this machine if it has it, else from the registry: a login node may well have no engine."""
    from xmanager.containers import find_engine

    if known := find_shared(text, workshop):
        return known
    if workshop.dry_run:
        return {'plan': _shared_plan(text, workshop)}
    try:
        engine = find_engine(workshop.environ)
        found = engine.inspect_image(text)
    except EngineError as error:
        if _ID.fullmatch(text):
            raise PackagingError(f'{asked}: {error}') from None
    else:
        if found is not None:
            return share_from_engine(_id_of(found), name, engine, workshop)
        if _ID.fullmatch(text):
            raise PackagingError(
                f'{asked}: the engine at {engine.url} has no such image. See `{engine.kind} images`.'
            )
    try:
        return share_from_registry(text, name, workshop)
    except PackagingError as error:
        raise PackagingError(f'{asked}: {error}') from None


def _shared_plan(name: str, workshop: Workshop) -> dict[str, Any]:
    exists = find_shared(name, workshop) is not None
    return {'image': {'name': name, 'action': 'none' if exists else 'write', 'exists': exists}}


def _made(image: str, name: str, engine: Engine, workshop: Workshop) -> dict[str, Any]:
    if not workshop.push:
        return {}
    return {'made': {'reference': push_from_engine(image, name, engine, workshop)}}


def _id_of(found: dict[str, Any]) -> str:
    image = str(found.get('Id', ''))
    return image if image.startswith('sha256:') else f'sha256:{image}'


def _pinned(found: dict[str, Any], reference: Any) -> str:
    """The name and digest under which the registry has it, '' if it never came from there or went there."""
    from xmanager.images.reference import Reference

    for text in found.get('RepoDigests') or ():
        known = Reference.parse(str(text))
        if known.name == reference.name and reference.digest in ('', known.digest):
            return str(known)
    return ''


def _check(file: Path, asked: str) -> None:
    if not os.path.lexists(file):
        raise PackagingError(
            f'{asked}: {file} does not exist. Paths are relative to the launch script.'
        )
    if not file.is_file():
        raise PackagingError(
            f'{asked}: {file} is not a regular file. Give the one that `docker save` wrote.'
        )


def _plan(name: str, action: str, workshop: Workshop) -> dict[str, Any]:
    from xmanager.containers import find_engine

    try:
        engine = find_engine(workshop.environ)
        found = engine.inspect_image(name)
    except EngineError as error:
        return {'image': {'name': name, 'action': action}, 'notes': [str(error)]}
    if found is not None:
        name, action = _id_of(found), 'push' if workshop.push else 'none'
    image = {'name': name, 'action': action, 'exists': found is not None, 'engine': engine.url}
    return {'image': image}
