"""`xmanager doctor`: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from xmanager.cli import printing, terminal

if TYPE_CHECKING:
    from xmanager.launch.findings import Finding

_COLOURS: Final = {'ok': 'green', 'warn': 'yellow', 'missing': 'dim', 'bad': 'red'}


@click.command('doctor')
@click.option('--json', 'as_json', is_flag=True, help='As JSON: docs/reference/json.md.')
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check this machine, the engines that are installed, the home and the database.

    Each line is ok, warn (works, but), missing (needed only for some things) or bad. Exits with 1 if anything is bad.

    \b
    Examples:
      xmanager doctor
      XM_HOME=/scratch/ada xmanager doctor
      xmanager doctor --json | jq '.checks[] | select(.status != "ok")'
    """
    from xmanager.launch.inspection import inspect
    from xmanager.store import Home

    findings = list(inspect(Home.locate()))
    if as_json:
        from xmanager.cli import views

        printing.print_json(views.document(checks=[views.check(finding) for finding in findings]))
    else:
        _print(findings)
    if any(finding.status == 'bad' for finding in findings):
        ctx.exit(1)


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        status = terminal.style(f'{finding.status:7}', _COLOURS[finding.status])
        detail = terminal.one_line(finding.detail)
        click.echo(f'{status}  {finding.topic:{width}}  {detail}', color=True)
        if finding.advice:
            arrow = ' ' * (9 + width)
            click.echo(f'{arrow}  → {terminal.one_line(finding.advice)}', color=True)
