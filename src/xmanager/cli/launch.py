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

    path, argv = _split([file, *flags])
    try:
        return run_script(path, argv)
    except ScriptFailed as failure:
        if os.environ.get('XM_TRACEBACK', '0') not in ('', '0'):
            import traceback

            traceback.print_exception(failure.error)
        failures.say(failure.told)
        return failures.FAILED


def _split(words: list[str]) -> tuple[str, list[str]]:
    """FILE, and what `run_script` takes: flags that stand before FILE come after the `--` that may follow it."""
    at = next((i for i, word in enumerate(words) if not word.startswith('-')), len(words))
    if at == len(words):
        raise click.UsageError('FILE is missing: give the path of a launch script.')
    before = [word for word in words[:at] if word != '--']
    after = words[at + 1 :]
    dashes = ['--'] if after[:1] == ['--'] else []
    return words[at], [*dashes, *before, *after[len(dashes) :]]
