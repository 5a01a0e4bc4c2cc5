"""A channel to an agent on the login node: requests and answers, one after the other, each within its time."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import struct
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import attrs

from xmanager.backends.slurm.remote.connection import Connection
from xmanager.errors import UnreachableError, XManagerError

_HEAD: Final = struct.Struct('>IQ')
_BLOCK: Final = 1 << 20
_BANNER: Final = 1 << 20  # Bytes that a login shell may print before the agent speaks.
_LAST_WORDS: Final = 4096
_GOODBYE: Final = 2.0

Heard = Callable[[dict[str, Any], bytes], None]
"""Takes the answers of a request that come before its last one."""


class RefusedError(XManagerError):
    """The agent can't do what it was asked; the message is the reason, `errno` the system's number for it."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


@attrs.frozen
class Place:
    """Who and where the agent is: HOME and our own folder there."""

    home: str
    root: str
    user: str
    host: str


@cache
def _source(name: str) -> bytes:
    """The text of a program of the other side, packed."""
    return zlib.compress(Path(__file__).with_name(f'{name}.py').read_bytes())


class Channel:
    """Starts an agent when it is first asked, and again when it is gone. Threads take turns.

    `root` is our folder on the cluster, where it isn't the one that is named there. `sent` and `received` count bytes,
    `openings` agents: a new one remembers nothing.
    """

    def __init__(self, connection: Connection, root: str = '', *, lock: int | None = None) -> None:
        self._connection = connection
        self._root = root
        self._lock = lock
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._buffer = bytearray()
        self._extended: set[str] = set()
        self._place: Place | None = None
        self._has_told = False
        self._is_closed = False
        self.openings = 0
        self.sent = 0
        self.received = 0

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def login(self) -> str:
        return self._connection.login

    @property
    def place(self) -> Place:
        """Where the agent is; asks it if it wasn't asked before."""
        with self._turn:
            if self._place is None:
                self._open()
            assert self._place is not None
            return self._place

    def ask(
        self,
        op: str,
        payload: Iterable[bytes] = (),
        *,
        needs: str = '',
        timeout: float = 60.0,
        hear: Heard | None = None,
        once: bool = False,
        **words: Any,
    ) -> tuple[dict[str, Any], bytes]:
        """The last answer to a request. `needs` names the program that knows `op`.

        `timeout` is how long nothing may come or go. What was sent over a connection that had been lost since is sent
        again, unless it may be done `once` only. Raises UnreachableError, RefusedError.
        """
        pieces = tuple(payload)
        with self._turn:
            was_open, has_told = self._is_open(), self._has_told
            try:
                return self._exchange(op, pieces, needs, timeout, hear, words)
            except UnreachableError:
                if once or has_told or not was_open or self._is_closed:
                    raise
                return self._exchange(op, pieces, needs, timeout, hear, words)
            except RefusedError:
                raise
            except BaseException:  # Of whoever hears, or a Ctrl-C: what is still to come would answer the next request.
                self._give_up()
                raise
            finally:
                self._has_told = False

    def tell(
        self, op: str, payload: bytes, *, needs: str, timeout: float = 120.0, **words: Any
    ) -> None:
        """A request that is not answered: the next one that is tells what went wrong, be it a lost connection."""
        with self._turn:
            self._ready(needs)
            self._has_told = True
            self._send({'op': op, 'quiet': True, **words}, (payload,), timeout)

    def close(self) -> None:
        """Ends the agent for good. Who waits for its answer gets it soon, or an UnreachableError."""
        self._is_closed = True
        while not self._turn.acquire(timeout=_GOODBYE):
            # Only who has the turn closes descriptors: their numbers may be another file's at once.
            if (process := self._process) is not None:
                _kill_group(process)
        try:
            if (process := self._process) is not None and process.stdin is not None:
                with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
                    process.stdin.close()
                    process.wait(_GOODBYE)  # It finishes what it is doing.
            self._give_up()
        finally:
            self._turn.release()

    def _last_words(self) -> str:
        """What ssh has said last, which is forgotten."""
        if self._errors is None:
            return ''
        with self._errors as errors:
            self._errors = None
            errors.seek(0)
            return errors.read()[-_LAST_WORDS:].decode(errors='replace')

    def _exchange(
        self,
        op: str,
        pieces: tuple[bytes, ...],
        needs: str,
        timeout: float,
        hear: Heard | None,
        words: Mapping[str, Any],
    ) -> tuple[dict[str, Any], bytes]:
        self._ready(needs)
        self._send({'op': op, **words}, pieces, timeout)
        return self._answer(timeout, hear)

    def _ready(self, needs: str) -> None:
        if not self._is_open():
            if self._has_told:  # What was told is lost with the agent.
                self._has_told = False
                raise self._lost()
            self._open()
        if needs and needs not in self._extended:
            self._send({'op': 'extend', 'name': needs}, (_source(needs),), 60.0)
            self._answer(60.0, None)
            self._extended.add(needs)

    def _is_open(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _open(self) -> None:
        if self._is_closed:
            raise UnreachableError(f'the connection to {self._connection.login} was closed.')
        self._give_up()
        self._connection.check()
        self._buffer.clear()
        self._extended.clear()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        command, kept = self._connection.command(), () if self._lock is None else (self._lock,)
        if kept:
            # ssh closes all descriptors that it inherits: a shell waits for it and keeps ours.
            command = ['/bin/sh', '-c', '"$@"; exit $?', 'sh', *command]
        try:
            self._process = subprocess.Popen(
                command,
                env=self._connection.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                pass_fds=kept,
                start_new_session=True,  # A Ctrl-C in the terminal is none of its business.
            )
        except OSError as error:
            raise UnreachableError(f'ssh could not be run: {error.strerror}.') from error
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        self.openings += 1
        try:
            self._greet()
        except UnreachableError as error:
            self._connection.failed(str(error))
            raise
        self._connection.succeeded()

    def _greet(self) -> None:
        """Sends the agent, finds where it begins to speak, and asks where it is."""
        patience, nonce, agent = self._connection.patience, secrets.token_hex(16), _source('agent')
        self._write(b'%d\n' % len(agent) + agent, patience)
        self._send({'nonce': nonce}, (), patience)
        mark = f'\nxmanager-agent {nonce}\n'.encode()
        while mark not in self._buffer:
            if len(self._buffer) > _BANNER:
                raise self._lost('its login shell prints without end')
            self._more(patience)
        del self._buffer[: self._buffer.index(mark) + len(mark)]
        self._send({'op': 'hello', 'root': self._root}, (), patience)
        said, _ = self._answer(patience, None)
        self._place = Place(said['home'], said['root'], said['user'], said['host'])

    # Frames.

    def _send(self, header: Mapping[str, Any], pieces: tuple[bytes, ...], timeout: float) -> None:
        text = json.dumps(header).encode()
        self._write(_HEAD.pack(len(text), sum(map(len, pieces))) + text, timeout)
        for piece in pieces:
            self._write(piece, timeout)

    def _answer(self, timeout: float, hear: Heard | None) -> tuple[dict[str, Any], bytes]:
        while True:
            length, size = _HEAD.unpack(self._read(_HEAD.size, timeout))
            header: dict[str, Any] = json.loads(self._read(length, timeout))
            payload = self._read(size, timeout)
            if header.get('more'):
                if hear is not None:
                    hear(header, payload)
                continue
            if 'refused' in header:
                raise RefusedError(header['refused'], header.get('errno'))
            return header, payload

    # Bytes.

    def _write(self, data: bytes, timeout: float) -> None:
        view, done = memoryview(data), 0
        while done < len(data):
            descriptor = self._await(select.POLLOUT, timeout)
            try:
                count = os.write(descriptor, view[done : done + _BLOCK])
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._lost() from None
            self.sent += count
            done += count

    def _read(self, count: int, timeout: float) -> bytes:
        while len(self._buffer) < count:
            self._more(timeout)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _more(self, timeout: float) -> None:
        data = os.read(self._await(select.POLLIN, timeout), _BLOCK)
        if not data:
            raise self._lost()
        self.received += len(data)
        self._buffer += data

    def _await(self, event: int, timeout: float) -> int:
        """The descriptor, when it is ready."""
        assert self._process is not None
        stream = self._process.stdin if event == select.POLLOUT else self._process.stdout
        assert stream is not None
        poll = select.poll()
        poll.register(stream.fileno(), event)
        if not poll.poll(timeout * 1000):
            raise self._lost(f'it gave no answer in {timeout:g} s')
        return stream.fileno()

    def _lost(self, reason: str = '') -> UnreachableError:
        """Gives the connection up, and says why."""
        process = self._process
        login, code, greeted = self._connection.login, None, bool(self._extended or self._place)
        if process is not None:
            deadline = time.monotonic() + (0.0 if reason else _GOODBYE)
            while (code := process.poll()) is None and time.monotonic() < deadline:
                time.sleep(0.01)
        said = self._give_up()
        if reason:
            return UnreachableError(f'{login} cannot be used over SSH: {reason}.')
        if greeted and not said.strip():
            return UnreachableError(f'the connection to {login} was lost.')
        return UnreachableError(self._connection.explain(code, said))

    def _give_up(self) -> str:
        """Ends the connection at once; returns the last words of ssh."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
        return self._last_words()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _kill(process: subprocess.Popen[bytes]) -> None:
    _kill_group(process)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
