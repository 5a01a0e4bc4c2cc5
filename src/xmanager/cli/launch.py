"""`xmanager launch`: runs a launch script."""

from __future__ import annotations

import os

import click

from xmanager.cli import failures


@click.command(
    context_settings={'ignore_unknown_options': True, 'allow_interspersed_args': False},
    epilog="""\b
Examples:
  xmanager launch launcher.py
  xmanager launch launcher.py -- --learning_rate=0.1
  xmanager launch launcher.py -- --xm_detach
  xmanager launch launcher.py -- --help    (the script's own flags)
""",
)
@click.argument('file', metavar='FILE')
@click.argument('flags', nargs=-1, type=click.UNPROCESSED, metavar='[--] [FLAGS]...')
def command(file: str, flags: tuple[str, ...]) -> int:
    """Run a launch script; all flags after FILE are the script's, but for those that begin with --xm_.

    Prints what the jobs print, a line for each unit as it ends, and a summary. Exits with 0 only if all work units
    have completed. The first Ctrl-C stops the units and waits for them, the second leaves at once. Units go on if
    the launcher dies in any other way; --xm_detach leaves as soon as all are added.

    Flags of ours: --xm_detach, --xm_local_resources=cpu=8,ram=16GiB,local_gpu=2 (what this machine shall be taken
    to have).
    """
    from xmanager.launch.script import ScriptFailed, run_script

    ours = [file, *flags]
    at = next((i for i, word in enumerate(ours) if not word.startswith('-')), len(ours))
    if at == len(ours):
        raise click.UsageError('FILE is missing: give the path of a launch script.')
    try:
        return run_script(ours[at], [*ours[:at], *ours[at + 1 :]])
    except ScriptFailed as failure:
        if os.environ.get('XM_TRACEBACK', '0') not in ('', '0'):
            import traceback

            traceback.print_exception(failure.error)
        failures.say(failure.told)
        return failures.FAILED
