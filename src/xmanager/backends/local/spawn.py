"""Starts one task as a process of this machine: its folder, its environment, its runner."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

from xmanager import faults, runner
from xmanager.backend import WITHIN_VARIABLE
from xmanager.backends.local import kept
from xmanager.backends.local.programs import CannotStartError, find_program
from xmanager.backends.local.startable import is_variable

# What the supervisor's interpreter or `nohup` ignores would otherwise stay ignored in the job.
_DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
# Of our own variables a job inherits only where the store is and how errors are shown. All others are settings of one
# launch, or marks of the job that launched: a job that launches experiments itself must not take them for its own.
_INHERITED = frozenset(
    {
        'XM_HOME',
        'XM_TRACEBACK',
        'XM_DATABASE_URL',
        'XM_DB_YAML_CONFIG_PATH',
        'XM_LOCAL_LEDGER',
        WITHIN_VARIABLE,
    }
)

# The descriptor by which a job keeps its lease in the ledger of this host. POSIX shells let a script use the first ten
# itself, 9 by the custom of flock(1); the shells themselves take the next ones.
LEASE = 99


@attrs.frozen
class Command:
    """One task as it is to be started. `env` and `secrets` are the user's, `marks` the variables that we add.

    A task that runs in an image has a `container`, as `xmanager.containers` describes it; then what is started is its
    keeper. `executable` is what packaging has fixed.
    """

    name: str
    folder: Path
    attempt: int
    key: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    secrets: Mapping[str, str]
    marks: Mapping[str, str]
    boot: str = ''
    container: Mapping[str, Any] | None = None
    executable: Mapping[str, Any] = attrs.field(factory=dict)

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
        image = {} if self.container is None else {'image': self.container['create']['Image']}
        return {
            **image,
            'argv': list(self.argv),
            'env': {**self.env, **secrets},
            'cwd': self.cwd,
            'attempt': self.attempt,
            'key': self.key,
        }


@attrs.frozen
class Ready:
    """A command that was found startable: what to execute, where, with which environment and which signals blocked.

    `files` are written into the task's folder before.
    """

    command: Command
    argv: tuple[str, ...]
    environment: Mapping[str, str] = attrs.field(repr=False)
    cwd: str
    blocked: frozenset[signal.Signals] = frozenset()
    files: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)


def prepare(command: Command, inherited: Mapping[str, str]) -> Ready:
    """Looks up program and secrets, starting nothing and touching no file. Raises CannotStartError."""
    name = kept.program_of(command.executable, command.argv[0] if command.argv else '')
    executable = kept.with_its_code(command.executable)
    if command.cwd == command.executable.get('tree'):
        command = attrs.evolve(command, cwd=executable['tree'])
    command = attrs.evolve(command, executable=executable)
    if not os.path.isdir(command.cwd):
        raise CannotStartError(f'cwd {command.cwd!r} does not exist.')
    environment = build_environment(command, inherited)
    program = find_program(name, command.cwd, environment.get('PATH'))
    return Ready(command, (program, *command.argv[1:]), environment, command.cwd)


def start(ready: Ready, lease: int) -> int:
    """Starts the task and returns the number of its runner, which leads a session and a process group of its own.

    All its processes have the file open of which `lease` is a descriptor. Raises CannotStartError.
    """
    try:
        _prepare_folder(ready.command)
        for name, data in ready.files.items():
            path = f'{ready.command.folder}/{name}'
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _replace(path, data)
    except (OSError, ValueError) as error:
        raise CannotStartError(_explain(error, ready)) from error
    return spawn(ready, lease)


def spawn(ready: Ready, lease: int) -> int:
    """As `start`, in a folder that is prepared: for what goes on under a new runner."""
    command = ready.command
    try:
        faults.pass_by('spawn.before')
        pid = os.posix_spawn(
            '/bin/sh',
            runner.command(command.status, command.attempt, command.boot, ready.cwd, ready.argv),
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
                (os.POSIX_SPAWN_DUP2, lease, LEASE),
            ],
            setsid=True,
            setsigmask=ready.blocked,
            setsigdef=_DEFAULT_SIGNALS,
        )
        faults.pass_by('spawn.after')
        return pid
    except (OSError, ValueError) as error:
        raise CannotStartError(_explain(error, ready)) from error


def is_begun(command: Command) -> bool:
    """Whether this very attempt was about to be started before: its folder is made before its process is."""
    return _recorded(command).get('key') == command.key


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
    kept.prepend(environment, command.executable)
    environment.update(command.marks)
    if 'CUDA_VISIBLE_DEVICES' in command.marks and 'CUDA_DEVICE_ORDER' not in command.env:
        # NVML counts devices by bus, and so do our names of them; CUDA by speed, unless told otherwise.
        environment['CUDA_DEVICE_ORDER'] = 'PCI_BUS_ID'
    environment['PWD'] = command.cwd
    return environment


@lru_cache(maxsize=4096)
def _is_inherited(name: str) -> bool:
    # Some shells drop a name that they can't spell, such as that of an exported bash function. Only env(1) would get it
    # past the runner, on a command line, where all users of this machine can read its value: no job gets it.
    return is_variable(name) and (not name.startswith('XM_') or name in _INHERITED)


def _prepare_folder(command: Command) -> None:
    folder = str(command.folder)
    text = _ENCODE(command.as_json()).encode()
    is_new = _make_folder(folder)
    if is_new:
        os.mkdir(f'{folder}/out')
        # Nobody reads it before the task is started; what a death leaves half-written counts as not written.
        _write(f'{folder}/command.json', text)
        return
    os.makedirs(f'{folder}/out', exist_ok=True)
    _put_aside(command)
    _replace(f'{folder}/command.json', text)


_ENCODE = json.JSONEncoder().encode


def _make_folder(folder: str) -> bool:
    """Makes the folder of a task, for its user alone; False if it was there."""
    unit_folder = os.path.dirname(folder)
    try:
        os.mkdir(unit_folder)
    except FileExistsError:
        pass
    except FileNotFoundError:
        os.makedirs(unit_folder, exist_ok=True)
    try:
        os.mkdir(folder, 0o700)
        return True
    except FileExistsError:
        return False


def _put_aside(command: Command) -> None:
    """Renames what an earlier attempt left; doing it again after a crash half-way is harmless."""
    earlier = _recorded(command).get('attempt')
    if earlier is None or earlier == command.attempt:
        return
    for old, new in (('status', f'status.{earlier}'), ('output.log', f'output.{earlier}.log')):
        try:
            os.rename(command.folder / old, command.folder / new)
        except FileNotFoundError:
            continue


def _recorded(command: Command) -> dict[str, Any]:
    """What `command.json` says by now, of this attempt or of an earlier one; {} if it says nothing."""
    try:
        recorded = json.loads((command.folder / 'command.json').read_bytes())
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _replace(path: str, data: bytes) -> None:
    folder, name = os.path.split(path)
    beside = f'{folder}/.{name}.{os.getpid()}'
    _write(beside, data)
    os.replace(beside, path)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, 'wb', buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


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
