"""Tables: fitted to a terminal, or for a pipe in plain aligned columns with nothing cut off.

Not rich's: these take 1 ms to load instead of 65, and one piece of code serves the terminal and the pipe.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import click

from xmanager.cli import terminal

_GAP = '  '


class Column(NamedTuple):
    """`least` is how narrow the column may become on a terminal, None when it must not shrink.

    Where that is not enough, optional columns go, the last one first. `colour` gives a cell's colour.
    """

    title: str
    least: int | None = None
    right: bool = False
    optional: bool = False
    colour: Callable[[str], str] | None = None


def show(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on stdout, or nothing when it has no rows."""
    if not rows:
        return
    cells = [[terminal.one_line(cell) for cell in row] for row in rows]
    limit = terminal.width() if terminal.is_terminal() else None
    click.echo('\n'.join(lines(columns, cells, limit)), color=True)


def lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], limit: int | None) -> list[str]:
    """The table's lines, each at most `limit` columns wide (None: as wide as it takes)."""
    kept = list(range(len(columns)))
    widths = [
        max(len(column.title), *(text_width(row[i]) for row in rows))
        for i, column in enumerate(columns)
    ]
    if limit is not None:
        widths = [min(width, limit) for width in widths]
        kept = _keep(columns, widths, limit)
        _shrink(columns, widths, kept, limit)
    header = _line([columns[i].title for i in kept], columns, widths, kept, header=True)
    return [header] + [_line([row[i] for i in kept], columns, widths, kept) for row in rows]


def text_width(text: str) -> int:
    """Columns that `text` takes on a terminal: 2 for East Asian wide characters, 0 for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in 'WF')
        for c in text
    )


def cut(text: str, limit: int) -> str:
    """`text`, or what of it fits in `limit` columns with an ellipsis at its end."""
    if text_width(text) <= limit:
        return text
    kept = text[: max(limit - 1, 0)]
    while kept and text_width(kept) > limit - 1:
        kept = kept[:-1]
    return kept.rstrip() + '…'


def _keep(columns: Sequence[Column], widths: Sequence[int], limit: int) -> list[int]:
    kept = list(range(len(columns)))
    for i in reversed(range(len(columns))):
        least = sum(_least(columns[k], widths[k]) for k in kept) + len(_GAP) * (len(kept) - 1)
        if least > limit and columns[i].optional:
            kept.remove(i)
    return kept


def _least(column: Column, width: int) -> int:
    return width if column.least is None else min(column.least, width)


def _shrink(columns: Sequence[Column], widths: list[int], kept: Sequence[int], limit: int) -> None:
    """Takes what is too much from the widest of the columns that may shrink, a character at a time."""
    excess = sum(widths[i] for i in kept) + len(_GAP) * (len(kept) - 1) - limit
    for _ in range(max(excess, 0)):
        able = [i for i in kept if widths[i] > _least(columns[i], widths[i])]
        if not able:
            return
        widths[max(able, key=lambda i: widths[i])] -= 1


def _line(
    cells: Sequence[str],
    columns: Sequence[Column],
    widths: Sequence[int],
    kept: Sequence[int],
    *,
    header: bool = False,
) -> str:
    shown = []
    for place, (cell, i) in enumerate(zip(cells, kept, strict=True)):
        text = cut(cell, widths[i])
        padding = ' ' * (widths[i] - text_width(text))
        colour = columns[i].colour
        styled = terminal.style(text, 'bold' if header else colour(cell) if colour else '')
        last = place == len(kept) - 1
        shown.append(padding + styled if columns[i].right else styled + padding * (not last))
    return _GAP.join(shown).rstrip()
