"""Packageable → Executable. One file a kind; knows no back end."""

from __future__ import annotations

from xmanager.packaging.package import package
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.workshop import Workshop

__all__ = ['Packaged', 'Workshop', 'package']
