"""How an image starts its Python code: the words of its entry point, and whether there is such a module."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Iterable
from typing import Final

from xmanager.errors import PackagingError
from xmanager.xm.executables import CommandList, ModuleName

logger = logging.getLogger(__name__)

_CLOSE: Final = 0.75
# `sh` gets the lines as $0 and the arguments as they are: nothing is quoted, nothing is pasted into a shell.
_SHELL: Final = (
    'if command -v bash >/dev/null 2>&1; then exec bash -c "$0" entrypoint "$@"; fi; '
    'exec sh -c "$0" entrypoint "$@"'
)


def entrypoint_of(entrypoint: ModuleName | CommandList) -> list[str]:
    """The words that come before the arguments of a job."""
    if isinstance(entrypoint, ModuleName):
        return ['python3', '-m', entrypoint.module_name]
    return shell_words(entrypoint)


def shell_words(entrypoint: CommandList) -> list[str]:
    """A shell that runs these lines; the words that follow are their arguments."""
    return ['/bin/sh', '-c', _SHELL, _script(entrypoint)]


def _script(entrypoint: CommandList) -> str:
    text = '\n'.join(entrypoint.commands)
    return text if text.endswith(('$@', '"$@"')) else f'{text} "$@"'


def check_entrypoint(
    entrypoint: ModuleName | CommandList,
    before: str,
    files: Iterable[str],
    asked: str,
    *,
    installs: bool,
) -> None:
    """Raises PackagingError if a folder with these files can't have the module that is to be run.

    Its name begins with `before` ('' or ending in `/`). With `installs` something else may bring it: packages, the
    base image, instructions.
    """
    if isinstance(entrypoint, CommandList):
        if not entrypoint.commands:
            raise PackagingError(f"{asked}: xm.CommandList([]) runs nothing. Write ['command', …].")
        if any('\0' in line for line in entrypoint.commands):
            raise PackagingError(f'{asked}: a line of its CommandList has a NUL character in it.')
        return
    module = entrypoint.module_name
    if not all(part.isidentifier() for part in module.split('.')):
        raise PackagingError(
            f"{asked}: {module!r} is no name of a module. Write xm.ModuleName('package.module')."
        )
    there = {f'{before}{path}' for path in files}
    path = module.replace('.', '/')
    if f'{path}.py' in there or f'{path}/__main__.py' in there:
        return
    top = path.partition('/')[0]
    ours = any(one == f'{top}.py' or one.startswith(f'{top}/') for one in there)
    if not ours and (installs or top in sys.stdlib_module_names):
        if near := difflib.get_close_matches(module, _modules(there), 1, _CLOSE):
            logger.warning(
                '%s: there is no %s.py; if nothing that is installed brings it, it was meant to be %r.',
                asked,
                path,
                near[0],
            )
        return
    raise PackagingError(_no_module(asked, module, path, there, before))


def _no_module(asked: str, module: str, path: str, there: set[str], before: str) -> str:
    if f'{path}/__init__.py' in there:
        return f'{asked}: {module!r} is a package without {path}/__main__.py, so that nothing of it can be run.'
    modules = _modules(there)
    near = difflib.get_close_matches(module, modules, 3, 0.6)
    # What was meant is often the right file in another folder.
    near += [one for one in modules if one.endswith(f'.{module}') and one not in near][:2]
    hint = f' Did you mean {" or ".join(map(repr, near))}?' if near else ''
    deep = f' (with use_deep_module its name begins with {before[:-1]!r})' if before else ''
    return f'{asked}: there is neither {path}.py nor {path}/__main__.py{deep}.{hint}'


def _modules(files: Iterable[str]) -> list[str]:
    """The names by which the Python files can be run."""
    return sorted(
        one.removesuffix('.py').removesuffix('/__main__').replace('/', '.')
        for one in files
        if one.endswith('.py') and not one.endswith('__init__.py')
    )
