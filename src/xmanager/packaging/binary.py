"""Programs that are built already: checked, not copied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs

from xmanager.errors import PackagingError
from xmanager.xm.arguments import SequentialArgs, UserArgs
from xmanager.xm.executables import Binary, Executable
from xmanager.xm.launch_script import resolve_launch_path
from xmanager.xm.packageables import Packageable


@attrs.define(slots=False)
class PackagedBinary(Executable):
    """A program on this machine: its absolute path, and what the packageable adds to every job."""

    path: str = ''
    args: UserArgs = attrs.field(factory=SequentialArgs)
    env_vars: Mapping[str, Any] = attrs.field(factory=dict)

    def facts(self) -> dict[str, Any]:
        """What is recorded of the executable, as JSON values. `modified` is seconds since the epoch."""
        status = os.stat(self.path)
        return {
            'kind': 'binary',
            'name': self.name,
            'path': self.path,
            'bytes': status.st_size,
            'modified': status.st_mtime,
        }


def package_binary(packageable: Packageable) -> PackagedBinary:
    """Checks that the program is there and may be executed. Raises PackagingError."""
    spec = packageable.executable_spec
    assert isinstance(spec, Binary)
    path = resolve_launch_path(spec.path)
    _check_program(path, spec.path)
    if spec.dependencies:
        raise PackagingError(
            f'xm.binary(path={spec.path!r}): no kind of xm.BinaryDependency can be packaged here. '
            'Leave dependencies out and name the files in args.'
        )
    return PackagedBinary(
        name=spec.name, path=path, args=packageable.args, env_vars=packageable.env_vars
    )


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
