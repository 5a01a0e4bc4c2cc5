"""Takes in, on the login node, what executables need: code and images, by their content.

Sent to the agent as text (`Agent.extend`): standard library only, Python 3.6 or later, types in quotes. It writes what
`xmanager.snapshot` writes: the folder may serve an installation of the cluster's own as well.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import zlib
from typing import Any

_EPOCH = (
    315532800 * 10**9
)  # As `xmanager.snapshot.content` has it: what bears another time was changed.
_BLOCK = 1 << 20
_NO_LINK = (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS)
_THERE = (errno.ENOTEMPTY, errno.EEXIST)
_TAG = os.urandom(8).hex()  # Of files on their way: several login nodes may share the folder.
_ESCAPED = re.compile(rb'\\(.)')
_MEANT = {b'\\': b'\\', b't': b'\t', b'n': b'\n', b'r': b'\r'}


def verbs(agent: 'Any', refused: 'Any') -> 'dict[str, Any]':
    """What this text adds to the agent."""
    store = _Store(agent, refused)
    return {
        'known': store.known,
        'manifest': store.manifest,
        'lacking': store.lacking,
        'put': store.put,
        'part': store.part,
        'tree': store.tree,
        'layout': store.layout,
    }


class _Entry:
    """A line of a manifest; `xmanager.snapshot.manifest` describes it."""

    def __init__(self, line: bytes) -> None:
        kind, *fields = line.split(b'\t')
        self.kind = kind.decode()
        self.path = _ESCAPED.sub(_meant, fields[-1])
        self.is_file = self.kind in ('f', 'x')
        self.executable = self.kind == 'x'
        self.digest = fields[0].decode() if self.is_file else ''
        self.size = int(fields[1]) if self.is_file else 0
        self.target = _ESCAPED.sub(_meant, fields[0]) if self.kind == 'l' else b''


class _Store:
    """The folders of snapshots and images below the root."""

    def __init__(self, agent: 'Any', refused: 'Any') -> None:
        self._wire = agent.wire
        self._refused = refused
        self._snapshots = f'{agent.root}/snapshots'
        self._images = f'{agent.root}/images'
        self._manifests: dict[str, bytes] = {}
        self._part: Any = None
        self._is_locked = False

    def known(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Of which of these snapshots the manifests are here."""
        known = [one for one in request['digests'] if self._read_manifest(one) is not None]
        return {'known': known}, b''

    def manifest(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Takes a manifest, told by what is new in it.

        The bytes are a list of pieces: text, or [first, count] of the lines of the manifest `base`.
        """
        base: list[bytes] = []
        if request['base']:
            base = (self._read_manifest(request['base']) or b'').split(b'\n')
        lines: list[bytes] = []
        for piece in json.loads(zlib.decompress(self._wire.read()).decode()):
            if isinstance(piece, str):
                lines += piece.encode('latin-1').split(b'\n')
            else:
                lines += base[piece[0] : piece[0] + piece[1]]
        text = b'\n'.join(lines)
        if hashlib.sha256(text).hexdigest() != request['digest']:
            raise self._refused('the manifest of a snapshot arrived damaged. Try again.')
        self._manifests[request['digest']] = text
        return {}, b''

    def lacking(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Which of these blobs of images ([digest, size]) aren't here."""
        lacking = []
        for digest, size in request['blobs']:
            try:
                is_here = os.stat(self._place('images', digest, False)).st_size == size
            except FileNotFoundError:
                is_here = False
            if not is_here:
                lacking.append(digest)
        return {'lacking': lacking}, b''

    def put(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Keeps contents that come whole, one after the other."""
        data, start = self._data(request), 0
        for digest, executable, size in request['files']:
            part = _Part(self._place(request['into'], digest, executable))
            part.add(data[start : start + size])
            self._keep(part, digest, executable)
            start += size
        return {}, b''

    def part(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Takes a piece of a large content, `first` to `last`."""
        digest, executable = request['digest'], request['executable']
        if request['first']:
            self._part = _Part(self._place(request['into'], digest, executable))
        self._part.add(self._data(request))
        if request['last']:
            self._keep(self._part, digest, executable)
        return {}, b''

    def _data(self, request: 'dict[str, Any]') -> bytes:
        data: bytes = self._wire.read()
        return zlib.decompress(data) if request['packed'] else data

    def _keep(self, part: '_Part', digest: str, executable: bool) -> None:
        if not part.finish(digest, 0o555 if executable else 0o444):
            raise self._refused(f'the content {digest[:12]} arrived damaged. Try again.')

    def _place(self, into: str, digest: str, executable: bool) -> str:
        if into == 'images':
            return f'{self._images}/blobs/sha256/{digest}'
        suffix = '.x' if executable else ''
        return f'{self._snapshots}/blobs/{digest[:2]}/{digest[2:]}{suffix}'

    def _is_kept(self, entry: _Entry) -> bool:
        place = self._place('snapshots', entry.digest, entry.executable)
        return _is_intact(place.encode(), entry)

    def _read_manifest(self, digest: str) -> 'bytes | None':
        try:
            with open(f'{self._snapshots}/manifests/{digest}', 'rb') as file:
                text = file.read()
        except FileNotFoundError:
            return None
        return text if hashlib.sha256(text).hexdigest() == digest else None

    def tree(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Makes the folder to run in, as it was taken; `lacking` are lines of the manifest whose content isn't here."""
        self._lock()
        digest = request['digest']
        text = self._manifests.get(digest) or self._read_manifest(digest)
        if text is None:
            raise self._refused(f'the snapshot {digest[:12]} is gone there. Try again.')
        lines = text.split(b'\n')[1:-1]
        entries = [_Entry(line) for line in lines]
        path = f'{self._snapshots}/trees/{digest}'
        if not _is_as_made(path.encode(), entries):
            numbered = enumerate(entries, 1)
            lacking = [number for number, one in numbered if one.is_file and not self._is_kept(one)]
            if lacking:
                self._manifests[digest] = text
                return {'lacking': lacking}, b''
            if os.path.isdir(path):
                # Whoever runs in it keeps it; who comes next shall not have what somebody has written into it.
                os.rename(path, f'{path}-changed-{_TAG}')
            self._make_tree(entries, path)
        os.makedirs(f'{self._snapshots}/manifests', exist_ok=True)
        _replace(f'{self._snapshots}/manifests/{digest}', text)
        return {'path': path, 'lacking': []}, b''

    def _make_tree(self, entries: 'list[_Entry]', path: str) -> None:
        folder, name = os.path.split(path)
        os.makedirs(folder, exist_ok=True)
        staging = f'{folder}/.{name}.{_TAG}'
        os.mkdir(staging)
        try:
            self._fill(entries, staging.encode())
            os.rename(staging, path)
        except OSError as error:
            _remove(staging)
            if error.errno not in _THERE or not os.path.isdir(path):
                raise
            # Somebody else was quicker, with the same.

    def _fill(self, entries: 'list[_Entry]', root: bytes) -> None:
        folders = [root]
        of_python = set()
        for entry in entries:
            place = root + b'/' + entry.path
            if entry.kind == 'd':
                os.mkdir(place)
                folders.append(place)
            elif entry.kind == 'l':
                os.symlink(entry.target, place)
            else:
                self._link(entry, place)
                if place.endswith(b'.py'):
                    of_python.add(os.path.dirname(place))
        # Units share byte code, for which these may be written to.
        for folder in of_python:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder + b'/__pycache__')
        for folder in reversed(folders):
            os.chmod(folder, 0o555)
            os.utime(folder, ns=(_EPOCH, _EPOCH))

    def _link(self, entry: _Entry, place: bytes) -> None:
        source = self._place('snapshots', entry.digest, entry.executable)
        try:
            os.link(source, place)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copyfile(source, place)
            os.chmod(place, 0o555 if entry.executable else 0o444)
            os.utime(place, ns=(_EPOCH, _EPOCH))

    def layout(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Makes the folder of an image whose blobs are here."""
        path = f'{self._images}/{request["name"]}'
        if os.path.isdir(path):
            return {'path': path}, b''
        staging = f'{self._images}/.{request["name"]}.{_TAG}'
        os.makedirs(staging)
        os.symlink('../blobs', f'{staging}/blobs')
        for name, size in request['files']:
            with open(f'{staging}/{name}', 'wb') as file:
                file.write(self._wire.read(size))
        try:
            os.rename(staging, path)
        except OSError as error:
            shutil.rmtree(staging)
            if error.errno not in _THERE:
                raise
        return {'path': path}, b''

    def _lock(self) -> None:
        """As all who add to a store of snapshots, held for as long as this process lives: who removes waits."""
        if self._is_locked:
            return
        self._is_locked = True
        os.makedirs(self._snapshots, mode=0o700, exist_ok=True)
        descriptor = os.open(f'{self._snapshots}/lock', os.O_RDWR | os.O_CREAT, 0o600)
        # Where a file system knows no locks, nobody can hold it alone either.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)


class _Part:
    """A content on its way to its place."""

    def __init__(self, place: str) -> None:
        self._place = place
        folder, name = os.path.split(place)
        os.makedirs(folder, exist_ok=True)
        self._beside = f'{folder}/.{name}.{_TAG}'
        self._file = open(self._beside, 'wb')  # noqa: SIM115
        self._digest = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)

    def finish(self, digest: str, mode: int) -> bool:
        self._file.close()
        if self._digest.hexdigest() != digest:
            os.unlink(self._beside)
            return False
        os.chmod(self._beside, mode)
        os.utime(self._beside, ns=(_EPOCH, _EPOCH))
        os.rename(self._beside, self._place)
        return True


def _meant(match: 'Any') -> bytes:
    return _MEANT[match.group(1)]


def _is_intact(place: bytes, entry: _Entry) -> bool:
    try:
        found = os.lstat(place)
    except OSError:
        return False
    mode = 0o555 if entry.executable else 0o444
    is_same = found.st_mtime_ns == _EPOCH and found.st_size == entry.size
    return is_same and stat.S_IMODE(found.st_mode) == mode


def _is_as_made(path: bytes, entries: 'list[_Entry]') -> bool:
    try:
        is_top_unchanged = os.lstat(path).st_mtime_ns == _EPOCH
    except FileNotFoundError:
        return False
    return is_top_unchanged and all(_is_unchanged(path, entry) for entry in entries)


def _is_unchanged(root: bytes, entry: _Entry) -> bool:
    place = root + b'/' + entry.path
    if entry.is_file:
        return _is_intact(place, entry)
    if entry.kind == 'l':
        return True  # It can only be changed by changing its folder.
    try:
        found = os.lstat(place)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_mtime_ns == _EPOCH


def _replace(path: str, data: bytes) -> None:
    folder, name = os.path.split(path)
    beside = f'{folder}/.{name}.{_TAG}'
    with open(beside, 'wb') as file:
        file.write(data)
    os.rename(beside, path)


def _remove(path: str) -> None:
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o755)
    shutil.rmtree(path)
