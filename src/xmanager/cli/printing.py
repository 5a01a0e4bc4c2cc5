"""How commands print what is not a table: JSON, and names with their values in two columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from xmanager.cli import terminal


def print_json(value: Mapping[str, Any]) -> None:
    """Prints JSON: indented for a person, in one line for a program."""
    import json

    if terminal.is_terminal():
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        click.echo(json.dumps(value, separators=(',', ':')))


def print_heading(*words: str) -> None:
    """Prints a line that begins a section; words that are empty are left out."""
    click.echo('  '.join(word for word in words if word), color=True)


def print_fields(fields: Sequence[tuple[str, str | Sequence[str]]]) -> None:
    """Prints names and values; what is empty is left out, a list takes a line for each."""
    shown = [(name, [value] if isinstance(value, str) else value) for name, value in fields]
    shown = [(name, values) for name, values in shown if any(values)]
    width = max((len(name) for name, _ in shown), default=0)
    for name, values in shown:
        for place, value in enumerate(values):
            label = terminal.style(f'{"" if place else name:{width}}', 'dim')
            click.echo(f'  {label}  {value}', color=True)
