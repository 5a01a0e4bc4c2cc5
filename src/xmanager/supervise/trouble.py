"""Engines that can't be used for a while: told of once in the supervisor's log, however often it is tried again."""

from __future__ import annotations

import sys
from typing import Final

from xmanager.errors import UnreachableError

PASSING: Final = (UnreachableError, OSError)
"""What an engine may raise in place of an answer. Nothing follows from it for the units."""


class Trouble:
    """What was told last."""

    def __init__(self) -> None:
        self._told = ''

    def tell(self, error: Exception) -> None:
        """Once, until it is over."""
        if str(error) != self._told:
            print(error, file=sys.stderr, flush=True)
        self._told = str(error)

    def is_over(self) -> None:
        """It was possible again."""
        self._told = ''
