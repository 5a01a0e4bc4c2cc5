"""Tells, on the login node, what units have written: records of their starts and ends, logs as they grow, results.

Sent to the agent as text (`Agent.extend`): standard library only, Python 3.6 or later, types in quotes.
"""

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from typing import Any

_BLOCK = 1 << 20
_RECORD = re.compile(r'\d+\.\d+\.\d+')
_RECORD_BYTES = 1 << 16
_SETTLED = 2.0  # Seconds: no file system's clock ticks more slowly.
_LOG = 'output.log'
_EARLIER = re.compile(r'output\.\d+\.log')
_GONE = (errno.ENOENT, errno.ENOTDIR)


def verbs(agent: 'Any', refused: 'Any') -> 'dict[str, Any]':
    """What this text adds to the agent."""
    watch = _Watch(agent.wire)
    return {'look': watch.look, 'tails': watch.tails, 'results': watch.results}


class _Watch:
    """Remembers what was told over this connection: its other end never asks for the same twice."""

    def __init__(self, wire: 'Any') -> None:
        self._wire = wire
        self._seen: dict[str, _Seen] = {}
        self._tails: dict[str, _Tail] = {}

    def look(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Files in the `begun` and `ends` of batches that were not told of in an earlier answer."""
        kinds = ('begun', 'ends')
        wanted = [f'{folder}/{kind}' for folder in request['folders'] for kind in kinds]
        self._seen = {path: self._seen.get(path) or _Seen() for path in wanted}
        found, contents = [], []
        for path, seen in self._seen.items():
            batch, kind = os.path.split(path)
            for name, data in seen.new(path):
                found.append([batch, f'{kind}/{name}', len(data)])
                contents.append(data)
        return {'found': found}, b''.join(contents)

    def tails(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """What is new in the logs that are followed, at most `room` bytes; `more` says that there is more."""
        for key, *where in request['add']:
            self._tails[key] = _Tail(*where)
        for key in request['drop']:
            self._tails.pop(key, None)
        room = request['room']
        parts, contents = [], []
        for key, tail in self._tails.items():
            for name, offset, data in _told(tail):
                parts.append([key, name, offset, len(data)])
                contents.append(data)
                room -= len(data)
                if room <= 0:
                    return {'parts': parts, 'left': True}, b''.join(contents)
        return {'parts': parts, 'left': False}, b''.join(contents)

    def results(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Sends folders, file by file, without what the other side has with the same size and time.

        Of a folder in which more than `limit` bytes would have to travel only their number is told.
        """
        for key, folder, known, limit in request['folders']:
            every = (found for _, found in _lacking(folder, known))
            size = sum(found.st_size for found in every if isinstance(found, os.stat_result))
            if size > limit:
                self._wire.send({'more': True, 'key': key, 'size': size})
                continue
            for path, found in _lacking(folder, known):
                try:
                    self._send(key, folder, path, found)
                except BrokenPipeError:
                    raise
                except OSError as error:
                    if error.errno not in _GONE:
                        self._wire.send(
                            {'more': True, 'key': key, 'path': path, 'trouble': error.strerror}
                        )
        return {}, b''

    def _send(self, key: str, folder: str, path: str, found: 'os.stat_result | OSError') -> None:
        if isinstance(found, OSError):
            raise found
        about = {'more': True, 'key': key, 'path': path, 'time': found.st_mtime_ns}
        about['mode'] = stat.S_IMODE(found.st_mode)
        if stat.S_ISLNK(found.st_mode):
            self._wire.send(dict(about, link=os.readlink(f'{folder}/{path}')))
            return
        if stat.S_ISDIR(found.st_mode):
            self._wire.send(dict(about, folder=True))
            return
        with open(f'{folder}/{path}', 'rb') as file:
            data = file.read(_BLOCK)
            while True:
                following = file.read(_BLOCK) if len(data) == _BLOCK else b''
                self._wire.send(dict(about, last=not following), data)
                if not following:
                    return
                data = following


def _told(tail: '_Tail') -> 'Iterator[tuple[str, int, bytes]]':
    """What is new in it; with offset -4 why that can't be read."""
    try:
        yield from tail.new()
    except OSError as error:
        if error.errno not in _GONE:
            yield str(error), -4, b''


def _lacking(
    folder: str, known: 'dict[str, list[int]]'
) -> 'Iterator[tuple[str, os.stat_result | OSError]]':
    """Folders, files and links below a folder, each after the one that holds it; nothing else can travel."""
    waiting = ['']
    while waiting:
        below = waiting.pop()
        try:
            entries = sorted(os.scandir(f'{folder}/{below}'), key=lambda entry: entry.name)
        except OSError as error:
            if error.errno not in _GONE:
                yield below or '.', error
            continue
        for entry in entries:
            path = f'{below}{entry.name}'
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(found.st_mode):
                waiting.append(f'{path}/')
            elif not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
                continue
            if known.get(path) != [found.st_size, found.st_mtime_ns]:
                yield path, found


class _Seen:
    """What was told of one folder of records."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._time = -1
        self._since = 0.0
        self._is_settled = False

    def new(self, path: str) -> 'list[tuple[str, bytes]]':
        """Records that are whole and were not told of."""
        found: list[tuple[str, bytes]] = []
        with _passing_over_what_is_gone(), _opened(path) as descriptor:
            now, changed = time.monotonic(), os.fstat(descriptor).st_mtime_ns
            if changed != self._time:
                self._time, self._since, self._is_settled = changed, now, False
            if self._is_settled:
                return found
            names = {name for name in os.listdir(descriptor) if _RECORD.fullmatch(name)}
            is_whole = True
            for name in sorted(names - self._names):
                with open(f'{path}/{name}', 'rb') as file:
                    data = file.read(_RECORD_BYTES)
                # A beginning is written line by line, an end appears whole.
                if data.endswith(b'\n') and (path.endswith('/ends') or b'\nat ' in data):
                    found.append((name, data))
                    self._names.add(name)
                else:  # It is just being written.
                    is_whole = False
            # Two files may be made in one tick of the file system's clock, one of them after this look.
            self._is_settled = is_whole and now - self._since > _SETTLED
        return found


class _Tail:
    """One task's logs. `inode` is that of the log which the other side has up to `offset`; 0 if it has none.

    `have` names the logs of earlier attempts that it has.
    """

    def __init__(self, folder: str, inode: int, offset: int, have: 'list[str]') -> None:
        self._folder = folder
        self._inode = inode
        self._offsets = {_LOG: offset}
        self._have = set(have)

    def new(self) -> 'Iterator[tuple[str, int, bytes]]':
        """Pieces: (name of the log, offset, bytes), each to be put at its place.

        With offset -1 `output.log` gets the name, for a later attempt has begun; with offset -2 the `output.log` that
        follows has the inode which stands in place of the name; with offset -3 the log of that name is whole.
        """
        with _passing_over_what_is_gone(), open(f'{self._folder}/{_LOG}', 'rb') as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode:
                yield from self._earlier()
                self._inode, self._offsets[_LOG] = inode, 0
                yield str(inode), -2, b''
            yield from self._rest(file, _LOG)

    def _earlier(self) -> 'Iterator[tuple[str, int, bytes]]':
        """What is left of the log that was followed, which has another name by now; then those not known at all."""
        names = sorted(name for name in os.listdir(self._folder) if _EARLIER.fullmatch(name))
        for name in names:
            if name in self._have:
                continue
            with open(f'{self._folder}/{name}', 'rb') as file:
                if os.fstat(file.fileno()).st_ino != self._inode:
                    yield from self._rest(file, name)
                    self._have.add(name)
                    yield name, -3, b''
                    continue
                yield from self._rest(file, _LOG)
            self._have.add(name)
            yield name, -1, b''

    def _rest(self, file: 'Any', name: str) -> 'Iterator[tuple[str, int, bytes]]':
        # Whoever takes the pieces may stop at any of them, and come again later.
        while True:
            offset = self._offsets.get(name, 0)
            file.seek(offset)
            data = file.read(_BLOCK)
            if not data:
                return
            self._offsets[name] = offset + len(data)
            yield name, offset, data


@contextlib.contextmanager
def _opened(folder: str) -> 'Iterator[int]':
    """An open folder: to open it is what makes a network file system ask its server for what is new."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _passing_over_what_is_gone() -> 'Iterator[None]':
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise
