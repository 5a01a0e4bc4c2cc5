"""What is sent to an engine to build from: the files of a folder less what `.dockerignore` names, as a tar."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Final

from xmanager.errors import PackagingError
from xmanager.packaging.docker_ignore import kept_files

DOCKERFILE: Final = '.xmanager.Dockerfile'
"""The name of the Dockerfile in the tar: it may lie outside of the folder, or be ignored."""

_IGNORE_FILE: Final = '.dockerignore'


def context_tar(context: Path, dockerfile: Path) -> IO[bytes]:
    """An open temporary file, at its beginning. Raises PackagingError if a file can't be read."""
    archive = tempfile.TemporaryFile(prefix='xmanager-build-')  # noqa: SIM115  # The caller closes it.
    try:
        with tarfile.open(fileobj=archive, mode='w', dereference=False) as tar:
            # Once it has read them, an engine forgets those of the two that the ignore file names.
            ignored = [DOCKERFILE, _IGNORE_FILE]
            for path in kept_files(context, _ignore_lines(context, dockerfile)):
                if path == _IGNORE_FILE:
                    ignored = [(context / path).read_text(errors='surrogateescape'), DOCKERFILE]
                else:
                    _add(tar, context, path)
            _add_bytes(tar, DOCKERFILE, dockerfile.read_bytes())
            _add_bytes(tar, _IGNORE_FILE, '\n'.join(ignored).encode(errors='surrogateescape'))
    except OSError as error:
        archive.close()
        raise PackagingError(f'{context} could not be read for the build: {error}') from None
    archive.seek(0)
    return archive


def own_ignore_file(dockerfile: Path) -> Path:
    """Goes before the `.dockerignore` of the folder."""
    return dockerfile.with_name(f'{dockerfile.name}.dockerignore')


def _add(tar: tarfile.TarFile, context: Path, path: str) -> None:
    if (context / path).is_socket() and not (context / path).is_symlink():
        return  # No archive can hold it.
    member = tar.gettarinfo(os.fspath(context / path), arcname=path)
    member.uid = member.gid = 0
    member.uname = member.gname = ''
    if member.isreg():
        with open(context / path, 'rb') as file:
            tar.addfile(member, file)
    else:
        tar.addfile(member)


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _ignore_lines(context: Path, dockerfile: Path) -> list[str]:
    for file in (own_ignore_file(dockerfile), context / _IGNORE_FILE):
        if file.is_file():
            return file.read_text(encoding='utf-8-sig', errors='surrogateescape').splitlines()
    return []
