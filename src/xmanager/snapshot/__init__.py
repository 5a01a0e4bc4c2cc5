"""Immutable trees of files, stored by content: take, store, materialise. Knows no experiment."""

from __future__ import annotations

from xmanager.snapshot.collection import Collected, Kept
from xmanager.snapshot.store import SnapshotStore
from xmanager.snapshot.values import Entry, Limits, Snapshot, Survey

__all__ = ['Collected', 'Entry', 'Kept', 'Limits', 'Snapshot', 'SnapshotStore', 'Survey']
