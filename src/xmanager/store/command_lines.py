"""Command lines and assignments as a shell takes them, to be pasted into one. Pure, and quick to import."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

_ESCAPES: Final = {'\\': r'\\', "'": r'\'', '\n': r'\n', '\r': r'\r', '\t': r'\t'}


def quoted(argv: Sequence[str]) -> str:
    """A command line in one line: what would break it is written as `$'\\n'`."""
    return ' '.join(_quote(argument) for argument in argv)


def assignments(env: Mapping[str, str]) -> list[str]:
    """`NAME=value` for each variable, by name."""
    return [f'{name}={_quote(value)}' for name, value in sorted(env.items())]


def _quote(argument: str) -> str:
    if argument.isprintable():
        return shlex.quote(argument)
    escaped = ''.join(_escape(character) for character in argument)
    return f"$'{escaped}'"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return ''.join(f'\\x{byte:02x}' for byte in os.fsencode(character))
