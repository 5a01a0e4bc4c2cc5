"""Images built from a Dockerfile by the engine of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xmanager.errors import EngineError, PackagingError
from xmanager.packaging.building import build, chosen_builder
from xmanager.packaging.engine_images import push_from_engine, refuse_output
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.shared_image import is_for_cluster, share_from_engine
from xmanager.packaging.workshop import Workshop
from xmanager.xm.executables import Dockerfile
from xmanager.xm.packageables import Packageable


def package_dockerfile(packageable: Packageable, workshop: Workshop) -> Packaged:
    """Builds it; what runs is fixed by the image's id. Raises PackagingError."""
    from xmanager.containers import find_engine

    spec = packageable.executable_spec
    assert isinstance(spec, Dockerfile)
    asked = f'xm.dockerfile_container(path={spec.path!r})'
    _check(spec, asked)
    refuse_output(asked, workshop)
    facts: dict[str, Any] = {
        'kind': 'image',
        'name': spec.name,
        'path': spec.path,
        'dockerfile': spec.dockerfile,
    }
    if workshop.dry_run:
        facts['plan'] = _plan(spec, workshop)
    else:
        engine = find_engine(workshop.environ)
        context, dockerfile = Path(spec.path), Path(spec.dockerfile)
        image = build(context, dockerfile, spec.name, engine, workshop)
        facts |= {'engine': engine.url, 'image': image}
        if is_for_cluster(packageable) and not workshop.push:
            facts |= share_from_engine(image, spec.name, engine, workshop)
        elif workshop.push:
            facts['made'] = {'reference': push_from_engine(image, spec.name, engine, workshop)}
    return Packaged(
        name=spec.name, facts=facts, args=packageable.args, env_vars=packageable.env_vars
    )


def _check(spec: Dockerfile, asked: str) -> None:
    if not os.path.lexists(spec.path):
        raise PackagingError(
            f'{asked}: it does not exist. Paths are relative to the launch script.'
        )
    if not os.path.isdir(spec.path):
        raise PackagingError(
            f'{asked}: it is no folder. Give the folder that the Dockerfile copies from, '
            'and the file itself as dockerfile=….'
        )
    if not os.path.lexists(spec.dockerfile):
        raise PackagingError(
            f'{asked}: there is no {spec.dockerfile}. Write one, or name another by dockerfile=….'
        )
    if not os.path.isfile(spec.dockerfile):
        raise PackagingError(f'{asked}: {spec.dockerfile} is not a regular file.')


def _plan(spec: Dockerfile, workshop: Workshop) -> dict[str, Any]:
    from xmanager.containers import find_engine

    image = {'name': spec.name, 'action': 'push' if workshop.push else 'build'}
    try:
        engine = find_engine(workshop.environ)
    except EngineError as error:
        return {'image': image, 'notes': [str(error)]}
    builder = chosen_builder(Path(spec.dockerfile), engine, workshop)
    known = {'image': {**image, 'engine': engine.url}}
    if builder is None:
        return {**known, 'notes': [f'{spec.dockerfile} is built over the socket of the engine.']}
    return {**known, 'commands': [[*builder.command, f'--file={spec.dockerfile}', spec.path]]}
