"""The canonical text of a snapshot, whose SHA-256 is its digest: written and read here, and nowhere else.

    xmanager-snapshot 1 <files> <bytes>
    f <digest> <size> <path>        a file
    x <digest> <size> <path>        an executable file
    l <target> <path>               a symbolic link
    d <path>                        a folder

One line an entry, sorted by path, tabs between the fields, every folder named; tabs, line ends and backslashes of a
name are written as \\t, \\n, \\r and \\\\. Bytes, for names need not be UTF-8.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from xmanager.errors import PackagingError
from xmanager.snapshot.values import FILE, FOLDER, LINK, Entry

_HEAD: Final = re.compile(rb'xmanager-snapshot 1 (0|[1-9][0-9]{0,17}) (0|[1-9][0-9]{0,17})')
_DIGEST: Final = re.compile(r'[0-9a-f]{64}')
_SPECIAL: Final = re.compile(r'[\\\t\n\r]')
_ESCAPES: Final = {'\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r'}
_ESCAPED: Final = re.compile(r'\\(.)')
_MEANT: Final = {'\\': '\\', 't': '\t', 'n': '\n', 'r': '\r'}

HEAD_BYTES: Final = 80
"""As many bytes of a manifest are enough for `totals`."""


def render(lines: Iterable[tuple[str, str]], files: int, total: int) -> bytes:
    """The manifest of these (path, line) pairs: it sorts them."""
    body = '\n'.join([line for _, line in sorted(lines)])
    text = f'xmanager-snapshot 1 {files} {total}\n{body}\n' if body else 'xmanager-snapshot 1 0 0\n'
    return text.encode('utf-8', 'surrogateescape')


def file_line(path: str, digest: str, size: int, executable: bool) -> str:
    return f'{"x" if executable else "f"}\t{digest}\t{size}\t{escape(path)}'


def link_line(path: str, target: str) -> str:
    return f'l\t{escape(target)}\t{escape(path)}'


def folder_line(path: str) -> str:
    return f'd\t{escape(path)}'


def render_entries(entries: Sequence[Entry]) -> bytes:
    """The manifest of these entries."""
    lines = [(entry.path, _line(entry)) for entry in entries]
    files = [entry.size for entry in entries if entry.kind == FILE]
    return render(lines, len(files), sum(files))


def _line(entry: Entry) -> str:
    if entry.kind == FILE:
        return file_line(entry.path, entry.digest, entry.size, entry.executable)
    return link_line(entry.path, entry.target) if entry.kind == LINK else folder_line(entry.path)


def digest_of(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def totals(text: bytes) -> tuple[int, int]:
    """How many files and bytes, by the first line alone."""
    match = _HEAD.fullmatch(text.partition(b'\n')[0])
    if match is None:
        raise PackagingError('the manifest of a snapshot is damaged: its first line is none.')
    return int(match[1]), int(match[2])


def parse(text: bytes) -> tuple[Entry, ...]:
    """The entries of a manifest. Raises PackagingError for what `render` would not have written."""
    files, total = totals(text)
    _, _, body = text.partition(b'\n')
    lines = body.decode('utf-8', 'surrogateescape').split('\n')
    if lines.pop() or len(lines) != body.count(b'\n'):
        raise PackagingError('the manifest of a snapshot is damaged: its last line is cut off.')
    try:
        entries = tuple(_entry(line) for line in lines)
        _check_order(entries)
    except (ValueError, KeyError) as error:
        raise PackagingError(f'the manifest of a snapshot is damaged: {error}.') from None
    if (files, total) != _sums(entries):
        raise PackagingError('the manifest of a snapshot is damaged: its sums are wrong.')
    return entries


def _sums(entries: Sequence[Entry]) -> tuple[int, int]:
    sizes = [entry.size for entry in entries if entry.kind == FILE]
    return len(sizes), sum(sizes)


def _entry(line: str) -> Entry:
    kind, *fields = line.split('\t')
    if kind in ('f', 'x') and len(fields) == 3:
        digest, size, path = fields
        if not _DIGEST.fullmatch(digest) or not size.isascii() or not size.isdigit():
            raise ValueError(f'no digest and size: {line!r}')
        if str(int(size)) != size:
            raise ValueError(f'a size that is written otherwise: {line!r}')
        return Entry(unescape(path), FILE, kind == 'x', int(size), digest)
    if kind == 'l' and len(fields) == 2 and fields[0]:
        return Entry(unescape(fields[1]), LINK, target=unescape(fields[0]))
    if kind == 'd' and len(fields) == 1:
        return Entry(unescape(fields[0]), FOLDER)
    raise ValueError(f'no entry: {line!r}')


def _check_order(entries: Sequence[Entry]) -> None:
    """Paths ascend, stay within, and stand below folders that are named before them."""
    last = ''
    folders = {''}
    for entry in entries:
        path = entry.path
        parent, _, name = path.rpartition('/')
        if (
            path <= last
            or path.startswith('/')
            or name in ('', '.', '..')
            or '\0' in path
            or '\0' in entry.target
        ):
            raise ValueError(f'a path that cannot stand there: {path!r}')
        if parent not in folders:
            raise ValueError(f'nothing holds {path!r}')
        if entry.kind == FOLDER:
            folders.add(path)
        last = path


def escape(name: str) -> str:
    if _SPECIAL.search(name) is None:
        return name
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], name)


def unescape(text: str) -> str:
    if '\\' not in text:
        return text
    name = _ESCAPED.sub(lambda match: _MEANT[match[1]], text)
    if escape(name) != text:
        raise ValueError(f'a name that is written otherwise: {text!r}')
    return name
