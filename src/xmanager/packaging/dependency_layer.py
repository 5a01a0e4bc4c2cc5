"""The layer with the packages that a folder asks for: wheels that uv resolves for the image, not for this machine."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from xmanager.errors import PackagingError
from xmanager.images.layer import READ_BYTES, tar_chunks
from xmanager.images.layer_cache import LayerCache
from xmanager.images.values import Layer
from xmanager.packaging.one_at_a_time import one_at_a_time
from xmanager.packaging.requirements import Requirements
from xmanager.packaging.uv import find_uv, run_uv
from xmanager.packaging.workshop import Workshop

PLACE: Final = '/opt/xmanager/packages'
"""Where the packages are in an image: first in PYTHONPATH, their programs first in PATH."""

# Raised whenever the same lock would give other files.
_FORMAT: Final = 1
_ARCHITECTURES: Final = {'amd64': 'x86_64', 'arm64': 'aarch64', 'riscv64': 'riscv64'}
# What depends on where and when it was installed.
_LEFT_OUT: Final = frozenset({'direct_url.json', 'uv_cache.json', 'REQUESTED'})
_SHEBANG: Final = re.compile(rb"#!(?:/bin/sh\n'''exec' [^\n]*\n' '''|[^\n]*python[^\n]*)\n")


@attrs.frozen
class Target:
    """What packages are chosen for: the Python of an image, and what it runs on."""

    python: str
    architecture: str
    libc: str = 'gnu'

    @property
    def uv_platform(self) -> str:
        """As uv's `--python-platform` calls it. Raises PackagingError for one that it doesn't know."""
        machine = _ARCHITECTURES.get(self.architecture)
        if machine is None:
            raise PackagingError(
                f'Packages can be installed into images for {", ".join(_ARCHITECTURES)}, not {self.architecture}. '
                'Give docker_instructions that install them.'
            )
        return f'{machine}-unknown-linux-{self.libc}'


def key_of(requirements: Requirements, target: Target) -> str:
    """What fixes the layer: its content is what uv found when it was first asked for this."""
    return f'packages {_FORMAT} {requirements.digest} {target.python} {target.uv_platform}'


def find_dependency_layer(
    requirements: Requirements, target: Target, workshop: Workshop
) -> Layer | None:
    """The layer, if it has been made."""
    return LayerCache(workshop.cache).find(key_of(requirements, target), PLACE, compressed=False)


def dependency_layer(
    requirements: Requirements, target: Target, workshop: Workshop, name: str, *, compressed: bool
) -> Layer:
    """The layer, made if need be; who asks for it meanwhile waits for it. Raises PackagingError with uv's own words."""
    cache, key = LayerCache(workshop.cache), key_of(requirements, target)
    plain = cache.find(key, PLACE, compressed=False)
    if plain is None:
        with one_at_a_time(
            workshop.cache, key, lambda: workshop.tell(name, 'waiting for its packages')
        ):
            plain = cache.find(key, PLACE, compressed=False)
            if plain is None:
                plain = _made(requirements, target, workshop, name, cache)
    if not compressed:
        return plain
    return cache.make(plain.diff_id, PLACE, lambda: _pieces(plain.path), compressed=True)


def environment_of(env: Mapping[str, str]) -> dict[str, str]:
    """What an image has to say so that the packages are found, given what its base says."""
    path = env.get('PATH') or '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
    before = env.get('PYTHONPATH')
    return {
        'PATH': f'{PLACE}/bin:{path}',
        'PYTHONPATH': f'{PLACE}:{before}' if before else PLACE,
    }


def _made(
    requirements: Requirements, target: Target, workshop: Workshop, name: str, cache: LayerCache
) -> Layer:
    workshop.tell(name, f'installing {requirements.lock}')
    workshop.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.packages-', dir=workshop.cache) as scratch:
        folder, given = Path(scratch, 'packages'), Path(scratch, 'given')
        folder.mkdir()
        given.mkdir()
        _install(requirements, target, workshop, given, folder)
        entries = _entries(folder)
        # Unpacking and reading are one step to the cache: half of a layer is never kept.
        return cache.make(
            key_of(requirements, target),
            PLACE,
            lambda: tar_chunks(entries, _Installed.open, PLACE),
            compressed=False,
        )


