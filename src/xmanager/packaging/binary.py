"""Programs that are built already: checked, not copied."""

from __future__ import annotations

import os

from xmanager.errors import PackagingError
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.workshop import Workshop
from xmanager.xm.executables import Binary
from xmanager.xm.launch_script import resolve_launch_path
from xmanager.xm.packageables import Packageable


def package_binary(packageable: Packageable, workshop: Workshop) -> Packaged:
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
    status = os.stat(path)
    return Packaged(
        name=spec.name,
        command=(path,),
        facts={
            'kind': 'binary',
            'name': spec.name,
            'path': path,
            'bytes': status.st_size,
            'modified': status.st_mtime,
        },
        args=packageable.args,
        env_vars=packageable.env_vars,
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
