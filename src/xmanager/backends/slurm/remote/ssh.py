"""A cluster used from a machine that is none of it: by SSH to a login node, with copies of code, logs and results."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from xmanager.backend import Deferred, Rejected, Task, Unit
from xmanager.backends.slurm.remote.channel import Channel, Place, RefusedError
from xmanager.backends.slurm.remote.connection import Connection
from xmanager.backends.slurm.remote.copying import Copier
from xmanager.backends.slurm.remote.known_place import KnownPlace
from xmanager.backends.slurm.remote.mirroring import Mirror
from xmanager.backends.slurm.remote.translation import Need, StaysHereError, Translation, home_of
from xmanager.backends.slurm.site import Answer, Looking, NoProgramError, Records, Running
from xmanager.errors import ExecutorError, UnreachableError
from xmanager.snapshot.values import size_setting

_WATCHING: Final = 'agent_watching'
_AT_ONCE: Final = (
    1.5  # Seconds in which a little code is copied, for which no unit need be put off.
)
_BACKGROUND: Final = 60.0
_PROGRAM: Final = re.compile(r'[A-Za-z0-9_./+-]+')
_GIB: Final = 1 << 30

T = TypeVar('T')


class SshSite:
    """The cluster of `login`, as `ssh` knows it. `home` is our folder here, `environ` has settings and what ssh needs.

    `XM_SLURM_ROOT` names our folder there, `XM_SLURM_PYTHON` the Python for code without an environment of its own,
    `XM_SLURM_FETCH_MAX` how large results may be to be fetched.
    """

    def __init__(self, login: str, environ: Mapping[str, str], home: Path) -> None:
        self._connection = Connection(login, environ)
        self._python = _python(environ)
        self._limit = size_setting(environ, 'slurm_fetch_max', _GIB)
        self._home = str(home.absolute())
        self._known = KnownPlace(login, environ.get('XM_SLURM_ROOT', ''), Path(self._home))
        self._home_id = ''
        self._seen: set[str] = set()
        self._translation = lru_cache(maxsize=64)(self._make_translation)
        self._begin()

    def _begin(self) -> None:
        self._front, self._looks = self._channel(), self._channel()
        self._copier = Copier(self._channel)
        self._mirror = Mirror(self._channel(), self.folder, self._limit)
        self._background: list[_Background[Any]] = []

    def _channel(self, lock: int | None = None) -> Channel:
        return Channel(self._connection, self._known.root, lock=lock)

    @property
    def _place(self) -> Place:
        """Where we are there: asked once for all processes of this home, so that it is known without a connection.

        Raises NoProgramError if it was never asked, and can't be now: then no unit can have been submitted there.
        """
        place = self._known.place
        if place is None:
            try:
                with _in_words(self._connection.login):
                    place = self._front.place
            except UnreachableError as error:
                raise NoProgramError(str(error)) from error
            self._known.remember(place)
        return place

    # Commands.

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        lock: int | None = None,
    ) -> Answer:
        """As `Site.run`. After an UnreachableError nobody knows whether it ran."""
        return self._run('run', (), [], argv, env, timeout, lock)

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Running:
        """As `Site.start`."""
        return self._behind(lambda: self.run(argv, env=env, timeout=_BACKGROUND))

    def submit(
        self,
        files: Mapping[str, bytes],
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        lock: int | None = None,
    ) -> Answer:
        """As `Site.submit`, in one round trip. After an UnreachableError nobody knows whether it ran."""
        return self._run('submit', files.values(), _sizes(files), argv, env, timeout, lock)

    def _run(
        self,
        op: str,
        payload: Any,
        files: list[tuple[str, int]],
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        timeout: float,
        lock: int | None,
    ) -> Answer:
        login, place = self._connection.login, self._place
        words: dict[str, Any] = {
            'files': files,
            'argv': list(argv),
            'env': dict(env or {}),
            'limit': timeout,
        }
        channel = self._front if lock is None else self._channel(lock)
        with _in_words(login):
            try:
                said, output = channel.ask(op, payload, once=True, timeout=timeout + 30.0, **words)
            finally:
                if lock is not None:
                    channel.close()
        if 'missing' in said:
            raise NoProgramError(
                f'{said["missing"]} is not on PATH of {login} for {place.user} ({said["path"]}). '
                'Name a login node of the cluster.'
            )
        if 'late' in said:
            raise UnreachableError(f'{argv[0]} gave no answer in {timeout:g} s on {login}.')
        out, err = output[: said['out']], output[said['out'] :]
        return Answer(said['code'], out.decode('utf-8', 'replace'), err.decode('utf-8', 'replace'))

    # Files.

    def folder(self, unit: Unit) -> str:
        """The unit's folder on the cluster."""
        self._home_id = unit.key.partition('.')[0]
        experiment = f'{self._home_id}-{unit.experiment_id}'
        return f'{self._place.root}/experiments/{experiment}/{unit.folder.name}'

    def write(self, files: Mapping[str, bytes]) -> None:
        """As `Site.write`, in one round trip."""
        self._ask('write', files.values(), files=_sizes(files))

    def read(self, paths: Sequence[str]) -> Mapping[str, bytes]:
        """As `Site.read`."""
        found: dict[str, bytes] = {}
        left = list(paths)
        while left:
            said, payload = self._ask('read', paths=left)
            start = 0
            for path, size in said['found']:
                found[path] = payload[start : start + size]
                start += size
            left = left[said['next'] :] if said['next'] is not None else []
        return found

    def list(self, folders: Sequence[str]) -> Mapping[str, tuple[int, tuple[str, ...]]]:
        """As `Site.list`."""
        said, _ = self._ask('list', folders=list(folders))
        return {path: (changed, tuple(names)) for path, (changed, names) in said['found'].items()}

    def look(self, folders: Sequence[str]) -> Looking:
        """As `Site.look`, by a connection of its own."""
        return self._behind(lambda: self._look(folders))

    def _look(self, folders: Sequence[str]) -> Records:
        with _in_words(self._connection.login):
            said, payload = self._looks.ask('look', needs=_WATCHING, folders=list(folders))
        records: dict[str, dict[str, bytes]] = {}
        start = 0
        for folder, name, size in said['found']:
            records.setdefault(folder, {})[name] = payload[start : start + size]
            start += size
        return records

    def remove(self, folders: Sequence[str]) -> None:
        """As `Site.remove`."""
        self._ask('remove', folders=list(folders))

    def _ask(self, op: str, payload: Any = (), **words: Any) -> tuple[dict[str, Any], bytes]:
        with _in_words(self._connection.login):
            return self._front.ask(op, payload, **words)

    # What units need there.

    def prepare(self, units: Sequence[Unit]) -> Mapping[str, Deferred | Rejected]:
        """As `Site.prepare`: copies code behind, and puts units off until it is there."""
        refused: dict[str, Deferred | Rejected] = {}
        wanted: dict[str, set[Need]] = {}
        for unit in units:
            try:
                wanted[unit.key] = {need for task in unit.tasks for need in self._needs(unit, task)}
            except StaysHereError as error:
                refused[unit.key] = Rejected(str(error))
        self._copier.want(set().union(*wanted.values()), _AT_ONCE)
        for key, needs in wanted.items():
            refusal = self._copier.refusal(needs)
            if refusal is not None:
                refused[key] = refusal
        ready = [unit for unit in units if unit.key not in refused]
        return refused | self._lacking(ready)

    def _needs(self, unit: Unit, task: Task) -> tuple[Need, ...]:
        return self._translate(unit, task).needs(task)

    def _lacking(self, units: Sequence[Unit]) -> dict[str, Deferred | Rejected]:
        """Those that would start in a folder that isn't there, or whose program isn't where ours are."""
        root = f'{self._place.root}/'
        tasks = [
            (unit.key, self.adapt(unit, task))
            for unit in units
            for task in unit.tasks
            if not task.image
        ]
        folders = {task.cwd for _, task in tasks if not task.cwd.startswith(root)}
        files = {task.argv[0] for _, task in tasks if task.argv and task.argv[0].startswith(root)}
        asked = {'folders': sorted(folders - self._seen), 'files': sorted(files - self._seen)}
        if not any(asked.values()):
            return {}
        said, _ = self._ask('absent', **asked)
        absent = {*said['folders'], *said['files']}
        self._seen |= (folders | files) - absent
        login = self._connection.login
        refused: dict[str, Deferred | Rejected] = {}
        for key, task in tasks:
            if task.cwd in absent:
                advice = 'Set Slurm(cwd=...) to one there.'
                reason = f'cwd {task.cwd!r} is no folder of {login}. {advice}'
                refused[key] = Rejected(reason, task.name)
            elif task.argv and task.argv[0] in absent:
                reason = f'program {task.argv[0]!r} does not exist on {login}.'
                refused[key] = Rejected(reason, task.name)
        return refused

    def place(self, path: str) -> str:
        """Where a path of this machine is on the cluster; itself if it is none of ours."""
        return self._translation((self._home,), self._home_id).place(path)

    def adapt(self, unit: Unit, task: Task) -> Task:
        """The task with the cluster's paths, programs and Python."""
        return self._translate(unit, task).adapt(task)

    def home(self) -> str:
        """HOME on the cluster."""
        return self._place.home

    def _translate(self, unit: Unit, task: Task) -> Translation:
        self._home_id = unit.key.partition('.')[0]
        other = home_of(task.executable)
        homes = (self._home, other) if other and other != self._home else (self._home,)
        return self._translation(homes, self._home_id)

    def _make_translation(self, homes: tuple[str, ...], home_id: str) -> Translation:
        return Translation(homes, self._place.root, self._place.home, home_id, self._python)

    # What they write there.

    def mirror(self, live: Mapping[str, Unit], ended: Mapping[str, Unit]) -> frozenset[str]:
        """As `Site.mirror`."""
        return self._mirror.want(live, ended)

    def close(self) -> None:
        """Ends its agents; the connection itself stays for a while, for whoever comes next. It may be used again."""
        self._copier.close()
        self._mirror.close()
        self._looks.close()
        self._front.close()
        for one in self._background:
            one.wait()
        self._begin()

    def _behind(self, work: Callable[[], T]) -> _Background[T]:
        self._background = [one for one in self._background if one.is_running]
        made = _Background(work)
        self._background.append(made)
        return made


class _Background(Generic[T]):
    """Something that is done in a thread."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def poll(self) -> T | None:
        """None while it lasts; raises what it raised."""
        if self.is_running:
            return None
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self) -> None:
        """Nobody wants it any more; it ends by itself."""

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error


@contextlib.contextmanager
def _in_words(login: str) -> Iterator[None]:
    """Says of which machine it is that the agent speaks."""
    try:
        yield
    except RefusedError as error:
        raise UnreachableError(f'{login}: {error}') from error


def _sizes(files: Mapping[str, bytes]) -> list[tuple[str, int]]:
    return [(path, len(data)) for path, data in files.items()]


def _python(environ: Mapping[str, str]) -> str:
    program = environ.get('XM_SLURM_PYTHON', '')
    if program and not _PROGRAM.fullmatch(program):
        raise ExecutorError(
            f'XM_SLURM_PYTHON={program!r}: expected the name or path of a Python of the cluster.'
        )
    return program
