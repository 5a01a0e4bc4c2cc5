"""Where the launch script is, for the paths that are relative to it."""

from __future__ import annotations

import itertools
import os
import sys

_FLAG = 'xm_launch_script'
_VARIABLE = 'XM_LAUNCH_SCRIPT'


def resolve_launch_path(path: str | os.PathLike[str]) -> str:
    """An absolute, normal path: `~` expanded, and relative to the launch script's directory."""
    expanded = os.path.expanduser(os.fspath(path))
    return os.path.normpath(os.path.join(launch_directory(), expanded))


def launch_directory() -> str:
    """The launch script's directory; the working directory in a notebook, a shell or a test run."""
    script = _script_by_flag() or _main_script()
    return os.path.dirname(os.path.abspath(script)) if script else os.getcwd()


def _script_by_flag() -> str | None:
    """`--xm_launch_script`, as absl parsed it, as it was typed, or as `xmanager launch` has set it."""
    absl_flags = sys.modules.get('absl.flags')
    if absl_flags is not None and _FLAG in absl_flags.FLAGS and absl_flags.FLAGS.is_parsed():
        value = absl_flags.FLAGS[_FLAG].value
        if value:
            return str(value)
    for argument, following in itertools.pairwise([*sys.argv[1:], '']):
        name, equals, value = argument.lstrip('-').partition('=')
        if argument.startswith('-') and name == _FLAG:
            return (value if equals else following) or None
    return os.environ.get(_VARIABLE)


def _main_script() -> str | None:
    script = getattr(sys.modules.get('__main__'), '__file__', None)
    if not script or _is_installed_program(script):
        return None
    return str(script)


def _is_installed_program(script: str) -> bool:
    """Whether it is a program such as pytest, whose place says nothing about the experiment."""
    directory = os.path.dirname(os.path.abspath(script))
    standard_library = os.path.dirname(os.path.abspath(os.__file__))
    return (
        directory == os.path.dirname(os.path.abspath(sys.executable))
        or directory.startswith(
            standard_library
        )  # `python -m asyncio`; what is installed stands there too.
        or not {'site-packages', 'dist-packages'}.isdisjoint(directory.split(os.sep))
    )
