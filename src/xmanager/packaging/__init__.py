"""Packageable → Executable. One file a kind; knows no back end."""

from __future__ import annotations

from xmanager.packaging.binary import PackagedBinary
from xmanager.packaging.package import package

__all__ = ['PackagedBinary', 'package']
