"""The door: loads the command that is called, and turns what goes wrong into a sentence and an exit code."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Final

import click

from xmanager.cli import failures

# Command: its one line in `xmanager --help`, so that showing the list loads no command.
COMMANDS: Final = {
    'launch': 'Run a launch script.',
    'package': 'Package what a launch script asks for; or say what would run.',
    'list': 'List experiments, the newest first.',
    'show': 'Show an experiment and its units, or a unit and its jobs.',
    'queue': 'Tell who waits, for what, and who has it.',
    'logs': 'Print what jobs have printed.',
    'wait': 'Wait until experiments have ended.',
    'stop': 'Stop units that have not ended.',
    'restart': 'Run failed, stopped and lost units again.',
    'move': 'Let units start earlier or later than others.',
    'pause': 'Start no more units of experiments; those that run go on.',
    'resume': 'Let the units of paused experiments start again.',
    'where': 'Print the folder of an experiment, a unit or a job.',
    'delete': 'Delete experiments with all that they have written.',
    'snapshot': 'List, show, restore and remove snapshots of code.',
    'supervise': 'Start a supervisor where one is needed.',
    'notify': 'Tell a command or a webhook of experiments or units.',
    'gc': 'Remove what units left behind and what packaging made long ago.',
    'doctor': 'Check this machine, the home and the database.',
    'completion': 'Print the script that makes a shell complete commands.',
}


# What other tools call these, for the hint after a wrong name.
_SYNONYMS: Final = {
    'status': 'show',
    'info': 'show',
    'describe': 'show',
    'ls': 'list',
    'ps': 'list',
    'log': 'logs',
    'tail': 'logs',
    'run': 'launch',
    'build': 'package',
    'plan': 'package',
    'kill': 'stop',
    'cancel': 'stop',
    'retry': 'restart',
    'rerun': 'restart',
    'priority': 'move',
    'prioritize': 'move',
    'hold': 'pause',
    'suspend': 'pause',
    'unpause': 'resume',
    'release': 'resume',
    'rm': 'delete',
    'remove': 'delete',
    'cd': 'where',
    'path': 'where',
    'check': 'doctor',
}


class LazyGroup(click.Group):
    """A group whose commands are modules beside this one, each with a `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f'xmanager.cli.{cmd_name}').command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section('Commands'):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith('-') and not ctx.resilient_parsing:
            ctx.fail(_no_such_command(name))
        return super().resolve_command(ctx, args)


def _no_such_command(name: str) -> str:
    from difflib import get_close_matches

    close = [_SYNONYMS[name]] if name in _SYNONYMS else get_close_matches(name, COMMANDS, n=1)
    hint = f'did you mean {close[0]}?' if close else f'there are {", ".join(COMMANDS)}'
    return f'there is no command {name!r}: {hint}'


def _print_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f'xmanager {version("xmanager")}')
        ctx.exit()


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 100},
    epilog='Each command has its own help, with examples: xmanager list --help',
)
@click.option(
    '--version',
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help='Print the version.',
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Launch, run and follow machine learning experiments.

    An experiment is named by its number, such as 12; 12.3 is its work unit 3, 12.a1 its auxiliary unit 1, and
    12.3.train the job `train` of that unit.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line (`sys.argv` by default) and returns the exit code.

    0: done. 1: not found, or failed. 2: misuse. 130: interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        # A title in a script that this terminal's encoding lacks must not fail a command.
        getattr(stream, 'reconfigure', lambda **_: None)(errors='replace')
    try:
        code = cli.main(args, prog_name='xmanager', standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        return failures.report(error)
    finally:
        if args is None:
            # All is said and done: an interrupt while the interpreter ends its threads is no reason for a traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code if isinstance(code, int) else 0
