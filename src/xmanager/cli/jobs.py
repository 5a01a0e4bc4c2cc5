"""A job as `xmanager show ID.UNIT` prints it: how it was run, to be pasted into a shell, and how it ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from xmanager.cli import printing, terminal
from xmanager.store import masking
from xmanager.store.command_lines import assignments, quoted
from xmanager.store.wording import amounts, duration, signal_name, size

if TYPE_CHECKING:
    from xmanager.store.values import TaskRecord

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
            ('env', assignments(masking.mask_env(task.env, task.secrets))),
            ('needs', amounts(task.requirements)),
            ('used', _usage(record)),
            ('log', f'{log}{_size_of(log)}'),
        ]
    )


def _outcome(record: TaskRecord) -> str:
    if record.signal is not None:
        return terminal.style(f'killed by {signal_name(record.signal)}', 'red')
    if record.exit_code is not None:
        colour = 'green' if record.exit_code == 0 else 'red'
        return terminal.style(f'exit code {record.exit_code}', colour)
    return terminal.style(record.state, _STATE_COLOURS.get(record.state, 'dim'))


def _usage(record: TaskRecord) -> str:
    used = [
        (duration(record.user_seconds), 'CPU'),
        (duration(record.system_seconds), 'system'),
        (size(record.max_rss), 'memory at most'),
    ]
    return ', '.join(f'{amount} {what}' for amount, what in used if amount)


def _size_of(log: os.PathLike[str]) -> str:
    try:
        return f'  ({size(os.stat(log).st_size)})'
    except OSError:
        return ''
