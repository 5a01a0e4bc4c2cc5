"""Programs and images that Bazel builds: all that are asked for with the same arguments in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from xmanager.errors import PackagingError
from xmanager.packaging.bazel_build import build, build_command, workspace
from xmanager.packaging.bazel_events import BuildEvents, plain_label
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.workshop import Workshop
from xmanager.xm.executables import BazelBinary, BazelContainer, Binary
from xmanager.xm.packageables import Packageable

_ARCHIVE = '.tar'


def package_bazel(packageables: Sequence[Packageable], workshop: Workshop) -> list[Packaged]:
    """Builds the labels, and packages what came out as a program or an image; the order is kept."""
    calls: dict[tuple[str, ...], list[int]] = {}
    for index, packageable in enumerate(packageables):
        calls.setdefault(tuple(_spec(packageable).bazel_args), []).append(index)
    found: dict[int, Packaged] = {}
    for bazel_args, indices in calls.items():
        # One after the other: calls in one workspace would wait for each other anyway.
        members = [packageables[index] for index in indices]
        found.update(zip(indices, _package_call(members, bazel_args, workshop), strict=True))
    return [found[index] for index in range(len(packageables))]


def _package_call(
    packageables: Sequence[Packageable], bazel_args: Sequence[str], workshop: Workshop
) -> list[Packaged]:
    specs = [_spec(packageable) for packageable in packageables]
    labels = list(dict.fromkeys(spec.label for spec in specs))
    if workshop.dry_run:
        plan = _plan(labels, bazel_args, workshop)
        return [_planned(packageable, plan) for packageable in packageables]

    def tell(step: str) -> None:
        for spec in specs:
            workshop.tell(spec.name, step)

    tell('building with Bazel')
    events = build(labels, bazel_args, workshop.environ, tell)
    return [_package_output(packageable, events, workshop) for packageable in packageables]


def _package_output(packageable: Packageable, events: BuildEvents, workshop: Workshop) -> Packaged:
    spec = _spec(packageable)
    file = _output(spec, events)
    facts: Mapping[str, Any] = {'name': spec.name, 'label': spec.label}
    if isinstance(spec, BazelBinary):
        from xmanager.packaging.binary import package_binary

        binary = attrs.evolve(packageable, executable_spec=Binary(file, spec.dependencies))
        packaged = package_binary(binary, workshop)
        return attrs.evolve(packaged, name=spec.name, facts={**packaged.facts, **facts})
    from xmanager.packaging.container import package_archive
    from xmanager.packaging.engine_images import refuse_output
    from xmanager.packaging.shared_image import is_for_cluster

    refuse_output(_asked(spec), workshop)
    shared = is_for_cluster(packageable)
    image = package_archive(file, _asked(spec), spec.name, workshop, shared=shared)
    return Packaged(
        name=spec.name,
        facts={'kind': 'image', **facts, **image},
        args=packageable.args,
        env_vars=packageable.env_vars,
    )


def _plan(labels: Sequence[str], bazel_args: Sequence[str], workshop: Workshop) -> dict[str, Any]:
    workspace(workshop.environ)
    try:
        command = build_command(workshop.environ, bazel_args)
    except PackagingError as error:
        return {'notes': [str(error)]}
    return {'commands': [[*command, '--', *labels]]}


def _planned(packageable: Packageable, plan: Mapping[str, Any]) -> Packaged:
    spec = _spec(packageable)
    kind = 'binary' if isinstance(spec, BazelBinary) else 'image'
    if kind == 'image':
        plan = {**plan, 'image': {'name': spec.label, 'action': 'build'}}
    return Packaged(
        name=spec.name,
        facts={'kind': kind, 'name': spec.name, 'label': spec.label, 'plan': plan},
        args=packageable.args,
        env_vars=packageable.env_vars,
    )


def _output(spec: BazelBinary | BazelContainer, events: BuildEvents) -> str:
    """The one file that is meant of those that the target gives. Raises PackagingError, with the list."""
    label = plain_label(spec.label)
    if label not in events.outputs:
        built = ', '.join(sorted(events.outputs)) or 'nothing'
        raise PackagingError(
            f'{_asked(spec)}: Bazel built {built}, which is no single target of that label. '
            'Write it as //package:target.'
        )
    files = events.outputs[label]
    wanted, kind = _wanted(spec, files)
    target = label.rpartition(':')[2]
    if len(wanted) > 1:
        names = {os.path.basename(target), os.path.basename(target) + _ARCHIVE}
        wanted = [file for file in wanted if Path(file).name in names] or wanted
    if len(wanted) == 1:
        return wanted[0]
    listed = ', '.join(files) or 'nothing'
    why = f'none of it is a {kind}' if not wanted else f'{len(wanted)} of them could be meant'
    raise PackagingError(
        f'{_asked(spec)}: the target gives {listed}; {why}. Name a target that gives one {kind}.'
    )


def _wanted(spec: BazelBinary | BazelContainer, files: Sequence[str]) -> tuple[list[str], str]:
    if isinstance(spec, BazelContainer):
        return [file for file in files if file.endswith(_ARCHIVE)], f'{_ARCHIVE} file'
    programs = [file for file in files if os.path.isfile(file) and os.access(file, os.X_OK)]
    return programs, 'program'


def _spec(packageable: Packageable) -> BazelBinary | BazelContainer:
    spec = packageable.executable_spec
    assert isinstance(spec, BazelBinary | BazelContainer)
    return spec


def _asked(spec: BazelBinary | BazelContainer) -> str:
    kind = 'bazel_binary' if isinstance(spec, BazelBinary) else 'bazel_container'
    return f'xm.{kind}(label={spec.label!r})'
