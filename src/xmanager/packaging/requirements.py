"""Which packages a folder asks for: its lock file, and the files that one refers to, by their content."""

from __future__ import annotations

import hashlib
import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from xmanager.errors import PackagingError
from xmanager.images.values import canonical_json

LOCKS: Final = ('requirements.txt', 'pylock.toml', 'uv.lock')
"""In the order of precedence: scripts rely on the first."""

_INCLUDE: Final = re.compile(
    r'(?:-r|-c|--requirements?|--constraints?|--build-constraints?)[\s=]*(?P<path>\S+)'
)
_FIND_LINKS: Final = re.compile(r'(?:-f|--find-links)[\s=]*(?P<path>\S+)')
_EDITABLE: Final = re.compile(r'(?:-e|--editable)\b')
_COMMENT: Final = re.compile(r'(?:^|\s)#.*')
_REMOTE: Final = re.compile(r'[a-z+]+://', re.I)
# What lies on this machine at a place that is none of the folder's.
_LOCAL: Final = re.compile(
    r'^(?:[/~]|(?:-{1,2}[\w-]+[\s=]+)?(?:\w+\+)?file:'
    r'|(?:-f|-i|--find-links|--index-url|--extra-index-url)[\s=]*[/~])'
    r'|@\s*(?:[./~]|(?:\w+\+)?file:)',
    re.IGNORECASE,
)

Read = Callable[[str], bytes]
"""The content of a file of the folder by its path."""


@attrs.frozen
class Requirements:
    """A lock file and what belongs to it, by their paths in the folder."""

    lock: str
    files: Mapping[str, bytes] = attrs.field(repr=False)

    @property
    def digest(self) -> str:
        """Another one whenever something in the files changes."""
        digests = {path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()}
        return hashlib.sha256(canonical_json([self.lock, digests])).hexdigest()

    def write(self, folder: Path) -> Path:
        """Writes the files there, and returns the path of the lock file."""
        for path, data in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return folder / self.lock


def find_requirements(files: Iterable[str], read: Read, asked: str) -> Requirements | None:
    """What a folder with these files asks for; None if it has no lock file. Raises PackagingError.

    A file of this kind without any requirement in it asks for nothing.
    """
    there = frozenset(files)
    lock = next((name for name in LOCKS if name in there), '')
    if lock == 'requirements.txt':
        found: dict[str, bytes] = {}
        if not gather(lock, there, read, found, asked):
            return None
        return Requirements(lock, found)
    if lock == 'pylock.toml':
        return Requirements(lock, {lock: read(lock)})
    if lock == 'uv.lock':
        if 'pyproject.toml' not in there:
            raise PackagingError(
                f'{asked}: there is a uv.lock, but no pyproject.toml beside it. Add it, or remove uv.lock.'
            )
        return Requirements(lock, {name: read(name) for name in (lock, 'pyproject.toml')})
    return None


def gather(
    path: str, there: Collection[str], read: Read, found: dict[str, bytes], asked: str
) -> bool:
    """Adds a file of requirements and all it names to `found`; says whether any package is asked for.

    `there` are the files that it may name. Raises PackagingError for what would have to be built of a folder, and
    for what lies elsewhere on this machine: it may change unseen.
    """
    if path not in there:
        raise PackagingError(
            f'{asked}: its requirements name {path!r}, which is not in the folder (or is left out of its snapshot).'
        )
    if path in found:
        return False
    found[path] = read(path)
    any_package = False
    for line in _lines(found[path], path, asked):
        if _LOCAL.search(line):
            raise lies_here(line, path, asked)
        if _REMOTE.search(line.split()[-1]):
            any_package = any_package or not line.startswith('-')
        elif match := _INCLUDE.match(line):
            any_package |= gather(_beside(path, match['path']), there, read, found, asked)
        elif match := _FIND_LINKS.match(line):
            folder = f'{_beside(path, match["path"])}/'
            found |= {one: read(one) for one in there if one.startswith(folder)}
        elif _EDITABLE.match(line):
            raise _must_be_built(asked, path, line)
        elif not line.startswith('-'):
            any_package = True
            local = _beside(path, _first_word(line, path, asked))
            if local in there and local.endswith('.whl'):
                found[local] = read(local)
            elif line.startswith('.') or (local in there and '/' in line):
                raise _must_be_built(asked, path, line)
    return any_package


def _lines(data: bytes, path: str, asked: str) -> Iterator[str]:
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError:
        raise PackagingError(f'{asked}: {path} is not UTF-8.') from None
    for line in text.replace('\\\r\n', ' ').replace('\\\n', ' ').splitlines():
        if stripped := _COMMENT.sub('', line).strip():
            yield stripped


def _first_word(line: str, path: str, asked: str) -> str:
    try:
        return shlex.split(line)[0]
    except ValueError as error:
        reason = str(error).lower()
        raise PackagingError(
            f"{asked}: {path} has a line that can't be read, {line!r}: {reason}."
        ) from None


def _beside(path: str, other: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), other))


def lies_here(what: str, lock: str, asked: str) -> PackagingError:
    """What a lock file asks for is on this machine, outside of what is packaged."""
    return PackagingError(
        f'{asked}: {lock} asks for {what}, which lies on this machine and may change: environments and images are '
        'made of packages from an index. Put that code into the folder that is packaged, or name a wheel beside '
        'the lock file.'
    )


def _must_be_built(asked: str, path: str, line: str) -> PackagingError:
    return PackagingError(
        f'{asked}: {path} asks for {line!r}, which would have to be built. Name a wheel, '
        'put the code into the folder itself, or (for an image) give docker_instructions that install it.'
    )
