"""What the terminal can do, and what a colour means."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import Final, TextIO

import click

STATE_COLOURS: Final = {
    'completed': 'green',
    'failed': 'red',
    'running': 'cyan',
    'starting': 'cyan',
    'restarting': 'cyan',
    'waiting': 'dim',
    'queued': 'dim',
    'creating': 'dim',
    'empty': 'dim',
    'stopped': 'yellow',
    'lost': 'magenta',
}

# What a title or a message may hold, and no terminal may obey.
_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f]+')


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person looks at `stream` (stdout by default)."""
    return (stream or sys.stdout).isatty()


def has_colours(stream: TextIO | None = None) -> bool:
    """Whether `stream` is a terminal that shows colours and a user who wants them (https://no-color.org)."""
    wanted = not os.environ.get('NO_COLOR') and os.environ.get('TERM') != 'dumb'
    return wanted and is_terminal(stream)


def width() -> int:
    """Columns of the terminal, or of $COLUMNS."""
    return shutil.get_terminal_size().columns


def style(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour, `bold` or `dim`, where colours are shown; else as it is."""
    if not colour or not text or not has_colours(stream):
        return text
    if colour in ('bold', 'dim'):
        return click.style(text, bold=colour == 'bold' or None, dim=colour == 'dim' or None)
    return click.style(text, fg=colour)


def state_colour(name: str) -> str:
    """The colour that a state has everywhere."""
    return STATE_COLOURS.get(name, '')


def state(name: str) -> str:
    """A state in its colour."""
    return style(name, state_colour(name))


def remark(text: str) -> None:
    """Ends what was printed with a line about it: dim, and on stderr where stdout is read by a program."""
    click.echo(style(text, 'dim'), err=not is_terminal(), color=True)


def note(sentence: str) -> None:
    """Tells the user something on stderr that is no error, and no part of the output."""
    click.echo(f'xmanager: {sentence}', err=True)


def one_line(text: str) -> str:
    """`text` without line ends and without what would move the cursor or change colours."""
    return _CONTROL.sub(' ', text).strip()
