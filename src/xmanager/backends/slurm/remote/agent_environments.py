"""Has uv make, on the login node, the Python environment of a lock file: once, then it is shared.

Sent to the agent as text (`Agent.extend`): standard library only, Python 3.6 or later, types in quotes.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

_COMPLETE = 'xmanager.json'
_LAST_LINES = 12
_TAG = os.urandom(8).hex()  # Of what is half made: several login nodes may share the folder.
_BEAT = 5.0  # Seconds without a word from uv, after which the other side is told that it is still at work.
# By these uv would work on another environment than the one that it is told.
_ELSEWHERE = (
    'VIRTUAL_ENV',
    'CONDA_PREFIX',
    'UV_PROJECT',
    'UV_PROJECT_ENVIRONMENT',
    'UV_PYTHON',
    'UV_WORKING_DIR',
)


def verbs(agent: 'Any', refused: 'Any') -> 'dict[str, Any]':
    """What this text adds to the agent."""
    maker = _Maker(agent, refused)
    return {'has_environment': maker.has, 'environment': maker.make}


class _Maker:
    """The folder of environments below the root."""

    def __init__(self, agent: 'Any', refused: 'Any') -> None:
        self._wire = agent.wire
        self._refused = refused
        self._folder = f'{agent.root}/cache/environments'
        self._environ = {
            name: value for name, value in agent.environ.items() if name not in _ELSEWHERE
        }
        self._environ.update(UV_NO_PROGRESS='1', NO_COLOR='1')

    def has(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        place = f'{self._folder}/{request["key"]}'
        is_here = os.path.exists(f'{place}/{_COMPLETE}') and os.path.exists(f'{place}/bin/python')
        if is_here:
            os.utime(f'{place}/{_COMPLETE}')
        return {'is_here': is_here}, b''

    def make(self, request: 'dict[str, Any]') -> 'tuple[dict[str, Any], bytes]':
        """From the lock's files, which are the bytes of the request; tells uv's lines meanwhile."""
        files = [(path, self._wire.read(size)) for path, size in request['files']]
        uv = self._find_uv()
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with self._alone(request['key']):
            if not self.has(request)[0]['is_here']:
                self._make(request, files, uv)
        return {}, b''

    def _find_uv(self) -> str:
        home = self._environ.get('HOME', '')
        usual = f'{home}/.local/bin:{home}/.cargo/bin'
        found = shutil.which(
            'uv', path='{}:{}'.format(self._environ.get('PATH', os.defpath), usual)
        )
        if not found:
            raise self._refused(
                "uv is needed there to make the environment of its lock file, and isn't. "
                'Install it there once: python3 -m pip install --user uv'
            )
        return found

    @contextlib.contextmanager
    def _alone(self, key: str) -> 'Iterator[None]':
        with open(f'{self._folder}/.{key}.lock', 'w') as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._wire.send(
                        {'more': True, 'line': 'waiting for another launch that makes it'}
                    )
                    time.sleep(1.0)
            yield

    def _make(self, request: 'dict[str, Any]', files: 'list[tuple[str, bytes]]', uv: str) -> None:
        key, target = request['key'], f'{self._folder}/{request["key"]}'
        staging = f'{self._folder}/.{key}-{_TAG}'
        given, made = f'{staging}/given', f'{staging}/made'
        try:
            for path, data in files:
                place = f'{given}/{path}'
                os.makedirs(os.path.dirname(place), exist_ok=True)
                with open(place, 'wb') as file:
                    file.write(data)
            lock = f'{given}/{request["lock"]}'
            # What is relocatable can be made in one place and moved to another in one step.
            venv = ('venv', '--quiet', '--relocatable', '--no-project', '--python')
            self._run([uv, *venv, request['python'], made], given)
            if os.path.basename(lock) == 'uv.lock':
                project, lock = os.path.dirname(lock), f'{given}/exported.txt'
                export = (
                    'export',
                    '--quiet',
                    '--frozen',
                    '--no-emit-project',
                    '--no-default-groups',
                )
                self._run([uv, *export, '--project', project, '-o', lock], given)
            python = f'{made}/bin/python'
            self._run([uv, 'pip', 'install', '--python', python, '--requirements', lock], given)
            with open(f'{made}/{_COMPLETE}', 'w') as note:
                json.dump({'lock': request['lock'], 'key': key}, note)
            if os.path.isdir(target):  # What a removal left.
                shutil.rmtree(target)
            os.rename(made, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _run(self, argv: 'list[str]', cwd: str) -> None:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        lines: list[str] = []
        assert child.stdout is not None
        try:
            for line in _lines(child.stdout.fileno()):
                self._wire.send({'more': True, 'line': line})
                lines = [*lines, line][-_LAST_LINES:] if line else lines
        finally:
            child.stdout.close()
            code = child.wait()
        if code:
            said = '\n'.join(lines).replace(f'{cwd}/', '')
            raise self._refused(f"its lock file can't be installed there:\n{said}")


def _lines(descriptor: int) -> 'Iterator[str]':
    """What is written, line by line; an empty one whenever nothing is for a while."""
    rest = b''
    while True:
        if not select.select([descriptor], [], [], _BEAT)[0]:
            yield ''
            continue
        data = os.read(descriptor, 1 << 16)
        if not data:
            break
        *whole, rest = (rest + data).split(b'\n')
        for line in whole:
            yield line.decode(errors='replace').strip()
    if rest:
        yield rest.decode(errors='replace').strip()
