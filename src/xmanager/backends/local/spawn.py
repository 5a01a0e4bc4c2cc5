"""Starts one task as a process of this machine: its folder, its environment, its runner."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from xmanager import runner
from xmanager.backends.local.programs import CannotStartError, find_program
from xmanager.backends.local.startable import is_variable

# What the supervisor's interpreter or `nohup` ignores would otherwise stay ignored in the job.
_DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
# Of our own variables a job inherits only where the store is and how errors are shown. All others are settings of one
# launch, or marks of the job that launched: a job that launches experiments itself must not take them for its own.
_INHERITED = frozenset({'XM_HOME', 'XM_TRACEBACK', 'XM_DATABASE_URL'})


@attrs.frozen
class Command:
    """One task as it is to be started. `env` and `secrets` are the user's, `marks` the variables that we add."""

    name: str
    folder: Path
    attempt: int
    key: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    secrets: Mapping[str, str]
    marks: Mapping[str, str]

    @property
    def output(self) -> Path:
        """Its standard output and standard error, in order."""
        return self.folder / 'output.log'

    @property
    def status(self) -> Path:
        """What its runner records."""
        return self.folder / 'status'

    def as_json(self) -> dict[str, Any]:
        """What `command.json` says: all that the user set, secrets by name only."""
        secrets = {variable: {'secret': name} for variable, name in self.secrets.items()}
        return {
            'argv': list(self.argv),
            'env': {**self.env, **secrets},
            'cwd': self.cwd,
            'attempt': self.attempt,
            'key': self.key,
        }


@attrs.frozen
class Ready:
    """A command that was found startable: what to execute, with which environment."""

    command: Command
    argv: tuple[str, ...]
    environment: Mapping[str, str] = attrs.field(repr=False)


def prepare(command: Command, inherited: Mapping[str, str]) -> Ready:
    """Looks up program and secrets, starting nothing and touching no file. Raises CannotStartError."""
    if not os.path.isdir(command.cwd):
        raise CannotStartError(f'cwd {command.cwd!r} does not exist.')
    environment = build_environment(command, inherited)
    name = command.argv[0] if command.argv else ''
    program = find_program(name, command.cwd, environment.get('PATH'))
    return Ready(command, (program, *command.argv[1:]), environment)


def start(ready: Ready) -> int:
    """Starts the task and returns the number of its runner, which leads a session and a process group of its own.

    Raises CannotStartError.
    """
    command = ready.command
    try:
        _prepare_folder(command)
        return os.posix_spawn(
            '/bin/sh',
            runner.command(command.status, command.attempt, command.cwd, ready.argv),
            ready.environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, '/dev/null', os.O_RDONLY, 0),
                (
                    os.POSIX_SPAWN_OPEN,
                    1,
                    str(command.output),
                    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                    0o600,
                ),
                (os.POSIX_SPAWN_OPEN, 2, '/dev/null', os.O_WRONLY, 0),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    except (OSError, ValueError) as error:
        raise CannotStartError(_explain(error, ready)) from error


def build_environment(command: Command, inherited: Mapping[str, str]) -> dict[str, str]:
    """The launcher's environment, then the user's, then ours. Raises CannotStartError for a missing secret."""
    environment = {name: value for name, value in inherited.items() if _is_inherited(name)}
    environment.update(command.env)
    for variable, name in command.secrets.items():
        if name not in inherited:
            raise CannotStartError(
                f'secret {name} is not set in the environment of the supervisor. '
                f'Set it where you launch: export {name}=…'
            )
        environment[variable] = inherited[name]
    environment.update(command.marks)
    if 'CUDA_VISIBLE_DEVICES' in command.marks and 'CUDA_VISIBLE_DEVICES' not in inherited:
        # NVML counts devices by bus; CUDA by speed, unless told otherwise.
        environment.setdefault('CUDA_DEVICE_ORDER', 'PCI_BUS_ID')
    environment['PWD'] = command.cwd
    return environment


def _is_inherited(name: str) -> bool:
    # Some shells drop a name that they can't spell, such as that of an exported bash function. Only env(1) would get it
    # past the runner, on a command line, where all users of this machine can read its value: no job gets it.
    return is_variable(name) and (not name.startswith('XM_') or name in _INHERITED)


def _prepare_folder(command: Command) -> None:
    command.folder.parent.mkdir(parents=True, exist_ok=True)
    command.folder.mkdir(mode=0o700, exist_ok=True)
    (command.folder / 'out').mkdir(exist_ok=True)
    _put_aside(command)
    _write_json(command.folder / 'command.json', command.as_json())


def _put_aside(command: Command) -> None:
    """Renames what an earlier attempt left; doing it again after a crash half-way is harmless."""
    try:
        earlier = json.loads((command.folder / 'command.json').read_bytes())['attempt']
    except (OSError, ValueError, KeyError):
        return
    if earlier == command.attempt:
        return
    for old, new in (('status', f'status.{earlier}'), ('output.log', f'output.{earlier}.log')):
        try:
            os.rename(command.folder / old, command.folder / new)
        except FileNotFoundError:
            continue


def _write_json(path: Path, value: Any) -> None:
    beside = path.with_name(f'.{path.name}.{os.getpid()}')
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, 'wb') as file:
        file.write(json.dumps(value, indent=1).encode())
    os.replace(beside, path)


def _explain(error: OSError | ValueError, ready: Ready) -> str:
    if isinstance(error, ValueError):  # os.posix_spawn: embedded null byte, illegal variable name
        return f'its arguments or environment can not be passed to a program: {error}.'
    if error.errno == errno.E2BIG:
        size = sum(len(os.fsencode(word)) + 1 for word in ready.argv)
        size += sum(len(os.fsencode(name + value)) + 2 for name, value in ready.environment.items())
        return (
            f'its arguments and environment, {size:,} bytes in all, are more than the system passes to a program '
            '(a single one may have 131,071 bytes). Pass large data in a file.'
        )
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return f'the system has no room for another process ({error.strerror}); see ulimit -u.'
    return f'it could not be started: {error.strerror} ({error.filename or ready.command.folder}).'
