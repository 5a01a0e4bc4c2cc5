"""`.dockerignore`: which files of a folder an engine is sent, in the semantics of the engine's own matcher.

They are not those of `.gitignore`: patterns are anchored at the folder, `*` stops at a slash, the last match decides.
https://docs.docker.com/build/concepts/context/#syntax
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from xmanager.errors import PackagingError

# Letters of a class that Python may one day give a meaning, which it warns of.
_IN_CLASS: Final = re.compile(r'\\.|[\[&|~]')


@attrs.frozen
class _Pattern:
    path: re.Pattern[str]
    takes_back: bool


def kept_files(folder: Path, lines: Sequence[str]) -> Iterator[str]:
    """Relative paths of all files and folders that the lines leave in. Raises PackagingError for a bad pattern."""
    patterns = [pattern for pattern in map(_pattern, lines) if pattern is not None]
    takes_back = any(pattern.takes_back for pattern in patterns)

    def walk(below: str, above: Sequence[bool]) -> Iterator[str]:
        with os.scandir(folder / below) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = posixpath.join(below, entry.name)
            # A pattern that matches a folder matches all that is in it.
            matched = [
                known or pattern.path.fullmatch(path) is not None
                for known, pattern in zip(above, patterns, strict=True)
            ]
            is_ignored = _decide(patterns, matched)
            if not is_ignored:
                yield path
            if entry.is_dir(follow_symlinks=False) and (takes_back or not is_ignored):
                yield from walk(path, matched)

    return walk('', [False] * len(patterns))


def _decide(patterns: Sequence[_Pattern], matched: Sequence[bool]) -> bool:
    last = [pattern for pattern, matches in zip(patterns, matched, strict=True) if matches][-1:]
    return bool(last) and not last[0].takes_back


def _pattern(line: str) -> _Pattern | None:
    """None for a comment, an empty line and `.`, which stand for nothing."""
    text = line.strip()
    if line.startswith('#') or not text:
        return None
    takes_back = text.startswith('!')
    text = posixpath.normpath(text.removeprefix('!').strip() or '.').lstrip('/')
    if text in ('', '.'):
        return None
    try:
        return _Pattern(re.compile(_expression(text)), takes_back)
    except (re.error, IndexError):
        raise PackagingError(f'.dockerignore: {line!r} is no pattern that engines know.') from None


def _expression(pattern: str) -> str:
    """The regular expression that stands for a pattern."""
    parts = []
    place = 0
    while place < len(pattern):
        letter = pattern[place]
        place += 1
        if pattern.startswith('**', place - 1):
            place += 1
            if pattern.startswith('/', place):
                place += 1
            parts.append('(?:.*/)?' if place < len(pattern) else '.*')
        elif letter == '*':
            parts.append('[^/]*')
        elif letter == '?':
            parts.append('[^/]')
        elif letter == '[':
            end = _end_of_class(pattern, place)
            parts.append(f'[{_IN_CLASS.sub(_escaped, pattern[place:end])}]')
            place = end + 1
        elif letter == '\\':
            parts.append(re.escape(pattern[place]))
            place += 1
        else:
            parts.append(re.escape(letter))
    return ''.join(parts)


def _end_of_class(pattern: str, start: int) -> int:
    """Where the `]` is that ends `[…]`; one that comes first, or is escaped, is a letter of it."""
    place = start + (pattern[start] == '^')
    place += pattern[place] == ']'
    while pattern[place] != ']':
        place += 2 if pattern[place] == '\\' else 1
    return place


def _escaped(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('\\') else f'\\{match[0]}'
