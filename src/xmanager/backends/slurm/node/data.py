"""What the nodes are told of each component: words in lines that a shell can read without its eyes on them.

Elements lie 100 to a file, `data/<element // 100>`, for a node to read little. A component's lines stand between
`=<element>.<component>` and `=`: each word after a colon, what goes on behind a newline in it after a plus, and a dash
between the parts. The parts are: settings, `NAME=value` each; words on the environment; the arguments; options of srun.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

from xmanager.backends.slurm.batch import Step

_ELEMENTS_PER_FILE = 100
# What a shell does not hand on as it is given: bash's own (bash(1), Shell Variables) and those that dash computes with.
_SPECIAL = frozenset(
    {
        *(
            'BASHOPTS',
            'BASHPID',
            'BASH_ALIASES',
            'BASH_ARGC',
            'BASH_ARGV',
            'BASH_ARGV0',
            'BASH_CMDS',
        ),
        *(
            'BASH_COMMAND',
            'BASH_LINENO',
            'BASH_SOURCE',
            'BASH_SUBSHELL',
            'BASH_VERSINFO',
            'COMP_WORDBREAKS',
        ),
        *(
            'DIRSTACK',
            'EPOCHREALTIME',
            'EPOCHSECONDS',
            'EUID',
            'FUNCNAME',
            'GROUPS',
            'HISTCMD',
            'LINENO',
        ),
        *(
            'OPTIND',
            'POSIXLY_CORRECT',
            'PPID',
            'RANDOM',
            'SECONDS',
            'SHELLOPTS',
            'SHLVL',
            'SRANDOM',
            'UID',
            '_',
        ),
    }
)


def files(elements: Sequence[Sequence[Step]]) -> Iterator[tuple[str, bytes]]:
    """Names in the batch's folder and their content."""
    for first in range(0, len(elements), _ELEMENTS_PER_FILE):
        blocks: list[str] = []
        for offset, steps in enumerate(elements[first : first + _ELEMENTS_PER_FILE]):
            for component, step in enumerate(steps):
                blocks.append(f'={first + offset}.{component}\n')
                blocks.append(_block(step, component))
                blocks.append('=\n')
        yield f'data/{first // _ELEMENTS_PER_FILE}', os.fsencode(''.join(blocks))


def setup_name(component: int) -> str:
    """The file of a component's lines of setup, which all elements of an array have in common."""
    return f'setup.{component}'


def setup_text(step: Step) -> bytes:
    """The content of that file."""
    return os.fsencode(''.join(f'{line}\n' for line in step.setup))


def _block(step: Step, component: int) -> str:
    parts = (_settings(step, component), _environment(step), step.argv, step.srun)
    return '-\n'.join(_lines(part) for part in parts)


def _lines(words: Sequence[str]) -> str:
    text = '\n:'.join(word.replace('\n', '\n+') if '\n' in word else word for word in words)
    return f':{text}\n' if text or words else ''


def _settings(step: Step, component: int) -> list[str]:
    told = [
        f'folder={step.folder}',
        f'cwd={step.cwd}',
        f'attempt={step.attempt}',
        f'title={json.dumps(step.task)}',
        f'grace={seconds(step.grace)}',
        f'patience={min(round(step.grace * 10), 10**9)}',
    ]
    if step.timeout is not None:
        if step.warn_before is None:
            told.append(f'end_after={seconds(step.timeout)}')
        else:
            told.append(f'warn_after={seconds(step.timeout - step.warn_before)}')
            told.append(f'end_after={seconds(step.warn_before)}')
    told.append(f'warn_signal={step.warn_signal.removeprefix("SIG")}')
    if step.setup:
        told.append(f'setup={setup_name(component)}')
    if step.replicas != 1:
        told.append(f'replicas={step.replicas}')
    if step.kept is not None:
        told.append(f'kept={step.kept.bytes} {step.kept.modified}')
        told.append(f'copy={step.kept.copy}')
    return told


def _environment(step: Step) -> list[str]:
    words = [
        f'{"through" if name in _SPECIAL else "env"}={name}={value}'
        for name, value in step.env.items()
        if name not in step.secrets
    ]
    words += [f'secret={variable}={name}' for variable, name in step.secrets.items()]
    words += [f'before={name}={place}' for name, place in step.prepended.items()]
    return words


def seconds(duration: float) -> str:
    """As `sleep` takes it."""
    return f'{min(duration, 1e9):.3f}'.rstrip('0').rstrip('.')
