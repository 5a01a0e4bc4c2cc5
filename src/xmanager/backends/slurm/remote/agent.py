"""Obeys the laptop on a cluster's login node: its text is sent over SSH to `python3` there, nothing is installed.

Standard library only, Python 3.6 or later (so types stand in quotes). Both sides speak in frames: the lengths of a JSON
object and of the bytes that follow it (`>IQ`), the object, the bytes. Requests are obeyed in order, each with one last
answer, before which some may stand that say `more`; one that is `quiet` has none: its failure is told with the next.
"""

import contextlib
import errno
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any

_HEAD = struct.Struct('>IQ')
_BLOCK = 1 << 20
_IDLE = 1800  # Seconds without a request, after which nobody is thought to be there any more.
_LOGIN_SECONDS = 10.0
_READ_BYTES = 1 << 26
_GONE = (errno.ENOENT, errno.ENOTDIR)
_TAG = os.urandom(8).hex()  # Of files on their way: several login nodes may share the folder.


class Refused(Exception):
    """What was asked can't be done; the message is a sentence for the user."""


class Wire:
    """The two ends of the connection, and how many of a request's bytes nobody has read yet."""

    def __init__(self, source: 'Any', sink: 'Any') -> None:
        self._source = source
        self._sink = sink
        self._pending = 0

    def receive(self) -> 'dict[str, Any] | None':
        """The next request; None at the end."""
        while self._pending:
            self.read(_BLOCK)
        head = self._source.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        length, self._pending = _HEAD.unpack(head)
        request: dict[str, Any] = json.loads(self._source.read(length).decode())
        return request

    def read(self, count: int = -1) -> bytes:
        """So many of the request's bytes; all that are left unless a number is given."""
        count = self._pending if count < 0 else min(count, self._pending)
        data = self._source.read(count)
        if len(data) < count:
            raise EOFError
        self._pending -= count
        return bytes(data)

    def send(self, header: 'dict[str, Any]', payload: bytes = b'') -> None:
        text = json.dumps(header).encode()
        self._sink.write(_HEAD.pack(len(text), len(payload)) + text)
        self._sink.write(payload)
        self._sink.flush()

    def begin(self, nonce: str) -> None:
        """What a login shell has printed stands before this line."""
        self._sink.write(f'\nxmanager-agent {nonce}\n'.encode())
        self._sink.flush()


