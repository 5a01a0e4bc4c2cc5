"""Where uv is, which resolves and installs packages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from xmanager.errors import PackagingError


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
