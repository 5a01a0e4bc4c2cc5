"""A job as `xmanager show ID.UNIT` prints it: how it was run, to be pasted into a shell, and how it ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from xmanager.cli import printing, terminal
from xmanager.store import masking
from xmanager.store.command_lines import assignments, quoted
from xmanager.store.wording import amounts, duration, signal_name, size

if TYPE_CHECKING:
    from xmanager.backend import Task
    from xmanager.store.values import TaskRecord

_DIGITS: Final = 12
# Where the lines of a CommandList stand in the command that runs them: /bin/sh -c CHOICE LINES ARGUMENT…
_LINES: Final = 3

_STATE_COLOURS: Final = {'running': 'cyan', 'vanished': 'magenta'}


def print_job(record: TaskRecord) -> None:
    """Prints one job of a unit."""
    task = record.task
    log = record.folder / 'output.log'
    printing.print_heading(terminal.style(task.name, 'bold'), _outcome(record))
    printing.print_fields(
        [
            ('message', terminal.one_line(record.message)),
            ('command', quoted(masking.mask_argv(_command(task)))),
            *_what_ran(task.executable),
            ('cwd', task.cwd),
            ('env', assignments(masking.mask_env(task.env, task.secrets))),
            ('needs', amounts(task.requirements)),
            ('used', _usage(record)),
            ('log', f'{log}{_size_of(log)}'),
        ]
    )


def _command(task: Task) -> tuple[str, ...]:
    """As it may be pasted into a shell; the lines of an `xm.CommandList` without the choice between two shells."""
    if not isinstance(task.executable.get('entrypoint'), list) or task.image:
        return task.argv
    lines = slice(_LINES, _LINES + 1)
    return ('bash', '-c', *task.argv[lines], 'entrypoint', *task.argv[_LINES + 1 :])


def _what_ran(executable: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What packaging has fixed: the image, the snapshot of the code and its commit, the environment."""
    digest = str(executable.get('snapshot', ''))
    code = [f'snapshot {digest[:_DIGITS]}'] if digest else []
    code += [f'of {executable["path"]}'] if digest and executable.get('path') else []
    git = executable.get('git') or {}
    if git.get('commit'):
        changed = ' and changes' if git.get('dirty') else ''
        branch = f' ({git["branch"]})' if git.get('branch') else ''
        code.append(f'at commit {git["commit"][:_DIGITS]}{branch}{changed}')
    environment = executable.get('environment') or {}
    made_from = f' with {environment["lock"]}' if environment.get('lock') else ''
    python = f'{executable["python"]}{made_from}' if executable.get('python') else ''
    return [
        ('image', str(executable.get('image', ''))),
        ('code', terminal.one_line(' '.join(code))),
        ('python', terminal.one_line(python)),
    ]


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
