"""A job as `xmanager show ID.UNIT` prints it: how it was run, to be pasted into a shell, and how it ended."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from xmanager.cli import printing, terminal, wording
from xmanager.store import masking
from xmanager.store.wording import duration, signal_name

if TYPE_CHECKING:
    from xmanager.store.values import TaskRecord

_ESCAPES: Final = {'\\': r'\\', "'": r'\'', '\n': r'\n', '\r': r'\r', '\t': r'\t'}
_STATE_COLOURS: Final = {'running': 'cyan', 'vanished': 'magenta'}


def print_job(record: TaskRecord) -> None:
    """Prints one job of a unit."""
    task = record.task
    log = record.folder / 'output.log'
    printing.print_heading(terminal.style(task.name, 'bold'), _outcome(record))
    printing.print_fields(
        [
            ('message', terminal.one_line(record.message)),
            ('command', quoted(masking.mask_argv(task.argv))),
            ('cwd', task.cwd),
            ('env', _assignments(masking.mask_env(task.env, task.secrets))),
            ('needs', _requirements(task.requirements)),
            ('used', _usage(record)),
            ('log', f'{log}{_size_of(log)}'),
        ]
    )


def quoted(argv: tuple[str, ...]) -> str:
    """A command line as a shell takes it, in one line: what would break it is written as `$'\\n'`."""
    return ' '.join(_quote(argument) for argument in argv)


def _quote(argument: str) -> str:
    if argument.isprintable():
        return shlex.quote(argument)
    escaped = ''.join(_escape(character) for character in argument)
    return f"$'{escaped}'"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return ''.join(f'\\x{byte:02x}' for byte in os.fsencode(character))


def _assignments(env: Mapping[str, str]) -> list[str]:
    return [f'{name}={quoted((value,))}' for name, value in sorted(env.items())]


def _outcome(record: TaskRecord) -> str:
    if record.signal is not None:
        return terminal.style(f'killed by {signal_name(record.signal)}', 'red')
    if record.exit_code is not None:
        colour = 'green' if record.exit_code == 0 else 'red'
        return terminal.style(f'exit code {record.exit_code}', colour)
    return terminal.style(record.state, _STATE_COLOURS.get(record.state, 'dim'))


def _requirements(amounts: Mapping[str, float]) -> str:
    """`cpu 2, ram 4.0 GiB, local_gpu 1`."""
    in_bytes = ('ram', 'memory', 'disk', 'ephemeral_storage')
    return ', '.join(
        f'{name} {wording.size(amount) if name in in_bytes else f"{amount:g}"}'
        for name, amount in amounts.items()
    )


def _usage(record: TaskRecord) -> str:
    used = [
        (duration(record.user_seconds), 'CPU'),
        (duration(record.system_seconds), 'system'),
        (wording.size(record.max_rss), 'memory at most'),
    ]
    return ', '.join(f'{amount} {what}' for amount, what in used if amount)


def _size_of(log: os.PathLike[str]) -> str:
    try:
        return f'  ({wording.size(os.stat(log).st_size)})'
    except OSError:
        return ''
