"""Builds an image from a Dockerfile in a local engine: by its command, else over the engine's socket."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xmanager.errors import PackagingError
from xmanager.packaging import children
from xmanager.packaging.build_context import own_ignore_file
from xmanager.packaging.build_output import BuildOutput
from xmanager.packaging.builders import Builder, find_builder
from xmanager.packaging.loading import local_name, remember
from xmanager.packaging.workshop import Workshop

if TYPE_CHECKING:
    from xmanager.containers import Engine

_OFF: Final = frozenset({'', '0', 'false', 'no', 'off', 'f', 'n'})


def build(context: Path, dockerfile: Path, name: str, engine: Engine, workshop: Workshop) -> str:
    """The id of the image, which is called `xmanager/<name>:<short id>` besides: folders of one name never mix.

    Steps that the engine has done before are taken from its cache. Raises PackagingError with the step that failed and
    the last lines of its output.
    """
    show = _shower(name, workshop)
    output = BuildOutput(lambda step: workshop.tell(name, f'building ({step})'))

    def hear(line: str) -> None:
        show(line)
        output.hear(line)

    workshop.tell(name, 'building')
    image = _build(context, dockerfile, engine, workshop, hear)
    if image is None:
        raise PackagingError(f'{name}: {dockerfile} could not be built: {output.failure()}')
    keep(image, name, engine, workshop)
    return image


def keep(image: str, name: str, engine: Engine, workshop: Workshop) -> None:
    """Gives an image the name that people see in `docker images`, and notes that it was wanted now."""
    engine.tag(image, local_name(name, image))
    remember(workshop.cache, engine, name, image)


def chosen_builder(dockerfile: Path, engine: Engine, workshop: Workshop) -> Builder | None:
    """The command that would build it; None where the engine is to be asked over its socket."""
    if not _is_on(workshop, 'XM_USE_DOCKER_COMMAND', default='true'):
        return None
    builder = find_builder(engine, workshop.environ)
    if builder is not None and builder.kind != 'buildkit' and own_ignore_file(dockerfile).exists():
        # Only BuildKit knows a .dockerignore for one Dockerfile; over the socket we send what it leaves in.
        return None
    return builder


def _build(
    context: Path,
    dockerfile: Path,
    engine: Engine,
    workshop: Workshop,
    hear: Callable[[str], None],
) -> str | None:
    """The id, None if the build failed."""
    builder = chosen_builder(dockerfile, engine, workshop)
    if builder is None:
        from xmanager.packaging.build_by_socket import build_by_socket

        return build_by_socket(context, dockerfile, engine, workshop.environ, hear)
    with tempfile.TemporaryDirectory(prefix='xmanager-build-') as folder:
        id_file = Path(folder, 'image')
        command = (
            *builder.command,
            f'--file={dockerfile}',
            f'--iidfile={id_file}',
            os.fspath(context),
        )
        if children.run(command, builder.environ, hear) != 0 or not id_file.exists():
            return None
        image = id_file.read_text().strip()
    return image if image.startswith('sha256:') else f'sha256:{image}'


def _shower(name: str, workshop: Workshop) -> Callable[[str], None]:
    if not _is_on(workshop, 'XM_SHOW_DOCKER_COMMAND_PROGRESS', default=''):
        return lambda line: None
    return lambda line: print(f'[{name}] {line}', file=sys.stderr)


def _is_on(workshop: Workshop, variable: str, *, default: str) -> bool:
    return workshop.environ.get(variable, default).lower() not in _OFF
