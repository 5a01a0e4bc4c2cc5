"""Refuses, when it is added, a task that could never be started."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from xmanager.backend import Task
from xmanager.errors import ExecutorError

_VARIABLE = re.compile(r'[A-Za-z_][A-Za-z0-9_]*\Z')
_SHOWN = 40
_NUL = 'which no program can be given. Pass it in a file.'


def is_variable(name: str) -> bool:
    """Whether every shell hands on an environment variable of that name, as our runner must."""
    return _VARIABLE.match(name) is not None


def check(tasks: Sequence[Task]) -> None:
    """Raises ExecutorError if arguments, environment or folder of one of these tasks can not be had here."""
    for task in tasks:
        flaw = _flaw(task)
        if flaw:
            raise ExecutorError(f'job {task.name}: {flaw}')


def _flaw(task: Task) -> str:
    for index, word in enumerate(task.argv):
        if '\0' in word:
            return f'argument {index} holds a NUL byte ({_shorten(word)}), {_NUL}'
    for name in (*task.env, *task.secrets):
        if not is_variable(name):
            return (
                f'{name!r} is no name for an environment variable: '
                'a shell can only hand on letters, digits and _. Rename it.'
            )
    for name, value in task.env.items():
        if '\0' in value:  # not shown: it may be a secret
            return f'the value of {name} in env_vars holds a NUL byte, {_NUL}'
    if task.image:
        return _container_flaw(task)
    if os.path.isdir(task.cwd):
        return ''
    if _exists(task.cwd):
        return f'cwd {task.cwd!r} is not a folder. Set Local(cwd=...).'
    return f'cwd {task.cwd!r} does not exist. Make that folder, or set Local(cwd=...).'


def _container_flaw(task: Task) -> str:
    if task.cwd and not task.cwd.startswith('/'):
        return (
            f'cwd {task.cwd!r} is no path in a container: it must begin with /. Set Local(cwd=...).'
        )
    for source, _, _ in (task.options.get('docker') or {}).get('volumes', ()):
        if source.startswith('/') and not os.path.exists(source):
            return (
                f'volume {source!r} does not exist on this host. '
                'Make it, or correct DockerOptions(volumes=...).'
            )
    return ''


def _exists(path: str) -> bool:
    return '\0' not in path and os.path.exists(path)


def _shorten(word: str) -> str:
    text = repr(word)
    return text if len(text) <= _SHOWN else f'{text[: _SHOWN - 1]}…'
