"""What a user sees when a command fails: one sentence on stderr, and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from xmanager.cli import terminal

FAILED: Final = 1
MISUSE: Final = 2
INTERRUPTED: Final = 130


def report(error: BaseException) -> int:
    """Says what went wrong and returns the exit code; raises `error` again when it is not ours to explain."""
    if isinstance(error, SystemExit | GeneratorExit):
        raise error
    if isinstance(error, click.Abort | KeyboardInterrupt):
        # Abort is how click passes on Ctrl-C, and at a prompt Ctrl-D.
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        return _report_misuse(error)
    if isinstance(error, BrokenPipeError):
        return _leave_quietly()
    return _report_exception(error)


def say(sentence: str) -> None:
    """Prints `xmanager: sentence` on stderr, red on a terminal."""
    styled = terminal.style(sentence, 'red', stream=sys.stderr)
    click.echo(f'xmanager: {styled}', err=True, color=True)


def _report_misuse(error: click.ClickException) -> int:
    say(_sentence(error.format_message()))
    ctx = getattr(error, 'ctx', None)
    if ctx is not None:
        click.echo(f'See: {ctx.command_path} --help', err=True)
    return error.exit_code


def _report_exception(error: BaseException) -> int:
    # Loaded by now if a command has run, and never needed if all goes well.
    from xmanager.errors import UsageError, XManagerError

    if os.environ.get('XM_TRACEBACK', '0') not in ('', '0'):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, XManagerError):
        say(_sentence(str(error)))
        return MISUSE if isinstance(error, UsageError) else FAILED
    say(f'unexpected {type(error).__name__}: {error} (set XM_TRACEBACK=1 for the traceback)')
    return FAILED


def _sentence(message: str) -> str:
    """A message in one line."""
    return ' '.join(message.split())


def _leave_quietly() -> int:
    """The reader of our output has gone, as `head` does: nothing to say, and nothing to flush at exit."""
    with open(os.devnull, 'wb') as devnull:
        os.dup2(devnull.fileno(), sys.stdout.fileno())
    return FAILED