def _install(
    requirements: Requirements, target: Target, workshop: Workshop, given: Path, folder: Path
) -> None:
    lock = requirements.write(given)
    uv = find_uv(workshop.environ)
    if lock.name == 'uv.lock':
        lock = given / 'exported.txt'
        export = ('export', '--frozen', '--no-emit-project', '--no-default-groups')
        _uv(uv, (*export, '--project', str(given), '-o', str(lock)), requirements, workshop, given)
    import sys

    _uv(
        uv,
        (
            'pip', 'install', '--target', str(folder), '--requirements', str(lock), '--python', sys.executable,
            '--python-version', target.python, '--python-platform', target.uv_platform,
            '--only-binary', ':all:', '--no-compile-bytecode',
        ),
        requirements,
        workshop,
        given,
    )  # fmt: skip


def _uv(
    uv: str, arguments: tuple[str, ...], requirements: Requirements, workshop: Workshop, cwd: Path
) -> None:
    failure = f"{requirements.lock} can't be installed into the image"
    run_uv((uv, *arguments), workshop.environ, cwd, failure)


@attrs.frozen
class _Installed:
    """A file that was installed; `data` is what it is in the layer if that differs."""

    path: str
    kind: str
    executable: bool
    size: int
    target: str
    file: Path
    data: bytes | None = None

    def open(self) -> BinaryIO:
        return self.file.open('rb') if self.data is None else io.BytesIO(self.data)


def _entries(folder: Path) -> list[_Installed]:
    found = [entry for path in _walk(folder) if (entry := _entry(folder, path)) is not None]
    rewritten = {entry.path: entry.data for entry in found if entry.data is not None}
    return [
        _with_data(entry, _record(entry, rewritten))
        if entry.path.endswith('.dist-info/RECORD')
        else entry
        for entry in found
    ]


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*links, *files):
            yield Path(parent, name)


def _entry(folder: Path, path: Path) -> _Installed | None:
    name = path.relative_to(folder).as_posix()
    if name == '.lock' or (path.parent.suffix == '.dist-info' and path.name in _LEFT_OUT):
        return None
    if path.is_symlink():
        return _Installed(name, 'link', False, 0, os.readlink(path), path)
    status = path.stat()
    entry = _Installed(name, 'file', bool(status.st_mode & 0o100), status.st_size, '', path)
    if name.startswith('bin/') and status.st_size < READ_BYTES:
        data = path.read_bytes()
        plain = _SHEBANG.sub(b'#!/usr/bin/env python3\n', data, count=1)
        if data.startswith(b'#!') and plain != data:
            entry = _with_data(entry, plain)
    return entry


def _with_data(entry: _Installed, data: bytes) -> _Installed:
    return attrs.evolve(entry, data=data, size=len(data))


def _record(entry: _Installed, rewritten: Mapping[str, bytes | None]) -> bytes:
    """The list of a package's files, in order, without what was left out, and with what was rewritten."""
    rows = []
    for row in csv.reader(io.StringIO(entry.file.read_text('utf-8'))):
        # Installers write paths relative to the folder, or by `../` from a deeper one.
        path = re.sub(r'^(\.\./)+', '', os.path.normpath(row[0])) if row else ''
        if not path or os.path.basename(path) in _LEFT_OUT:
            continue
        data = rewritten.get(path)
        rows.append([row[0], _hash(data), str(len(data))] if data is not None else row)
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(sorted(rows))
    return text.getvalue().encode()


def _hash(data: bytes) -> str:
    """As RECORD writes it: https://packaging.python.org/en/latest/specifications/recording-installed-packages/"""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return f'sha256={digest.rstrip(b"=").decode()}'


def _pieces(path: Path | None) -> Iterator[bytes]:
    assert path is not None
    with path.open('rb') as file:
        while chunk := file.read(READ_BYTES):
            yield chunk
