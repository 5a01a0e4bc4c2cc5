"""Programs that are built already: kept by their content, alone or with what they need beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from xmanager.errors import PackagingError
from xmanager.packaging import kept_program
from xmanager.packaging.kept_program import Program
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.workshop import Workshop
from xmanager.snapshot import Limits, SnapshotStore
from xmanager.snapshot.values import size_setting
from xmanager.xm.executables import Binary, FileDependency, FolderDependency
from xmanager.xm.launch_script import resolve_launch_path
from xmanager.xm.packageables import Packageable

_SETTING: Final = 'binary_max_kept'
_MAX_KEPT: Final = 128 * 1024**2


def package_binary(packageable: Packageable, workshop: Workshop) -> Packaged:
    """Checks that the program is there and may be executed, and keeps its bits. Raises PackagingError.

    Alone it runs at its own place, by which programs find what is theirs, for as long as it is the same there; else the
    kept copy runs. With dependencies it always runs from the folder in which it is kept with them.
    """
    spec = packageable.executable_spec
    assert isinstance(spec, Binary)
    workshop = workshop.where_it_runs(packageable)
    path = resolve_launch_path(spec.path)
    _check_program(path, spec.path)
    limit = size_setting(workshop.environ, _SETTING, _MAX_KEPT)
    facts: dict[str, Any] = {'kind': 'binary', 'name': spec.name}
    command = path
    if workshop.dry_run:
        program = kept_program.look_at_program(path, workshop)
        facts['plan'] = _plan(program, limit, _together(spec, path))
    elif spec.dependencies:
        program = _keep_together(spec, path, limit, workshop)
        command = program.copy
    else:
        program = kept_program.keep_program(path, limit, workshop)
    return Packaged(
        name=spec.name,
        command=(command,),
        facts={**facts, **program.facts()},
        args=packageable.args,
        env_vars=packageable.env_vars,
    )


def _keep_together(spec: Binary, path: str, limit: int, workshop: Workshop) -> Program:
    """One folder of copies: the program, and beside it what it depends on."""
    size = os.stat(path).st_size
    if size > limit:
        raise PackagingError(
            f'{_asked(spec)}: it has {size:,} bytes, and with dependencies a program runs from a kept copy, '
            f'which may have {limit:,}. Set --xm_{_SETTING}={-(-size // 1024**2)}MiB.'
        )
    usual = Limits.of(workshop.environ)
    limits = attrs.evolve(usual, file_bytes=max(limit, usual.file_bytes))
    store = SnapshotStore(workshop.snapshots)
    snapshot = store.take_files(_together(spec, path), limits=limits)
    name = os.path.basename(path)
    entry = next(one for one in snapshot.entries if one.path == name)
    status = os.stat(path)
    return Program(
        path=path,
        digest=entry.digest,
        bytes=entry.size,
        modified=status.st_mtime,
        inode=status.st_ino,
        kept=snapshot.digest,
        copy=str(store.tree(snapshot) / name),
    )


def _together(spec: Binary, path: str) -> dict[str, Path]:
    """The program and its dependencies, by their place in the folder. Raises PackagingError."""
    files = {os.path.basename(path): Path(path)}
    for dependency in spec.dependencies:
        if not isinstance(dependency, FileDependency | FolderDependency):
            raise PackagingError(
                f'{_asked(spec)}: {dependency!r} is no dependency that can be packaged here. '
                'Use xm.FileDependency(path) or xm.FolderDependency(path).'
            )
        _check_dependency(spec, dependency)
        place = dependency.destination or os.path.basename(dependency.path)
        taken = [one for one in files if _meet(one, place)]
        if taken:
            raise PackagingError(
                f'{_asked(spec)}: {dependency.path} and {files[taken[0]]} would both be {place!r} beside the binary. '
                'Give one of them another `destination`.'
            )
        files[place] = Path(dependency.path)
    return files


def _meet(one: str, other: str) -> bool:
    return one == other or one.startswith(f'{other}/') or other.startswith(f'{one}/')


def _check_dependency(spec: Binary, dependency: FileDependency | FolderDependency) -> None:
    path, wants_file = dependency.path, isinstance(dependency, FileDependency)
    asked = f'{_asked(spec)}: its dependency {path}'
    if not os.path.lexists(path):
        raise PackagingError(f'{asked} does not exist. Paths are relative to the launch script.')
    if wants_file and not os.path.isfile(path):
        raise PackagingError(f'{asked} is no file. Give a folder as xm.FolderDependency.')
    if not wants_file and not os.path.isdir(path):
        raise PackagingError(f'{asked} is no folder. Give a file as xm.FileDependency.')


def _plan(program: Program, limit: int, files: Mapping[str, Path]) -> dict[str, Any]:
    """As `xmanager.packaging.plan` reads it."""
    alone = len(files) == 1
    planned = {
        'path': program.path,
        'bytes': program.bytes,
        'digest': program.digest,
        'exists': bool(program.kept) if alone else None,
        'kept': not alone or kept_program.is_kept(program.path, program.bytes, limit),
    }
    beside = list(files.values())[1:]
    return {'files': [planned, *map(_planned_dependency, beside)]}


def _planned_dependency(path: Path) -> dict[str, Any]:
    if path.is_file():
        return {'path': str(path), 'bytes': path.stat().st_size, 'kept': True}
    inner = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    return {'path': str(path), 'bytes': sum(one.lstat().st_size for one in inner), 'kept': True}


def _asked(spec: Binary) -> str:
    return f'xm.binary(path={spec.path!r})'


def _check_program(path: str, given: str) -> None:
    asked = f'xm.binary(path={given!r})'
    if not os.path.lexists(path):
        raise PackagingError(
            f'{asked}: {path} does not exist. Paths are relative to the launch script.'
        )
    if os.path.isdir(path):
        raise PackagingError(f'{asked}: {path} is a directory. Give the program inside it.')
    if not os.path.isfile(path):
        raise PackagingError(f'{asked}: {path} is not a regular file.')
    if not os.access(path, os.X_OK):
        raise PackagingError(f'{asked}: {path} is not executable. Run `chmod +x {path}`.')
