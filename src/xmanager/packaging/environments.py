"""Python environments made from lock files by uv: once for each lock, interpreter and platform, then shared."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import sysconfig
import time
from collections.abc import Set
from pathlib import Path
from typing import Any, Final

import attrs

from xmanager.packaging.environment_locks import read_lock
from xmanager.packaging.one_at_a_time import one_at_a_time
from xmanager.packaging.requirements import Requirements
from xmanager.packaging.uv import find_uv, run_uv
from xmanager.packaging.workshop import Workshop

# Raised whenever the same lock would give another environment.
_FORMAT: Final = 2
_COMPLETE: Final = 'xmanager.json'
_DAY: Final = 86400.0


@attrs.frozen
class Environment:
    """An environment in `folder`: `key` names all that it depends on.

    The lock file and what it names are kept in `folder`/lock, to make the same on another machine; there the lock file
    is called `requirements`.
    """

    lock: str
    key: str
    folder: Path
    requirements: str

    @property
    def python(self) -> Path:
        return self.folder / 'bin' / 'python'

    @property
    def exists(self) -> bool:
        """Whether it was made, and to its end."""
        return (self.folder / _COMPLETE).exists() and self.python.exists()

    def facts(self) -> dict[str, Any]:
        """As they are recorded with every job; `folder` is there for as long as the environment is."""
        facts = {'lock': self.lock, 'key': self.key, 'python': platform.python_version()}
        return {**facts, 'folder': str(self.folder), 'requirements': self.requirements}

    def brings(self, module: str) -> bool:
        """Whether a module or package of this name was installed."""
        found = self.folder.glob(f'lib/python*/site-packages/{module}*')
        return any(one.name.partition('.')[0] == module for one in found)


def find_environment(lock: str, workshop: Workshop, asked: str) -> tuple[Environment, Requirements]:
    """The environment of a lock file, be it made or not. Raises PackagingError for a file that can't be one."""
    requirements = read_lock(lock, asked)
    key = hashlib.sha256(json.dumps([requirements.digest, *_interpreter()]).encode()).hexdigest()
    folder = workshop.cache.absolute() / 'environments' / key[:32]
    return Environment(lock, key[:32], folder, requirements.lock), requirements


def make_environment(lock: str, workshop: Workshop, name: str, asked: str) -> Environment:
    """The environment of a lock file, made if need be. Raises PackagingError with uv's own words.

    Whoever asks for the same one meanwhile waits for it. One that is half made is never used.
    """
    environment, requirements = find_environment(lock, workshop, asked)
    if not _is_there(environment):
        waits = f'waiting for another launch that makes its environment ({os.path.basename(lock)})'
        with one_at_a_time(workshop.cache, environment.key, lambda: workshop.tell(name, waits)):
            if not _is_there(environment):
                _make(environment, requirements, workshop, name, asked)
    return environment


def _is_there(environment: Environment) -> bool:
    """Whether it was made; it counts as just used first, so that no removal that begins now takes it away."""
    try:
        os.utime(environment.folder / _COMPLETE)
    except FileNotFoundError:
        return False
    return environment.exists


def gc_environments(
    cache: Path, older_than: float, keep: Set[str], *, dry_run: bool = False
) -> list[Path]:
    """Removes environments not used for so many seconds whose key is not among `keep`; returns their folders.

    One that is being made, or whose key somebody has just asked for, stays.
    """
    removed = []
    for note in sorted((cache / 'environments').glob(f'*/{_COMPLETE}')):
        folder = note.parent
        # Another process may remove the same ones.
        with contextlib.suppress(FileNotFoundError):
            if folder.name in keep or not _is_old(note, older_than):
                continue
            if not dry_run:
                _remove(folder)
            removed.append(folder)
    for half in () if dry_run else (cache / 'environments').glob('.*'):
        with contextlib.suppress(FileNotFoundError):
            if _is_old(half, max(older_than, _DAY)):
                shutil.rmtree(half, ignore_errors=True)
    return removed


def _remove(folder: Path) -> None:
    # Renamed first, so that nobody finds half of one; to a name that no removal which was killed has left.
    gone = folder.with_name(f'.{folder.name}-gone-{os.getpid()}-{time.monotonic_ns()}')
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _is_old(path: Path, seconds: float) -> bool:
    return path.stat().st_mtime < time.time() - seconds


def _interpreter() -> list[str]:
    """What an environment depends on beside its lock: it links to the interpreter that it was made with."""
    base = getattr(sys, '_base_executable', sys.executable)
    return [
        str(_FORMAT),
        sys.implementation.name,
        sys.version,
        str(sysconfig.get_config_var('SOABI')),
        sysconfig.get_platform(),
        os.path.realpath(base),
    ]


def _make(
    environment: Environment,
    requirements: Requirements,
    workshop: Workshop,
    name: str,
    asked: str,
) -> None:
    workshop.tell(name, f'building the environment of {requirements.lock}')
    for half in environment.folder.parent.glob(f'.{environment.key}-*'):
        # Who made it is dead: only one at a time is at work on it.
        shutil.rmtree(half, ignore_errors=True)
    staging = environment.folder.with_name(f'.{environment.key}-{os.getpid()}')
    given = staging / 'given'
    given.mkdir(parents=True)
    try:
        uv = _Uv(find_uv(workshop.environ), workshop, name, given, f'{asked}: {requirements.lock}')
        made = staging / 'made'
        # What is relocatable can be made in one place and moved to another in one step.
        uv.run('venv', '--quiet', '--relocatable', '--no-project', '--python', _base(), str(made))
        uv.install(requirements, made / 'bin' / 'python')
        requirements.write(made / 'lock')
        (made / _COMPLETE).write_text(json.dumps(environment.facts()))
        if environment.folder.exists():  # What a removal left.
            shutil.rmtree(environment.folder)
        os.rename(made, environment.folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _base() -> str:
    """The interpreter itself, where the launcher's is that of an environment."""
    return str(getattr(sys, '_base_executable', sys.executable))


@attrs.frozen
class _Uv:
    program: str
    workshop: Workshop
    name: str
    given: Path
    asked: str

    def install(self, requirements: Requirements, python: Path) -> None:
        lock = requirements.write(self.given)
        if lock.name == 'uv.lock':
            lock = self.given / 'exported.txt'
            self.run(
                *('export', '--quiet', '--frozen', '--no-emit-project', '--no-default-groups'),
                *('--project', str(self.given), '-o', str(lock)),
            )
        # Each run has byte code of its own, which the units then share.
        self.run('pip', 'install', '--python', str(python), '--requirements', str(lock))

    def run(self, *arguments: str) -> None:
        def hear(line: str) -> None:
            if line.strip():
                self.workshop.tell(self.name, f'building the environment: {line.strip()}')

        command = (self.program, *arguments)
        run_uv(command, self.workshop.environ, self.given, f"{self.asked} can't be installed", hear)
