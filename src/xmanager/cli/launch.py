"""`xmanager launch`: runs a launch script."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence

import click

from xmanager.cli import failures


class _Command(click.Command):
    """A command whose help ends with our flags."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from xmanager.launch import flag_help

        super().format_options(ctx, formatter)
        with formatter.section('Flags of ours'):
            formatter.write_dl(flag_help.rows())


@click.command(
    cls=_Command,
    context_settings={'ignore_unknown_options': True, 'allow_interspersed_args': False},
    epilog="""\b
Examples:
  xmanager launch launcher.py
  xmanager launch launcher.py -- --learning_rate=0.1
  xmanager launch launcher.py -- --xm_detach
  xmanager launch launcher.py -- --xm_dry_run    (only say what would run)
  xmanager launch launcher.py -- --help    (the script's own flags)
""",
)
@click.argument('file', metavar='FILE')
@click.argument('flags', nargs=-1, type=click.UNPROCESSED, metavar='[--] [FLAGS]...')
def command(file: str, flags: tuple[str, ...]) -> int:
    """Run a launch script; all flags after FILE are the script's, but for those that begin with --xm_.

    Prints what the jobs print, a line for each unit as it ends, and a summary. Exits with 0 only if all work units
    have completed. The first Ctrl-C stops the units and waits for them, the second leaves at once. Units go on if
    the launcher dies in any other way; --xm_detach leaves as soon as all are added. Units that a cluster has in its
    queue are left there, unless --xm_wait is given.
    """
    path, argv = _split([file, *flags])
    return run(path, argv)


def run(path: str, argv: Sequence[str]) -> int:
    """Runs a launch script and says what went wrong in it; returns the exit code."""
    from xmanager.launch.script import ScriptFailed, run_script

    # What was imported stays until the end, and so does what a script has made once it is over: to look through all
    # that for garbage costs a launch of 1,000 units a tenth of a second at its end alone.
    gc.freeze()
    try:
        return run_script(path, argv)
    except ScriptFailed as failure:
        if os.environ.get('XM_TRACEBACK', '0') not in ('', '0'):
            import traceback

            traceback.print_exception(failure.error)
        failures.say(failure.told)
        return failures.FAILED
    finally:
        gc.freeze()


def _split(words: list[str]) -> tuple[str, list[str]]:
    """FILE, and what `run_script` takes: flags that stand before FILE come after the `--` that may follow it."""
    at = next((i for i, word in enumerate(words) if not word.startswith('-')), len(words))
    if at == len(words):
        raise click.UsageError('FILE is missing: give the path of a launch script.')
    before = [word for word in words[:at] if word != '--']
    after = words[at + 1 :]
    dashes = ['--'] if after[:1] == ['--'] else []
    return words[at], [*dashes, *before, *after[len(dashes) :]]