class Agent:
    """Obeys requests; `ops` are the verbs, to which `extend` adds those of a text that is sent later."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.environ = dict(os.environ)
        self.root = ''
        self.ops: dict[str, Any] = {
            'hello': self.hello,
            'extend': self.extend,
            'run': self.run,
            'submit': self.submit,
            'write': self.write,
            'read': self.read,
            'list': self.list,
            'absent': self.absent,
            'remove': self.remove,
        }

    def serve(self) -> None:
        trouble: dict[str, Any] = {}
        while True:
            signal.alarm(_IDLE)
            request = self.wire.receive()
            signal.alarm(0)
            if request is None:
                return
            answer, payload = self._obey(request) if not trouble else (trouble, b'')
            if request.get('quiet'):
                trouble = answer if 'refused' in answer else {}
            else:
                trouble = {}
                self.wire.send(answer, payload)

    def _obey(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        try:
            answer, payload = self.ops[request['op']](request)
            return answer, payload
        except Refused as error:
            return {'refused': str(error)}, b''
        except OSError as error:
            about = os.fsdecode(error.filename) if error.filename else ''
            said = f'{about}: {error.strerror}' if about else str(error.strerror or error)
            return {'refused': said, 'errno': error.errno}, b''

    # What is asked first.

    def hello(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Who and where we are; `root` is our folder, '' for the usual one."""
        self._take_login_environment()
        me = pwd.getpwuid(os.getuid())
        home = os.path.realpath(self.environ.get('HOME') or me.pw_dir)
        root = request['root'] or self.environ.get('XM_SHARED') or '~/.xmanager'
        if root == '~' or root.startswith('~/'):
            root = home + root[1:]
        if not root.startswith('/'):
            raise Refused(
                f'{root!r} cannot be our folder there: XM_SLURM_ROOT is a path that begins with / or ~/.'
            )
        self.root = root
        facts = {
            'home': home,
            'root': root,
            'user': me.pw_name,
            'host': socket.gethostname(),
            'python': sys.version.split()[0],
        }
        return facts, b''

    def _take_login_environment(self) -> None:
        """Slurm's commands are often on the PATH of login shells only, and SSH starts none."""
        if shutil.which('sbatch', path=self.environ.get('PATH')):
            return
        command = ['/bin/sh', '-lc', 'printf "\\0here\\0"; exec env -0']
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            said, _, _ = _communicate(command, self.environ, _LOGIN_SECONDS)
            _, _, listed = said.partition(b'\0here\0')
            pairs = (os.fsdecode(one).partition('=') for one in listed.split(b'\0') if one)
            found = {name: value for name, _, value in pairs}
            if shutil.which('sbatch', path=found.get('PATH')):
                path = ':'.join((found['PATH'], self.environ.get('PATH', os.defpath)))
                self.environ.update(found, PATH=path)

    def extend(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Takes the verbs of another text (packed), whose `verbs(agent, Refused)` returns them."""
        names: dict[str, Any] = {'__name__': request['name']}
        exec(compile(zlib.decompress(self.wire.read()), request['name'], 'exec'), names)
        self.ops.update(names['verbs'](self, Refused))
        return {}, b''

    # Commands.

    def run(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """What a program says. Nothing of `env` is kept anywhere but in that program's environment."""
        environ = dict(self.environ, **request['env'])
        argv = request['argv']
        if not shutil.which(argv[0], path=environ.get('PATH')):
            return {'missing': argv[0], 'path': environ.get('PATH', '')}, b''
        try:
            out, err, code = _communicate(argv, environ, request['limit'])
        except subprocess.TimeoutExpired:
            return {'late': request['limit']}, b''
        return {'code': code, 'out': len(out)}, out + err

    def submit(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Writes files, then runs a command."""
        self.write(request)
        return self.run(request)

    # Files.

    def write(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Each is there whole or not at all."""
        for path, left in request['files']:
            folder, name = os.path.split(path)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            beside = f'{folder}/.{name}.{_TAG}'
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, 'wb') as file:
                is_script = False
                for number, size in enumerate(_pieces(left)):
                    data = self.wire.read(size)
                    is_script = is_script or (not number and data.startswith(b'#!'))
                    file.write(data)
            os.chmod(beside, 0o700 if is_script else 0o600)
            os.rename(beside, path)
        return {}, b''

    def read(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Those files that exist, as far as one answer holds them; `next` is the number of the first that is left."""
        found: list[list[Any]] = []
        contents: list[bytes] = []
        room = _READ_BYTES
        for number, path in enumerate(request['paths']):
            data = _content(path)
            if data is None:
                continue
            if found and len(data) > room:
                return {'found': found, 'next': number}, b''.join(contents)
            room -= len(data)
            found.append([path, len(data)])
            contents.append(data)
        return {'found': found, 'next': None}, b''.join(contents)

    def list(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        found = {}
        for folder in request['folders']:
            with _present(), _opened(folder) as descriptor:
                found[folder] = [os.fstat(descriptor).st_mtime_ns, os.listdir(descriptor)]
        return {'found': found}, b''

    def absent(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Which of `folders` are none, and which of `files` aren't there."""
        folders = [path for path in request['folders'] if not os.path.isdir(path)]
        files = [path for path in request['files'] if not os.path.exists(path)]
        return {'folders': folders, 'files': files}, b''

    def remove(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """Removes folders whole: renamed first, so that nobody finds half of one."""
        for folder in request['folders']:
            place, name = os.path.split(folder)
            gone = f'{place}/.{name}.gone-{_TAG}-{time.time()}'
            with _present():
                os.rename(folder, gone)
                shutil.rmtree(gone, ignore_errors=True)
        return {}, b''


def _pieces(size: int) -> 'Iterator[int]':
    while size:
        piece = min(size, _BLOCK)
        yield piece
        size -= piece


@contextlib.contextmanager
def _opened(folder: str) -> 'Iterator[int]':
    """An open folder: to open it is what makes a network file system ask its server for what is new."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _present() -> 'Iterator[None]':
    """What isn't there, or no more, is passed over."""
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise


def _content(path: str, limit: int = -1) -> 'bytes | None':
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(descriptor, 'rb') as file:
        return file.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _communicate(
    argv: 'list[str]', environ: 'dict[str, str]', timeout: float
) -> 'tuple[bytes, bytes, int]':
    """Runs a program; kills it, with all that it started, when its time is over."""
    child = subprocess.Popen(
        argv,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise
    return out, err, child.returncode


def main() -> None:
    """Takes over standard input and output, of which no child gets anything."""
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)
    os.umask(0o077)
    wire = Wire(source, sink)
    first = wire.receive()
    if first is None:
        return
    wire.begin(first['nonce'])
    # A connection that is gone is seen when something is written to it.
    with contextlib.suppress(BrokenPipeError, EOFError):
        Agent(wire).serve()


if __name__ == '__main__':
    main()
