"""Which files are left out: `.gitignore` and `.xmignore` of every folder, and what is left out everywhere.

Patterns mean what gitignore(5) says, by the library pathspec. Of what is said about a path the strongest counts: the
`.xmignore` that is nearest, then those above it, then `.gitignore` in the same order, `.git/info/exclude`, and last
what is built in. So a line `!name` in `.xmignore` takes back whatever else leaves something out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import attrs

from xmanager.snapshot.git import exclude_file_of, repository_of

GIT_RULES: Final = '.gitignore'
OUR_RULES: Final = '.xmignore'
BUILT_IN: Final = 'built in'

# Never code: the records of version control, byte code, caches of tools, what package managers install.
_FOLDERS: Final = frozenset({
    *('.hg', '.svn', '.bzr', '.jj', '__pycache__', '.mypy_cache', '.pytest_cache', '.ruff_cache'),
    *('.hypothesis', '.ipynb_checkpoints', 'node_modules', '.tox', '.nox', '.eggs', '.idea'),
})  # fmt: skip
_NAMES: Final = frozenset({'.git', '.DS_Store'})
_ENDINGS: Final = ('.pyc', '.pyo')

ENVIRONMENT: Final = 'pyvenv.cfg'
"""The file that makes a folder a virtual environment (PEP 405)."""

Judge = Callable[[str], bool]


@attrs.frozen(eq=False, slots=False)
class Level:
    """The rules of one file, for the folder `at` (relative to the root, '' or ending in '/') and all below.

    `outside` is where the root is within the folder of a file that stands above it: `src/`, say.
    """

    source: str
    at: str
    lines: tuple[str, ...]
    outside: str = ''

    @cached_property
    def _rules(self) -> list[tuple[Judge, bool, str]]:
        rules = [_rule(line) for line in reversed(self.lines)]
        return [rule for rule in rules if rule is not None]

    def verdict(self, path: str) -> tuple[bool | None, str]:
        """Whether `path` (a folder's ends in '/') is left out, None if nothing is said of it; and the rule."""
        name = self.outside + path[len(self.at) :]
        for matches, omits, line in self._rules:
            if matches(name):
                return omits, f'{self.source}: {line}'
        return None, ''


def _rule(line: str) -> tuple[Judge, bool, str] | None:
    """A line as a rule about exactly the path that it is asked about, for what is below is never asked about."""
    from pathspec.patterns.gitignore.base import GitIgnorePatternError  # Late: 37 ms.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    try:
        pattern = GitIgnoreSpecPattern(line)
    except (GitIgnorePatternError, re.error):
        return None  # git, too, passes over a pattern that makes no sense.
    if pattern.include is None:
        return None
    text = line if line.endswith('\\ ') else line.rstrip()
    return _judge(pattern.regex, text.removeprefix('!')), pattern.include, text


def _judge(regex: Any, text: str) -> Judge:
    """The regular expressions of pathspec match what is below, too: it is told from where the match ends."""
    match = regex.match
    # What pathspec puts in place of patterns of stars alone: everything, what is in a folder, every folder.
    if regex.pattern == '.':
        return lambda name: True
    if regex.pattern == '/':
        return lambda name: '/' in name[:-1]
    if regex.pattern == '(?P<ps_d>/)':
        return lambda name: name.endswith('/')
    if text.endswith('/**'):
        return lambda name: (found := match(name)) is not None and found.end() < len(name)
    if text.endswith('/**/'):
        return lambda name: (
            name.endswith('/') and (found := match(name)) is not None and found.end() < len(name)
        )
    return lambda name: (found := match(name)) is not None and found.end() == len(name)


@attrs.frozen(eq=False)
class Rules:
    """The rules in force in one folder, the strongest first."""

    ours: tuple[Level, ...]
    gits: tuple[Level, ...]

    def why_omitted(self, name: str, path: str, is_folder: bool) -> str:
        """The rule that leaves out a path relative to the root; '' if it belongs to the snapshot."""
        omits, rule = self.verdict(name, path, is_folder)
        return rule if omits else ''

    def verdict(self, name: str, path: str, is_folder: bool) -> tuple[bool | None, str]:
        """Whether a path is left out, None if nothing is said of it; and the rule."""
        asked = f'{path}/' if is_folder else path
        for level in (*self.ours, *self.gits):
            omits, rule = level.verdict(asked)
            if omits is not None and (omits or level in self.ours):
                return omits, rule
            if omits is not None:  # What git takes back may still be what is never code.
                break
        return (True, BUILT_IN) if _is_never_code(name, is_folder) else (None, '')

    def within(self, folder: str, at: str) -> Rules:
        """Those of a folder below, or of the root itself."""
        ours, gits = _level(folder, at, OUR_RULES), _level(folder, at, GIT_RULES)
        return Rules(ours + self.ours, gits + self.gits) if ours or gits else self


def _is_never_code(name: str, is_folder: bool) -> bool:
    if is_folder and (name in _FOLDERS or name.endswith('.egg-info')):
        return True
    return name in _NAMES or (name.endswith(_ENDINGS) and not is_folder)


def is_of_git(rule: str) -> bool:
    """Whether a rule is one of git's, which don't count for what git tracks."""
    return rule.partition(': ')[0].endswith((GIT_RULES, 'exclude'))


def rules_above(root: str) -> Rules:
    """The rules that stand outside of `root`: those of the repository around it."""
    levels = []
    for file in sources_above(root):
        lines = _lines(file)
        base = repository_of(root) if file.endswith('exclude') else os.path.dirname(file)
        inner = os.path.relpath(root, base)
        if lines:
            outside = '' if inner == '.' else f'{inner}/'
            levels.append(Level(os.path.relpath(file, root), '', lines, outside))
    return Rules((), tuple(reversed(levels)))


def sources_above(root: str) -> list[str]:
    """The files of rules outside of `root` that have a say in it, the weakest first."""
    top = repository_of(root)
    if top is None:
        return []
    folders: list[str] = []
    folder = root
    while folder != top:
        folder = os.path.dirname(folder)
        folders.insert(0, folder)
    return [exclude_file_of(top), *(f'{folder}/{GIT_RULES}' for folder in folders)]


def _level(folder: str, at: str, name: str) -> tuple[Level, ...]:
    lines = _lines(os.path.join(folder, name))
    return (Level(f'{at}{name}', at, lines),) if lines else ()


def _lines(path: str) -> tuple[str, ...]:
    try:
        with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
            text = file.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return ()
    return tuple(line for line in text.split('\n') if line.strip() and not line.startswith('#'))
