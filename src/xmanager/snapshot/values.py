"""What a snapshot is: its entries, and the limits under which it is taken. Values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final

import attrs

from xmanager.errors import UsageError

FILE: Final = 'file'
LINK: Final = 'link'
FOLDER: Final = 'folder'

_MIB: Final = 1024**2
_UNITS: Final = {'': 1, 'k': 1024, 'm': _MIB, 'g': 1024**3, 't': 1024**4}


@attrs.frozen
class Entry:
    """One thing in a snapshot.

    `path` is relative, with '/' between its parts and never '..'; bytes of a name that are no UTF-8 stand in it as
    `surrogateescape` has them. `digest` is the SHA-256 of a file's content in hex, `target` where a link points.
    """

    path: str
    kind: str
    executable: bool = False
    size: int = 0
    digest: str = ''
    target: str = ''


@attrs.frozen(slots=False)
class Snapshot:
    """A tree that never changes. `digest` is the SHA-256 of its canonical manifest, `bytes` the sum of its files."""

    digest: str
    files: int
    bytes: int
    _read: Callable[[], tuple[Entry, ...]] = attrs.field(eq=False, repr=False, alias='read')

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """All of them, sorted by path; read when they are first asked for."""
        return self._read()


@attrs.frozen
class Survey:
    """What `SnapshotStore.take` would take now. `omitted` says of each path that is left out by which rule."""

    digest: str
    entries: tuple[Entry, ...] = attrs.field(repr=False)
    files: int
    bytes: int
    omitted: Mapping[str, str] = attrs.field(repr=False)


@attrs.frozen
class Limits:
    """What may be in a snapshot. `allow` names paths, folders or patterns that are taken in spite of it."""

    file_bytes: int = 100 * _MIB
    total_bytes: int = 1024 * _MIB
    secrets: bool = True
    allow: tuple[str, ...] = ()

    @staticmethod
    def of(environ: Mapping[str, str]) -> Limits:
        """As the settings say: `XM_SNAPSHOT_MAX_FILE`, `XM_SNAPSHOT_MAX_TOTAL`, `XM_SNAPSHOT_ALLOW`; UsageError."""
        usual = Limits()
        allow = (part.strip() for part in environ.get('XM_SNAPSHOT_ALLOW', '').split(','))
        return Limits(
            file_bytes=size_setting(environ, 'snapshot_max_file', usual.file_bytes),
            total_bytes=size_setting(environ, 'snapshot_max_total', usual.total_bytes),
            allow=tuple(part.removeprefix('./').rstrip('/') for part in allow if part),
        )

    def allows(self, path: str) -> bool:
        """Whether this path was asked for by name, by a folder above it or by a pattern."""
        if not self.allow:
            return False
        from fnmatch import fnmatchcase

        return any(
            path == one or path.startswith(f'{one}/') or fnmatchcase(path, one)
            for one in self.allow
        )


def size_setting(environ: Mapping[str, str], name: str, usual: int) -> int:
    """The bytes that a setting such as `XM_SNAPSHOT_MAX_FILE=500MiB` stands for. Raises UsageError."""
    text = environ.get(f'XM_{name.upper()}', '').strip()
    if not text:
        return usual
    lower = text.lower().removesuffix('ib').removesuffix('b')
    number, unit = (lower[:-1], lower[-1]) if lower and lower[-1] in _UNITS else (lower, '')
    try:
        amount = float(number) * _UNITS[unit]
        if not 0 <= amount < 2**63:
            raise ValueError(text)
    except ValueError:
        raise UsageError(f'--xm_{name}={text}: expected a size, such as 500MiB or 2GiB.') from None
    return int(amount)
