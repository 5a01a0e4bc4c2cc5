"""Reads the YAML that names a database: keys with values, and below one of them keys with values once more.

This much of YAML is a page of code; a parser of all of it would be one more dependency of every user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

Settings = Mapping[str, 'str | Mapping[str, str]']

_LINE: Final = re.compile(r'(?P<indent> *)(?P<key>[A-Za-z_]\w*)\s*:(?:\s+(?P<value>.*))?')
_QUOTED: Final = re.compile(
    r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^']|'')*)')\s*(?:#.*)?"""
)
_NOTHING: Final = frozenset({'', '~', 'null'})
_NOT_FLAT: Final = ('{', '[', '&', '*', '!', '|', '>', '@', '`', '%')


def read(text: str) -> Settings:
    """The settings as text; a value that is left out is ''. Raises ValueError, which names the line but no value."""
    found: dict[str, str | dict[str, str]] = {}
    section: dict[str, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith('#') or line.rstrip() in ('---', '...'):
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None or (match['indent'] and section is None):
            raise ValueError(f'line {number} is not of the form `key: value`')
        value = _scalar(match['value'] or '', number)
        if match['indent']:
            assert section is not None
            section[match['key']] = value
        elif value:
            found[match['key']], section = value, None
        else:
            found[match['key']] = section = {}
    return {key: value or '' for key, value in found.items()}


def _scalar(text: str, number: int) -> str:
    if quoted := _QUOTED.fullmatch(text):
        if quoted['single'] is not None:
            return quoted['single'].replace("''", "'")
        return re.sub(r'\\(["\\])', r'\1', quoted['double'])
    plain = re.split(r'(?:^|\s)#', text, maxsplit=1)[0].strip()
    if plain.startswith(('"', "'", *_NOT_FLAT)):
        raise ValueError(f'the value in line {number} is no plain text (put it in quotes)')
    return '' if plain in _NOTHING else plain
