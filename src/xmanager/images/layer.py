"""The tar of a layer, made of files as they are in a snapshot: the same bytes for the same content, always."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import BinaryIO, Final, Protocol, TypeVar

from xmanager.errors import PackagingError

# Midnight of 1 January 1980: zip files, which wheels and eggs are, know no earlier time.
MODIFIED: Final = 315_532_800
READ_BYTES: Final = 2**20

_BLOCK: Final = 512
# A file of this name in a layer deletes another one: https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md
_WHITEOUT: Final = '.wh.'
_LARGEST_OCTAL: Final = 8**11 - 1
_END: Final = bytes(2 * _BLOCK)
_FILE, _LINK, _FOLDER, _PAX = b'0', b'2', b'5', b'x'


class LayerEntry(Protocol):
    """A file, link or folder: `xmanager.snapshot.Entry` is one."""

    @property
    def path(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def executable(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def target(self) -> str: ...


E = TypeVar('E', bound=LayerEntry)


def tar_chunks(entries: Iterable[E], read: Callable[[E], BinaryIO], place: str) -> Iterator[bytes]:
    """The tar with the entries below the folder `place` of the image, piece by piece.

    Everything belongs to root, may be read by all, and is as old as everything else. Folders that lead to an entry are
    made. Raises PackagingError for a name that means something else in a layer, or a file of another size than said.
    """
    place = place.strip('/')
    made: set[str] = set()
    if place:
        yield from _folders(f'{place}/', made)
    for entry in sorted(entries, key=lambda entry: entry.path.encode(errors='surrogateescape')):
        _check_path(entry.path)
        path = f'{place}/{entry.path}' if place else entry.path
        if entry.kind == 'folder':
            yield from _folders(f'{path}/', made)
            continue
        yield from _folders(path, made)
        if entry.kind == 'link':
            yield _header(path, _LINK, 0o777, 0, entry.target)
        else:
            yield _header(path, _FILE, 0o755 if entry.executable else 0o644, entry.size)
            yield from _content(entry, read)
    yield _END


def plain_file_header(path: str, size: int) -> bytes:
    """What stands before the content of a file in a tar."""
    return _header(path, _FILE, 0o644, size)


def _folders(path: str, made: set[str]) -> Iterator[bytes]:
    """Headers of the folders that lead to a path and haven't been made."""
    parent = path.rpartition('/')[0]
    if not parent or parent in made:
        return
    yield from _folders(parent, made)
    made.add(parent)
    yield _header(f'{parent}/', _FOLDER, 0o755, 0)


def _content(entry: E, read: Callable[[E], BinaryIO]) -> Iterator[bytes]:
    left = entry.size
    with read(entry) as file:
        while chunk := file.read(READ_BYTES):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise PackagingError(
            f'{entry.path!r} is not {entry.size} bytes long as it was: it was changed while it was read. Try again.'
        )
    if over := entry.size % _BLOCK:
        yield bytes(_BLOCK - over)


def _check_path(path: str) -> None:
    parts = path.split('/')
    if not path or path.startswith('/') or any(part in ('', '.', '..') for part in parts):
        raise PackagingError(f'{path!r} is no path inside a layer.')
    if any(part.startswith(_WHITEOUT) for part in parts):
        raise PackagingError(
            f"{path!r} can't be put into an image: names that begin with {_WHITEOUT!r} delete files there. Rename it."
        )


def _header(path: str, kind: bytes, mode: int, size: int, target: str = '') -> bytes:
    """A ustar header, behind a PAX header for what doesn't fit into it."""
    name, link = (text.encode(errors='surrogateescape') for text in (path, target))
    prefix, short = _split(name)
    beyond: list[tuple[bytes, bytes]] = []
    if not short:
        beyond.append((b'path', name))
        prefix, short = b'', name[:100]
    if len(link) > 100:
        beyond.append((b'linkpath', link))
    if size > _LARGEST_OCTAL:
        beyond.append((b'size', b'%d' % size))
        size = 0
    own = _ustar(short, kind, mode, size, link[:100], prefix)
    return (_pax(beyond) if beyond else b'') + own


def _split(name: bytes) -> tuple[bytes, bytes]:
    """A name as ustar keeps it, in two fields of 155 and 100 bytes; the second is empty if it can't."""
    if len(name) <= 100:
        return b'', name
    at = name.find(b'/', max(0, len(name) - 101), 156)
    return (name[:at], name[at + 1 :]) if 0 < at < len(name) - 1 else (b'', b'')


def _pax(records: list[tuple[bytes, bytes]]) -> bytes:
    if any(not _is_utf8(value) for _, value in records):
        records = [(b'hdrcharset', b'BINARY'), *records]
    data = b''.join(_record(key, value) for key, value in records)
    padded = data + bytes(-len(data) % _BLOCK)
    return _ustar(b'././@PaxHeader', _PAX, 0o644, len(data), b'', b'') + padded


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value`, where the length counts its own digits."""
    rest = b' %b=%b\n' % (key, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b'%d%b' % (length, rest)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ustar(name: bytes, kind: bytes, mode: int, size: int, link: bytes, prefix: bytes) -> bytes:
    # POSIX.1-1988, the fields in their order; the checksum counts itself as eight spaces.
    before = b'%b%b%011o\0%b' % (name.ljust(100, b'\0'), _owner(mode), size, _MODIFIED_FIELD)
    after = b'%b%b%b%b%b' % (
        kind,
        link.ljust(100, b'\0'),
        b'ustar\x0000'.ljust(88, b'\0'),
        prefix.ljust(155, b'\0'),
        bytes(12),
    )
    checksum = sum(before) + sum(after) + 8 * ord(' ')
    return b'%b%06o\0 %b' % (before, checksum, after)


@lru_cache
def _owner(mode: int) -> bytes:
    return b'%07o\0%07o\0%07o\0' % (mode, 0, 0)


_MODIFIED_FIELD: Final = b'%011o\0' % MODIFIED
