"""Immutable trees of files, stored by content: take, store, materialise. Knows no experiment."""
