"""Looks for what the elements of batches have recorded, in folders of a file system that this machine sees."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from xmanager.backends.slurm.site import RECORDS, Records, is_whole
from xmanager.errors import UnreachableError

_NAME = re.compile(r'\d+\.\d+\.\d+')
_TICK = 2.0  # Seconds within which two files may have been made at what a file system calls the same time.


@attrs.define
class _Folder:
    """What was seen of one folder of records."""

    told: set[str] = attrs.field(factory=set)
    changed_at: int = 0
    noticed_at: float = 0.0
    has_unfinished: bool = False


@attrs.frozen
class Looked:
    """A look that is over: `xmanager.backends.slurm.site.Looking`."""

    records: Records

    def poll(self) -> Records:
        """What was new."""
        return self.records


class RecordFolders:
    """The folders of all batches that were looked at. `clock` counts seconds and never jumps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._folders: dict[str, _Folder] = {}

    def look(self, batches: Sequence[str]) -> Looked:
        """New records. A folder in which nothing has changed costs one `open`."""
        told = {}
        for batch in batches:
            records: dict[str, bytes] = {}
            for kind in RECORDS:
                folder = self._folders.setdefault(f'{batch}/{kind}', _Folder())
                records.update(self._news(batch, kind, folder))
            if records:
                told[batch] = records
        return Looked(told)

    def forget(self) -> None:
        """The next look tells of all records again."""
        self._folders = {}

    def _news(self, batch: str, kind: str, folder: _Folder) -> Mapping[str, bytes]:
        now = self._clock()
        # Opened, not only asked for its times: only then does NFS look whether it has changed.
        with opened(f'{batch}/{kind}') as descriptor:
            if descriptor is None:
                return {}
            changed_at = os.fstat(descriptor).st_mtime_ns
            if changed_at != folder.changed_at:
                folder.changed_at, folder.noticed_at = changed_at, now
            elif now > folder.noticed_at + _TICK and not folder.has_unfinished:
                return {}
            names = [name for name in os.listdir(descriptor) if name not in folder.told]
        paths = {name: f'{batch}/{kind}/{name}' for name in names if _NAME.fullmatch(name)}
        contents = read([*paths.values()])
        whole = {n: contents[p] for n, p in paths.items() if is_whole(kind, contents.get(p, b''))}
        folder.told.update(whole)
        folder.has_unfinished = len(whole) < len(paths)
        return {f'{kind}/{name}': content for name, content in whole.items()}


def read(paths: Sequence[str]) -> Mapping[str, bytes]:
    """The content of those files that exist. Raises UnreachableError if one can't be read."""
    found = {}
    for path in paths:
        try:
            with open(path, 'rb') as file:
                found[path] = file.read()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UnreachableError(f'{path} could not be read: {error.strerror}.') from error
    return found


@contextlib.contextmanager
def opened(folder: str) -> Iterator[int | None]:
    """A descriptor of the folder; None if it does not exist."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = None
    except OSError as error:
        raise UnreachableError(f'{folder} could not be opened: {error.strerror}.') from error
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
