"""Fetches the folders `out/` of units that have ended on a cluster: file by file, and only what is not here."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final

from xmanager.backends.slurm.remote.channel import Channel

_AGENT: Final = 'agent_watching'
_PATIENCE: Final = 300.0  # Seconds in which a slow file system tells how large a folder is.
_OUT: Final = 'out'
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Results:
    """Fetches over a channel; a folder of which more than `limit` bytes aren't here stays where it is."""

    def __init__(self, channel: Channel, limit: int) -> None:
        self._channel = channel
        self._limit = limit

    def fetch(self, tasks: Iterable[tuple[Path, str]]) -> None:
        """For tasks, by their folder here and there. Raises OSError if they can't be written."""
        places = dict(tasks)
        for here in places:
            (here / _OUT).mkdir(parents=True, exist_ok=True)
        asked = [
            [str(here), f'{there}/{_OUT}', _known(here / _OUT), self._limit]
            for here, there in places.items()
        ]
        receivers = {str(here): _Receiver(here) for here in places}

        def hear(said: dict[str, Any], data: bytes) -> None:
            receiver = receivers[said['key']]
            if 'size' in said:
                where = f'{self._channel.login}:{places[Path(said["key"])]}/{_OUT}'
                receiver.tell_of_rest(where, said['size'], self._limit)
            elif 'trouble' in said:
                receiver.skip(said['path'], said['trouble'])
            else:
                receiver.receive(said, data)

        self._channel.ask(
            'results', needs=_AGENT, timeout=_PATIENCE, hear=hear, folders=asked, once=True
        )


class _Receiver:
    """Writes one task's results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._out = folder / _OUT
        # Not in `out`, where the cluster may have had a link put in its way.
        self._beside = folder / '.fetched'
        self._file: IO[bytes] | None = None
        self._skipped = ''

    def receive(self, said: dict[str, Any], data: bytes) -> None:
        """As `take`; what can't be written here is told in the log. Raises OSError if the disk is full."""
        if said['path'] == self._skipped:
            return
        try:
            self.take(said, data)
        except OSError as error:
            if error.errno in _FULL:
                self._close()
                raise
            self.skip(said['path'], error.strerror or str(error))

    def skip(self, path: str, trouble: str) -> None:
        """Says in the log, where the user looks, that a result can't be had."""
        self._skipped = path
        self._close()
        self._tell(f'the result {path!r} could not be fetched: {trouble}')

    def _close(self) -> None:
        """Removes what is here of a file that is not whole."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._beside.unlink(missing_ok=True)

    def take(self, said: dict[str, Any], data: bytes) -> None:
        """A folder, a link, or a piece of a file, which has its name when it is whole."""
        place = self._place(said['path'])
        if said.get('folder'):
            place.mkdir(exist_ok=True)
            return
        beside = self._beside
        if 'link' in said:
            beside.unlink(missing_ok=True)
            os.symlink(said['link'], beside)
            os.replace(beside, place)
            return
        if self._file is None:
            self._file = open(beside, 'wb')  # noqa: SIM115
        self._file.write(data)
        if said['last']:
            self._file.close()
            self._file = None
            os.chmod(beside, said['mode'] & 0o777 | stat.S_IRUSR | stat.S_IWUSR)
            os.utime(beside, ns=(said['time'], said['time']))
            os.replace(beside, place)

    def _place(self, path: str) -> Path:
        """Where a path is to be here: nothing that comes from there is written outside, not through a link either."""
        parts = path.split('/')
        place = self._out.joinpath(*parts)
        if any(part in ('', '.', '..') for part in parts):
            raise OSError(f'the cluster names a result {path!r}')
        inner = place.parent
        while inner != self._out:
            if inner.is_symlink():
                raise OSError(f'the cluster names a result below a link: {path!r}')
            inner = inner.parent
        return place

    def tell_of_rest(self, where: str, size: int, limit: int) -> None:
        """Says in the log what is not here."""
        self._tell(
            f'the results stay at {where}: {_megabytes(size)} are more than XM_SLURM_FETCH_MAX '
            f'({_megabytes(limit)}). Fetch them by: '
            f'rsync -a {shlex.quote(where + "/")} {shlex.quote(str(self._out))}'
        )

    def _tell(self, sentence: str) -> None:
        with open(self._folder / 'output.log', 'ab') as log:
            log.write(f'xmanager: {sentence}\n'.encode(errors='backslashreplace'))


def _known(out: Path) -> dict[str, list[int]]:
    """Sizes and times of what is here."""
    known: dict[str, list[int]] = {}
    for folder, folders, names in os.walk(out):
        for name in (*names, *folders):
            path = os.path.join(folder, name)
            found = os.lstat(path)
            known[os.path.relpath(path, out)] = [found.st_size, found.st_mtime_ns]
    return known


def _megabytes(size: int) -> str:
    return f'{size / 2**20:.1f}MiB'
