"""Runs a launch script as `python script.py` would, and tells what went wrong in it."""

from __future__ import annotations

import ast
import itertools
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from xmanager.errors import ExperimentUnitError, UsageError, XManagerError
from xmanager.launch import settings
from xmanager.launch.session import Session


@attrs.frozen
class ScriptFailed(Exception):
    """A launch script raised. `told` says where and what, in a sentence and the lines that led there."""

    told: str
    error: BaseException


def run_script(path: str, argv: Sequence[str]) -> int:
    """Runs the script with its flags; ours (`--xm_…`) are taken out of them and set, and so is a `--` before all.

    Returns the exit code: 0 only if all work units that it waited for have completed. Raises UsageError for what is
    no script, ScriptFailed for one that raises.
    """
    script = _read(path)
    ours, rest = settings.take_flags(argv)
    if rest[:1] == ['--']:  # It divides our command line from the script's.
        more, rest = settings.take_flags(rest[1:])
        ours |= more
    _refuse_misspelt(rest, script.text)
    if rest in (['--help'], ['-h']) and _helped(script):
        return 0
    os.environ.update(ours)
    try:
        status = _execute(script, rest)
    except ExperimentUnitError as error:
        if not Session.told_of(error):
            raise ScriptFailed(_tell(error), error) from error
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        raise ScriptFailed(_tell(error), error) from error
    return status or (1 if Session.any_failed else 0)


@attrs.frozen
class _Script:
    """A launch script that was read. `has_guard`: it asks for its `__name__`, so it calls its `main` itself."""

    path: str
    text: str
    tree: ast.AST
    code: types.CodeType
    has_guard: bool


def _refuse_misspelt(argv: Sequence[str], text: str) -> None:
    """Raises UsageError for what is nearly a flag of ours, and isn't mentioned in the script."""
    for argument in itertools.takewhile(lambda word: word != '--', argv):
        name = argument.lstrip('-').partition('=')[0].removeprefix('no')
        if argument.startswith('--') and name.startswith('xm_') and name not in text:
            from difflib import get_close_matches

            known = [setting.flag for setting in settings.SETTINGS.values()]
            for close in get_close_matches(name, known, n=1, cutoff=0.75):
                raise UsageError(f'{argument}: there is no such flag. Did you mean --{close}?')


def _read(path: str) -> _Script:
    file = Path(path)
    if not file.exists():
        raise UsageError(f'{path} does not exist. Give the path of a launch script.')
    if file.is_dir():
        raise UsageError(f'{path} is a directory. Give the launch script inside it.')
    try:
        source = file.read_bytes()
        tree = ast.parse(source, path)
        code = compile(tree, path, 'exec', dont_inherit=True)  # Our __future__ is not the script's.
    except (SyntaxError, ValueError) as error:
        line = getattr(error, 'lineno', None)
        where = f'{path}:{line}' if line else path
        raise UsageError(
            f'{where}: {getattr(error, "msg", error)}: not a Python program.'
        ) from error
    except OSError as error:
        raise UsageError(f'{path} cannot be read: {error.strerror}.') from error
    has_guard = any(map(_compares_name, ast.walk(tree)))
    return _Script(path, source.decode(errors='replace'), tree, code, has_guard)


def _helped(script: _Script) -> bool:
    """Tells of our flags if the script takes none of its own, so that asking for help doesn't launch it."""
    from xmanager.launch import flag_help

    if not flag_help.takes_none(script.tree, script.text):
        return False
    print(flag_help.text(script.path))
    return True


def _compares_name(node: ast.AST) -> bool:
    """Whether it is a comparison such as `__name__ == '__main__'`."""
    operands = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
    return any(isinstance(each, ast.Name) and each.id == '__name__' for each in operands)


def _execute(script: _Script, argv: list[str]) -> int:
    """Runs the script as `__main__`; the process is left as it was found."""
    module = types.ModuleType('__main__')
    module.__file__ = os.path.abspath(script.path)
    before = sys.argv, sys.path[:], sys.modules['__main__']
    sys.argv = [script.path, *argv]
    sys.path.insert(0, os.path.dirname(module.__file__))
    sys.modules['__main__'] = module
    try:
        exec(script.code, module.__dict__)
        main = getattr(module, 'main', None)
        if callable(main) and not script.has_guard and not Session.any_entered:
            return _call_main(main, sys.argv)
        return 0
    except SystemExit as exit:
        return _exit_code(exit)
    finally:
        sys.argv, sys.path[:], sys.modules['__main__'] = before


def _call_main(main: Callable[..., Any], argv: list[str]) -> int:
    """Calls the `main` of a script that leaves the call to its launcher."""
    settings.define_absl_flags()
    if (app := sys.modules.get('absl.app')) is not None:
        app.run(main, argv=argv)
    result = main(argv) if _takes_argv(main) else main()
    if hasattr(result, '__await__'):
        import asyncio

        result = asyncio.run(result)
    return _exit_code(SystemExit(result))


def _takes_argv(main: Callable[..., Any]) -> bool:
    import inspect

    return bool(inspect.signature(main).parameters)


def _exit_code(exit: SystemExit) -> int:
    if exit.code is None:
        return 0
    if isinstance(exit.code, int):
        return exit.code
    print(exit.code, file=sys.stderr)
    return 1


def _tell(error: BaseException) -> str:
    """Where in the user's code it was raised, and what it was."""
    import traceback

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # Of asyncio.TaskGroup: its first error led to the others.
    machinery = _machinery()
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(machinery)
    ]
    what = str(error) if isinstance(error, XManagerError) else _named(error)
    if not frames:
        return what
    *outer, last = frames
    lines = [f'{_short(last)}: {what}']
    lines += [f'    called from {_short(frame)}: {frame.line}' for frame in reversed(outer)]
    return '\n'.join(lines)


def _machinery() -> tuple[str, ...]:
    """Files whose lines are no news to the author of a launch script: ours, Python's, and what is installed."""
    import sysconfig

    ours = str(Path(__file__).resolve().parents[1])
    installed = [sysconfig.get_path(kind) for kind in ('stdlib', 'purelib', 'platlib')]
    return ('<frozen ', '<attrs generated ', *(folder + os.sep for folder in (ours, *installed)))


def _named(error: BaseException) -> str:
    return f'{type(error).__name__}: {error}' if str(error) else type(error).__name__


def _short(frame: Any) -> str:
    path = os.path.relpath(frame.filename)
    return f'{frame.filename if path.startswith("..") else path}:{frame.lineno}'
