"""`xmanager package`: packages what a launch script asks for, or says what would be made and run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xmanager.cli import printing, terminal

if TYPE_CHECKING:
    from xmanager.launch.planning import Planning
    from xmanager.packaging import Packaged


class _Command(click.Command):
    """A command that tells where the flags of a script belong: a misspelt --dry-run must not be one of them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f'there is no option {error.option_name}. Flags of the script come after --: '
                f'xmanager package FILE -- {error.option_name}',
                ctx,
            ) from error


@click.command(
    'package',
    cls=_Command,
    epilog="""\b
Examples:
  xmanager package launcher.py --dry-run
  xmanager package launcher.py --dry-run --json | jq '.planned_experiments[].units'
  xmanager package launcher.py --output images
  xmanager package launcher.py --push registry.example.org/team -- --base=small
""",
)
@click.argument('file', metavar='FILE', type=click.Path())
@click.argument('flags', nargs=-1, type=click.UNPROCESSED, metavar='[-- FLAGS...]')
@click.option('--dry-run', is_flag=True, help='Only say what would be made and run.')
@click.option('-v', '--verbose', is_flag=True, help='With --dry-run: all units, all paths.')
@click.option('--output', metavar='DIR', help='Write images to DIR/NAME, as OCI layouts.')
@click.option('--push', metavar='PREFIX', help='Push images to PREFIX/NAME: registry/path.')
@click.option('--json', 'as_json', is_flag=True, help='As JSON: docs/reference/json.md.')
def command(
    file: str,
    flags: tuple[str, ...],
    dry_run: bool,
    verbose: bool,
    output: str | None,
    push: str | None,
    as_json: bool,
) -> int:
    """Package what a launch script asks for, and launch nothing.

    The script runs as it would under `xmanager launch`, but no experiment is recorded, its number is 0, and whoever
    awaits a unit goes on at once. What the script itself prints goes to stderr.

    Prints a line for each executable: its name, its kind, and what it is now known by. With --dry-run not even that
    is made: prints what would be packaged, what would be left out, and what would run.
    """
    from xmanager.launch.planning import Planning, instead_of_launching

    _refuse_together(dry_run, verbose, output, push)
    planning = Planning(
        dry_run=dry_run, output=Path(output).absolute() if output else None, push=push or ''
    )
    with instead_of_launching(planning):
        if code := _run(file, flags):
            return code
    _check_images(planning)
    _print(planning, verbose, as_json)
    return 0


def _refuse_together(dry_run: bool, verbose: bool, output: str | None, push: str | None) -> None:
    if output is not None and push is not None:
        raise click.UsageError('--output and --push exclude each other: call it twice.')
    if '' in (output, push):
        raise click.UsageError('--output and --push need a value.')
    if verbose and not dry_run:
        raise click.UsageError('-v says more of a dry run: add --dry-run.')


def _run(file: str, flags: Sequence[str]) -> int:
    from xmanager.cli.launch import run

    # Nothing of the script's is mixed with what is printed for a program to read.
    with contextlib.redirect_stdout(sys.stderr):
        return run(file, ['--', *flags])


def _check_images(planning: Planning) -> None:
    from xmanager.errors import UsageError

    if not (planning.output or planning.push):
        return
    if not any(one.facts.get('kind') == 'image' for one in planning.executables):
        flag = '--output' if planning.output else '--push'
        raise UsageError(f'{flag}: the script packages no image. Leave it out.')


def _print(planning: Planning, verbose: bool, as_json: bool) -> None:
    if as_json:
        from xmanager.cli import plan_views

        printing.print_json(plan_views.planning(planning))
    elif planning.dry_run:
        from xmanager.launch import plan_text

        plan_text.show(planning, verbose=verbose)
    elif planning.executables:
        for line in _lines(planning.executables):
            click.echo(line, color=True)
    else:
        terminal.note('the script packages nothing')


def _lines(executables: Sequence[Packaged]) -> list[str]:
    from xmanager.cli import plan_views

    names = max(len(one.name) for one in executables)
    kinds = max(len(str(one.facts.get('kind', ''))) for one in executables)
    return [
        f'{one.name:{names}}  {one.facts.get("kind", "")!s:{kinds}}  {plan_views.made(one.facts)}'
        for one in executables
    ]
