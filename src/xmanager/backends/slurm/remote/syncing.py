"""Takes to the cluster what executables need: only what is missing there travels, by its content."""

from __future__ import annotations

import json
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import attrs

from xmanager.backends.slurm.remote.channel import Channel
from xmanager.backends.slurm.remote.translation import (
    Code,
    Environment,
    Image,
    Interpreter,
    Need,
    StaysHereError,
)
from xmanager.errors import UnreachableError
from xmanager.snapshot import Entry, SnapshotStore
from xmanager.snapshot import manifest as manifests

_STORE: Final = 'agent_store'
_ENVIRONMENTS: Final = 'agent_environments'
_PIECE: Final = 1 << 20
_BASES: Final = 20  # Snapshots of which one is likely to be there, and much like the new one.
_SAMPLE: Final = 1 << 14
_LEVEL: Final = 1  # Of compression: the fastest.
_PATIENCE: Final = 120.0  # Seconds in which a slow file system says something.

Tell = Callable[[str], None]
"""Takes what is being done, in a few words."""


@attrs.frozen
class Content:
    """A content that is to travel."""

    digest: str
    executable: bool
    size: int
    open: Callable[[], IO[bytes]] = attrs.field(eq=False)


class Syncer:
    """Brings what is needed to a cluster. Raises StaysHereError, XManagerError."""

    def __init__(self, channel: Channel, tell: Tell) -> None:
        self._channel = channel
        self._tell = tell

    def bring(self, need: Need) -> None:
        """Sees to it that it is there, whole. What came before a failure needn't come again."""
        if isinstance(need, Code):
            self._bring_code(need)
        elif isinstance(need, Image):
            self._bring_image(need)
        elif isinstance(need, Environment):
            self._make_environment(need)
        else:
            self._make_interpreter(need)

    def _ask(self, op: str, payload: Iterable[bytes] = (), **words: Any) -> dict[str, Any]:
        header, _ = self._channel.ask(op, payload, needs=_STORE, timeout=_PATIENCE, **words)
        return header

    # Code.

    def _bring_code(self, code: Code) -> None:
        store, digest = SnapshotStore(Path(code.store)), code.digest
        snapshot = store.get(digest)
        bases = [one for one in self._bases(store, digest) if one != digest]
        known: list[str] = self._ask('known', digests=[digest, *bases])['known']
        if digest not in known:
            base = next((one for one in bases if one in known), '')
            before = _lines(store.get(base).entries) if base else []
            delta = json.dumps(delta_of(before, _lines(snapshot.entries)))
            packed = zlib.compress(delta.encode(), _LEVEL)
            self._channel.tell('manifest', packed, needs=_STORE, digest=digest, base=base)
        lacking = self._ask('tree', digest=digest)['lacking']
        if not lacking:
            return
        store.tree(snapshot)  # Mends what was damaged here, if it can.
        # The first line of a manifest is none of an entry.
        entries = [snapshot.entries[number - 1] for number in lacking]
        self._send('snapshots', [_content(store, entry) for entry in entries])
        if self._ask('tree', digest=digest)['lacking']:
            raise UnreachableError(
                'its code was removed from the cluster while it was copied there.'
            )

    def _bases(self, store: SnapshotStore, digest: str) -> list[str]:
        """The last snapshots, those of the same folder first."""
        kept = store.list()
        origin = next((one.path for one in kept if one.digest == digest), '')
        kept.sort(key=lambda one: not origin or one.path != origin)
        return [one.digest for one in kept[:_BASES]]

    # Contents.

    def _send(self, into: str, contents: Sequence[Content]) -> None:
        """Streams contents: small ones packed together, large ones in pieces."""
        wanted = {(one.digest, one.executable): one for one in contents}.values()
        total, done = sum(one.size for one in wanted), 0
        for group in _grouped(wanted):
            self._tell(f'{_megabytes(done)} of {_megabytes(total)}')
            if group[0].size > _PIECE:
                self._send_in_pieces(into, group[0], done, total)
            else:
                self._send_together(into, group)
            done += sum(one.size for one in group)

    def _send_together(self, into: str, group: Sequence[Content]) -> None:
        data = []
        for one in group:
            with one.open() as file:
                data.append(file.read())
        files = [
            (one.digest, one.executable, len(content))
            for one, content in zip(group, data, strict=True)
        ]
        packed, is_packed = _packed(b''.join(data))
        self._channel.tell('put', packed, needs=_STORE, into=into, files=files, packed=is_packed)

    def _send_in_pieces(self, into: str, one: Content, done: int, total: int) -> None:
        with one.open() as file:
            for start in range(0, one.size, _PIECE):
                packed, is_packed = _packed(file.read(_PIECE))
                where = {'first': start == 0, 'last': start + _PIECE >= one.size}
                where['packed'] = is_packed
                what: dict[str, Any] = {
                    'into': into,
                    'digest': one.digest,
                    'executable': one.executable,
                }
                self._channel.tell('part', packed, needs=_STORE, **what, **where)
                self._tell(f'{_megabytes(done + start)} of {_megabytes(total)}')

    # Images.

    def _bring_image(self, image: Image) -> None:
        layout = Path(image.layout)
        try:
            blobs = list(_blobs_of(layout))
            files = {
                path.name: path.read_bytes() for path in sorted(layout.iterdir()) if path.is_file()
            }
        except (OSError, ValueError, KeyError) as error:
            raise StaysHereError(
                f'its image ({layout}) was removed or damaged: {error}. Launch again.'
            ) from error
        known = [(one.digest, one.size) for one in blobs]
        lacking = set(self._ask('lacking', blobs=known)['lacking'])
        self._send('images', [one for one in blobs if one.digest in lacking])
        sizes = [(name, len(data)) for name, data in files.items()]
        self._ask('layout', files.values(), name=image.name, files=sizes)

    # Python.

    def _make_environment(self, environment: Environment) -> None:
        def ask(op: str, payload: Iterable[bytes] = (), **words: Any) -> dict[str, Any]:
            header, _ = self._channel.ask(
                op, payload, needs=_ENVIRONMENTS, timeout=_PATIENCE, key=environment.key, **words
            )
            return header

        if ask('has_environment')['is_here']:
            return
        folder = Path(environment.folder, 'lock')
        if not environment.lock or not (folder / environment.lock).is_file():
            raise StaysHereError(
                f'the lock file of its Python environment ({folder}) was removed. Launch again: that makes it anew.'
            )
        paths = sorted(path for path in folder.rglob('*') if path.is_file())
        data = [path.read_bytes() for path in paths]
        names = [path.relative_to(folder).as_posix() for path in paths]
        sizes = [(name, len(content)) for name, content in zip(names, data, strict=True)]

        def hear(said: dict[str, Any], _: bytes) -> None:
            if line := said.get('line'):
                self._tell(line)

        self._tell('asking uv there for its Python environment')
        ask(
            'environment',
            data,
            files=sizes,
            lock=environment.lock,
            python=environment.python,
            hear=hear,
        )

    def _make_interpreter(self, interpreter: Interpreter) -> None:
        """Scripts say `python` where the system has a `python3` only, or another one is meant."""
        script = f'#!/bin/sh\nexec {shlex.quote(interpreter.program)} "$@"\n'.encode()
        # One that calls itself would do so for ever.
        names = {'python', 'python3'} - {interpreter.program}
        files = [(f'{interpreter.folder}/{name}', len(script)) for name in sorted(names)]
        self._channel.ask('write', [script] * len(files), files=files)


