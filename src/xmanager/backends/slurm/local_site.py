"""A cluster used from a machine that is of it: Slurm's commands are on PATH, and the nodes' folder is here."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

from xmanager.backend import Deferred, Rejected, Task, Unit
from xmanager.backends.slurm.record_folders import RecordFolders, opened, read
from xmanager.backends.slurm.site import Answer, Looking, NoProgramError, Running
from xmanager.errors import UnreachableError


class LocalSite:
    """This machine is of the cluster: it has Slurm's commands, and sees the folder that the nodes see.

    `environ` is the environment of the commands; `shared` that folder, '' for the home.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        shared: str = '',
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environ = dict(environ)
        self._shared = os.path.realpath(shared) if shared else ''
        self._records = RecordFolders(clock)
        self._parents: dict[Path, str] = {}

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        lock: int | None = None,
    ) -> Answer:
        """As `Site.run`; what is not on PATH raises UnreachableError."""
        try:
            done = subprocess.run(
                list(argv),
                env=self._environ | dict(env or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                pass_fds=() if lock is None else (lock,),
                start_new_session=True,  # A Ctrl-C in the terminal is none of its business.
                check=False,
            )
        except FileNotFoundError as error:
            raise NoProgramError(f'{argv[0]} is not on PATH.') from error
        except OSError as error:
            raise UnreachableError(f'{argv[0]} could not be run: {error.strerror}.') from error
        except subprocess.TimeoutExpired as error:
            said = _text(error.stderr or b'').strip().rpartition('\n')[2]
            raise UnreachableError(
                f'{argv[0]} gave no answer in {timeout:g} s{f" ({said})" if said else ""}.'
            ) from error
        return Answer(done.returncode, _text(done.stdout), _text(done.stderr))

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Running:
        """As `Site.start`; its output goes to files without a name, so that nobody need read along."""
        return _Command(argv, self._environ | dict(env or {}))

    def submit(
        self,
        files: Mapping[str, bytes],
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        lock: int | None = None,
    ) -> Answer:
        """As `Site.submit`."""
        self.write(files)
        return self.run(argv, env=env, timeout=timeout, lock=lock)

    def folder(self, unit: Unit) -> str:
        """The unit's own where the nodes see it, else one below the shared folder."""
        parent = self._parents.get(unit.folder.parent)
        if parent is None:
            parent = self._parents[unit.folder.parent] = self._experiment_folder(unit)
        return f'{parent}/{unit.folder.name}'

    def _experiment_folder(self, unit: Unit) -> str:
        own = os.path.realpath(unit.folder.parent)
        if not self._shared or Path(own).is_relative_to(self._shared):
            return str(unit.folder.parent)
        home_id = unit.key.partition('.')[0]
        return f'{self._shared}/experiments/{home_id}-{unit.experiment_id}'

    def write(self, files: Mapping[str, bytes]) -> None:
        """As `Site.write`. Raises UnreachableError if the disk is full, or we may not write there."""
        try:
            for folder in sorted({os.path.dirname(path) for path in files}):
                os.makedirs(folder, mode=0o700, exist_ok=True)
            for path, content in files.items():
                _write(path, content)
        except OSError as error:
            raise UnreachableError(
                f'{error.filename or os.path.dirname(path)} could not be written: {error.strerror}.'
            ) from error

    def read(self, paths: Sequence[str]) -> Mapping[str, bytes]:
        """As `Site.read`."""
        return read(paths)

    def list(self, folders: Sequence[str]) -> Mapping[str, tuple[int, tuple[str, ...]]]:
        """As `Site.list`."""
        found = {}
        for folder in folders:
            with opened(folder) as descriptor:
                if descriptor is not None:
                    changed_at = os.fstat(descriptor).st_mtime_ns
                    found[folder] = (changed_at, tuple(os.listdir(descriptor)))
        return found

    def look(self, folders: Sequence[str]) -> Looking:
        """As `Site.look`, at once."""
        return self._records.look(folders)

    def remove(self, folders: Sequence[str]) -> None:
        """As `Site.remove`."""
        for folder in folders:
            gone = f'{folder}.removed'
            try:
                shutil.rmtree(gone, ignore_errors=True)
                os.rename(folder, gone)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UnreachableError(
                    f'{folder} could not be removed: {error.strerror}.'
                ) from error
            shutil.rmtree(gone, ignore_errors=True)

    def prepare(self, units: Sequence[Unit]) -> Mapping[str, Deferred | Rejected]:
        """Links each unit's folder to the one that the nodes see, where that is another one."""
        refused: dict[str, Deferred | Rejected] = {}
        exists = lru_cache(maxsize=None)(os.path.exists)
        for unit in units:
            refusal = self._flaw(unit, exists)
            folder = self.folder(unit)
            if refusal is None and folder != str(unit.folder):
                refusal = _link(unit.folder, folder)
            if refusal is not None:
                refused[unit.key] = refusal
        return refused

    def _flaw(self, unit: Unit, exists: Callable[[str], bool]) -> Rejected | None:
        """What is missing in the folder that the nodes see; what lies elsewhere may be there on the nodes."""
        seen = f'{self._shared or unit.folder.parent.parent.parent}/'
        for task in unit.tasks:
            if task.image:
                continue
            program = str(task.executable.get('copy') or (task.argv[0] if task.argv else ''))
            for what, path in (('program', program), ('cwd', task.cwd)):
                if path.startswith(seen) and not exists(path):
                    return Rejected(f'{what} {path!r} does not exist.', task.name)
        return None

    def place(self, path: str) -> str:
        """The path itself."""
        return path

    def adapt(self, unit: Unit, task: Task) -> Task:
        """The task itself."""
        return task

    def home(self) -> str:
        """HOME of this process."""
        return self._environ.get('HOME', '')

    def mirror(self, live: Mapping[str, Unit], ended: Mapping[str, Unit]) -> frozenset[str]:
        """All is here."""
        return frozenset(ended)

    def close(self) -> None:
        """Nothing is held; the next look tells of all records again."""
        self._records.forget()


class _Command:
    """A command in the background; its output goes to files without a name, so that nobody need read along."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self._trouble = ''
        self._answer: Answer | None = None
        self._files = contextlib.ExitStack()
        self._out = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._err = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                list(argv),
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                start_new_session=True,
            )
        except FileNotFoundError:
            self._trouble = f'{argv[0]} is not on PATH.'
        except OSError as error:
            self._trouble = f'{argv[0]} could not be run: {error.strerror}.'

    def poll(self) -> Answer | None:
        if self._process is None:
            self._files.close()
            raise UnreachableError(self._trouble)
        if self._answer is None and (code := self._process.poll()) is not None:
            self._answer = Answer(code, _content(self._out), _content(self._err))
            self._files.close()
        return self._answer

    def cancel(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._files.close()


def _write(path: str, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.chmod(file.name, 0o700 if content.startswith(b'#!') else 0o600)
            os.replace(file.name, path)
        except OSError:  # The disk is full: it need not become fuller.
            os.unlink(file.name)
            raise


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return _text(file.read())


def _text(said: bytes) -> str:
    return said.decode('utf-8', 'replace')


def _link(own: Path, folder: str) -> Rejected | None:
    """Makes `own` a link to the folder, which the element makes when it runs."""
    try:
        own.parent.mkdir(parents=True, exist_ok=True)
        if own.is_symlink():
            if os.readlink(own) == folder:
                return None
            own.unlink()
        elif own.is_dir():
            own.rmdir()
        own.symlink_to(folder)
    except OSError as error:
        return Rejected(f'{own} could not be made a link to {folder}: {error.strerror}.')
    return None
