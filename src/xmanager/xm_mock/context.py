"""Metadata that is kept in memory."""

from __future__ import annotations

from xmanager.xm.metadata import ContextAnnotations, MetadataContext


class MockContextAnnotations(ContextAnnotations):
    """A title, tags and notes."""

    def __init__(self) -> None:
        super().__init__()
        self._tags: set[str] = set()
        self._notes = ''

    @property
    def tags(self) -> set[str]:
        return self._tags

    def add_tags(self, *tags: str) -> None:
        self._tags.update(tags)

    def remove_tags(self, *tags: str) -> None:
        """Removes those that are there."""
        self._tags.difference_update(tags)

    @property
    def notes(self) -> str:
        return self._notes

    def set_notes(self, notes: str) -> None:
        self._notes = notes


class MockMetadataContext(MetadataContext):
    """Metadata of an experiment or unit whose creator is `'unknown'`."""

    annotations: MockContextAnnotations

    def __init__(self) -> None:
        super().__init__(creator='unknown', annotations=MockContextAnnotations())
