"""Where uv is, which resolves and installs packages, and how it is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from xmanager.errors import PackagingError
from xmanager.packaging import children
from xmanager.packaging.git import mask_credentials

_LAST_LINES: Final = 12
# By these uv would work on another environment than the one that it is told.
_ELSEWHERE: Final = (
    'VIRTUAL_ENV',
    'CONDA_PREFIX',
    'UV_PROJECT',
    'UV_PROJECT_ENVIRONMENT',
    'UV_PYTHON',
    'UV_WORKING_DIR',
)


def find_uv(environ: Mapping[str, str]) -> str:
    """The program: on PATH, else that of the Python package `uv`. Raises PackagingError if there is none."""
    if found := shutil.which('uv', path=environ.get('PATH', os.defpath)):
        return found
    try:
        import uv

        return os.fsdecode(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise PackagingError(
            "uv is needed to install packages, and isn't here. Install it: pip install 'xmanager[uv]'."
        ) from None


def _nobody(line: str) -> None:
    pass


def run_uv(
    command: Sequence[str],
    environ: Mapping[str, str],
    cwd: Path,
    failure: str,
    hear: Callable[[str], None] = _nobody,
) -> None:
    """Runs uv in a folder; `hear` gets its lines, without passwords.

    Raises PackagingError, which begins with `failure` and ends with uv's own last words.
    """
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(mask_credentials(line))
        hear(lines[-1])

    shown = {**environ, 'UV_NO_PROGRESS': '1', 'NO_COLOR': '1'}
    for name in _ELSEWHERE:
        shown.pop(name, None)
    if children.run(command, shown, take, cwd=cwd) != 0:
        said = '\n'.join(lines[-_LAST_LINES:]).replace(f'{cwd}/', '')
        raise PackagingError(f'{failure}:\n{said}')
