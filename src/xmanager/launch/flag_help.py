"""Tells of our flags: in the help of the command, and in place of a script that takes none of its own."""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterator
from typing import Final

from xmanager.launch.settings import SETTINGS

_PARSERS: Final = frozenset({'argparse', 'getopt', 'optparse'})
_DYNAMIC: Final = frozenset(
    {'__import__', 'import_module', 'run_module', 'run_path', 'exec', 'eval'}
)
_WIDTH: Final = 100


def rows() -> list[tuple[str, str]]:
    """Each flag and its help."""
    return [
        (f'--{setting.flag}' if isinstance(setting.default, bool) else f'--{setting.flag}=…', setting.help)
        for setting in SETTINGS.values()
    ]  # fmt: skip


def text(script: str) -> str:
    """What `--help` prints of a script that takes no flags."""
    width = max(len(flag) for flag, _ in rows())
    lines = [f'{script} takes no flags of its own. Those of xmanager:', '']
    for flag, help in rows():
        first, *more = textwrap.wrap(help, _WIDTH - width - 4)
        lines.append(f'  {flag:{width}}  {first}')
        lines += [f'  {"":{width}}  {line}' for line in more]
    return '\n'.join(lines)


def takes_none(tree: ast.AST, source: str) -> bool:
    """Whether it is certain that a script looks at no command line.

    It mentions none, its `main` (which may be called for it) takes nothing, and it imports nothing that might look at
    one: only xmanager, and of Python's own modules those that parse no flags.
    """
    if 'argv' in source or any(map(_is_main_with_parameters, ast.walk(tree))):
        return False
    harmless = sys.stdlib_module_names - _PARSERS | {'xmanager'}
    return all(name in harmless for name in _imported(tree))


def _is_main_with_parameters(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name != 'main':
        return False
    given = node.args
    return bool(given.posonlyargs or given.args or given.vararg or given.kwonlyargs or given.kwarg)


def _imported(tree: ast.AST) -> Iterator[str]:
    """The top names of all modules that it imports; an empty one for what can't be told."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield '' if node.level else (node.module or '').partition('.')[0]
        elif getattr(node, 'id', '') in _DYNAMIC or getattr(node, 'attr', '') in _DYNAMIC:
            yield ''