def delta_of(before: Sequence[str], after: Sequence[str]) -> list[str | tuple[int, int]]:
    """The lines after, as text and as runs (first, count) of the lines before."""
    numbers = {line: number for number, line in enumerate(before)}
    pieces: list[str | tuple[int, int]] = []
    news: list[str] = []
    first = count = 0
    for line in after:
        number = numbers.get(line)
        if number is not None and count and number == first + count:
            count += 1
            continue
        if count:
            pieces.append((first, count))
            count = 0
        if number is None:
            news.append(line)
            continue
        if news:
            pieces.append('\n'.join(news))
            news = []
        first, count = number, 1
    if count:
        pieces.append((first, count))
    if news:
        pieces.append('\n'.join(news))
    return pieces


def _lines(entries: Sequence[Entry]) -> list[str]:
    """Of the manifest, as text that holds any bytes."""
    return manifests.render_entries(entries).decode('latin-1').split('\n')


def _content(store: SnapshotStore, entry: Entry) -> Content:
    return Content(entry.digest, entry.executable, entry.size, lambda: store.read(entry))


def _grouped(contents: Iterable[Content]) -> Iterator[list[Content]]:
    """Small ones together, as many as fit into a piece; large ones alone."""
    group: list[Content] = []
    size = 0
    for one in contents:
        if group and (one.size > _PIECE or size + one.size > _PIECE):
            yield group
            group, size = [], 0
        group.append(one)
        size += one.size
        if size > _PIECE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _blobs_of(layout: Path) -> Iterator[Content]:
    """All that an OCI layout with one manifest refers to."""
    index = json.loads((layout / 'index.json').read_bytes())
    for top in index['manifests']:
        manifest = json.loads(_blob(layout, top['digest']).read_bytes())
        for said in (top, manifest['config'], *manifest['layers']):
            path = _blob(layout, said['digest'])
            yield Content(path.name, False, path.stat().st_size, partial(_opened, path))


def _blob(layout: Path, digest: str) -> Path:
    return layout / 'blobs' / digest.replace(':', '/')


def _opened(path: Path) -> IO[bytes]:
    return path.open('rb')


def _packed(data: bytes) -> tuple[bytes, bool]:
    """The data compressed, and whether it is: what gains nothing travels as it is."""
    sample = data[:_SAMPLE]
    if len(zlib.compress(sample, _LEVEL)) > 0.9 * len(sample):
        return data, False
    return zlib.compress(data, _LEVEL), True


def _megabytes(size: int) -> str:
    return f'{size / _PIECE:.1f}MiB'
