"""Images of Python code: a base, a layer with its packages and a layer with the code; no engine builds anything.

Only where the user gives `docker_instructions`, an engine runs them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmanager.errors import PackagingError
from xmanager.images.values import Layer
from xmanager.packaging import image_base
from xmanager.packaging.entry_point import entrypoint_of
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.python_image import PythonImage
from xmanager.packaging.shared_image import is_for_cluster, share, share_from_engine
from xmanager.packaging.workshop import Workshop
from xmanager.xm.executables import PythonContainer
from xmanager.xm.packageables import Packageable

if TYPE_CHECKING:
    from xmanager.packaging.image_base import Found
    from xmanager.snapshot import Entry, Snapshot

# Which image this process has written to which folder.
_written: dict[Path, str] = {}


def package_python_container(packageable: Packageable, workshop: Workshop) -> Packaged:
    """Takes a snapshot of the code and makes the image that runs it. Raises PackagingError."""
    spec = packageable.executable_spec
    assert isinstance(spec, PythonContainer)
    making = PythonImage(spec, workshop, is_for_cluster(packageable))
    making.check()
    facts = {'kind': 'image', 'name': spec.name, 'path': spec.path, **_facts(making)}
    return Packaged(
        name=spec.name, facts=facts, args=packageable.args, env_vars=packageable.env_vars
    )


def _facts(making: PythonImage) -> dict[str, Any]:
    if making.workshop.dry_run:
        from xmanager.packaging.python_plan import plan

        return {'plan': plan(making)}
    making.tell('taking a snapshot')
    snapshot = making.snapshots.take(making.spec.path, limits=making.limits)
    entries = snapshot.entries
    making.check_entrypoint(entries)
    facts = {'snapshot': snapshot.digest, 'base': making.base_name}
    if making.spec.docker_instructions is not None:
        return facts | _build(making, snapshot)
    if making.workshop.push:
        return facts | _push(making, snapshot.digest, entries)
    if making.workshop.output is not None:
        return facts | _write(making, snapshot.digest, entries, making.workshop.output)
    if making.is_shared:
        return facts | _share(making, snapshot.digest, entries)
    return facts | _load(making, snapshot.digest, entries)


def _load(making: PythonImage, digest: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """Onto a base that the local engine has, into that engine."""
    from xmanager.packaging.loading import load, remember

    name, engine, workshop = making.spec.name, making.engine, making.workshop
    found = image_base.from_engine(making.base_name, engine, workshop, name, making.asked)
    image, layers = making.image(found, digest, entries, compressed=False)
    image_id = load(image, engine, making.tell, name=name, base=found.id)
    remember(workshop.cache, engine, name, image_id)
    return {'engine': engine.url, 'image': image_id, 'layers': layers}


def _push(making: PythonImage, digest: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """Onto a base in a registry, where its layers can stay; if there is none, onto what the local engine has."""
    from xmanager.images.reference import Reference
    from xmanager.images.registry_session import NotThereError
    from xmanager.images.transport import UnreachableError
    from xmanager.packaging.loading import local_name
    from xmanager.packaging.pushing import push

    try:
        found = image_base.from_registry(making.base_name, making.workshop, making.tell)
    except (NotThereError, UnreachableError) as error:
        here = _base_here(making)
        if here is None:
            raise PackagingError(f'{making.asked}: base_image: {error}') from None
        making.tell(f'using the base image of the local engine: {error}')
        found = here
    except PackagingError as error:
        raise PackagingError(f'{making.asked}: base_image: {error}') from None
    image, layers = making.image(found, digest, entries, compressed=True)
    below = local_name(making.spec.name, image.id).removeprefix('xmanager/')
    target = Reference.parse(f'{making.workshop.push.rstrip("/")}/{below}')
    reference = push(image, target, making.workshop.environ, making.tell)
    made = {'reference': reference, 'config': image.id}
    return {'image': reference, 'layers': layers, 'made': made}


def _write(
    making: PythonImage, digest: str, entries: Sequence[Entry], output: Path
) -> dict[str, Any]:
    """Onto a base that the local engine has, else one in a registry; as an OCI layout with all layers."""
    from xmanager.images.layout import write_layout

    image, layers = making.image(_base_anywhere(making), digest, entries, compressed=True)
    folder = _folder_of_its_own(output.absolute() / making.spec.name, image.id)
    making.tell(f'writing {folder}')
    name = f'{making.spec.name}:latest'
    manifest = write_layout(image, folder, name=name, fetch=lambda layer: _fetch(making, layer))
    made = {'layout': str(folder), 'digest': manifest, 'config': image.id}
    return {'image': f'{folder}@{manifest}', 'layers': layers, 'made': made}


def _share(making: PythonImage, digest: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """As `_write`, but where the machines of a cluster see it, beside all other images."""
    image, layers = making.image(_base_anywhere(making), digest, entries, compressed=True)
    return {**share(image, making.spec.name, making.workshop), 'layers': layers}


def _base_anywhere(making: PythonImage) -> Found:
    """From the engine of this machine if it has it: it need not be fetched then."""
    found = _base_here(making)
    return found or image_base.from_registry(making.base_name, making.workshop, making.tell)


def _folder_of_its_own(folder: Path, image_id: str) -> Path:
    """The folder, or one beside it if this process has written another image there: folders of one name never mix."""
    if _written.setdefault(folder, image_id) == image_id:
        return folder
    return folder.with_name(f'{folder.name}-{image_id.removeprefix("sha256:")[:12]}')


def _base_here(making: PythonImage) -> Found | None:
    """The base with its layers as files, if the local engine has it."""
    engine = making.engine_if_any()
    if engine is None:
        return None
    found = image_base.look_in_engine(making.base_name, engine)
    if found is None:
        return None
    making.tell('reading the base image')
    return image_base.with_layers_of_engine(found, engine, making.workshop)


def _fetch(making: PythonImage, layer: Layer) -> Iterable[bytes]:
    from xmanager.images.registry import Registry

    assert layer.origin is not None
    assert layer.descriptor is not None
    with Registry(layer.origin, making.workshop.environ, making.tell) as registry:
        yield from registry.get_blob(layer.descriptor)


def _build(making: PythonImage, snapshot: Snapshot) -> dict[str, Any]:
    """By the engine, from a context with a copy of the code in a folder of its own name."""
    from xmanager.packaging.building import build
    from xmanager.packaging.engine_images import push_from_engine, refuse_output

    name, workshop = making.spec.name, making.workshop
    refuse_output(making.asked, workshop)
    workshop.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.context-', dir=workshop.cache) as scratch:
        context = Path(scratch, 'context')
        context.mkdir()
        _link_tree(making.snapshots.tree(snapshot), context / making.folder)
        dockerfile = Path(scratch, 'Dockerfile')
        dockerfile.write_text(dockerfile_of(making.spec, making.base_name))
        image = build(context, dockerfile, name, making.engine, workshop)
    facts = {'engine': making.engine.url, 'image': image}
    if making.is_shared and not workshop.push:
        return facts | share_from_engine(image, name, making.engine, workshop)
    if not workshop.push:
        return facts
    reference = push_from_engine(image, name, making.engine, workshop)
    return {**facts, 'made': {'reference': reference}}


def dockerfile_of(spec: PythonContainer, base: str) -> str:
    """The user's instructions between the base and the entry point."""
    # In its list form nothing of the entry point is expanded, neither by the builder nor by a shell.
    entrypoint = json.dumps(entrypoint_of(spec.entrypoint))
    instructions = spec.docker_instructions or ()
    return '\n'.join(
        (f'FROM {base}', 'ENV LANG=C.UTF-8', *instructions, f'ENTRYPOINT {entrypoint}', '')
    )


def _link_tree(source: Path, target: Path) -> None:
    """A copy that shares its files where the file system can: a builder only reads them."""
    import shutil

    def link(one: str, other: str) -> str:
        try:
            os.link(one, other, follow_symlinks=False)
        except OSError:
            shutil.copy2(one, other, follow_symlinks=False)
        return other

    shutil.copytree(source, target, symlinks=True, copy_function=link)
    # In a read-only folder the removal of a file fails at first, and its mode would be changed: that of the kept one.
    for folder, _, _ in os.walk(target):
        os.chmod(folder, 0o755)
