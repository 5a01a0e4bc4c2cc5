"""What is known about an experiment or unit beside its jobs: who made it, and its title."""

from __future__ import annotations

import attrs


class ContextAnnotations:
    """Notes that may be changed at any time; implementations override both to keep them."""

    def __init__(self) -> None:
        self._title = ''

    @property
    def title(self) -> str:
        return self._title

    def set_title(self, title: str) -> None:
        self._title = title


@attrs.define(slots=False)
class MetadataContext:
    """`creator` is the name of the user who made it."""

    creator: str
    annotations: ContextAnnotations
