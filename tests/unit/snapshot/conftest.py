"""A store, a folder to take, and what is in a tree."""

import os
import stat
from pathlib import Path

import pytest

from xmanager.snapshot import SnapshotStore


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / 'home' / 'snapshots')


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / 'code'
    path.mkdir()
    return path


def put(path: Path, content: str | bytes = 'content\n', *, mode: int = 0o644) -> Path:
    """A file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def contents(folder: Path) -> dict[str, object]:
    """Everything in a folder but byte code: content and mode of a file, target of a link, None of a folder."""
    found: dict[str, object] = {}
    for top, folders, files in os.walk(folder):
        if '__pycache__' in folders:
            folders.remove('__pycache__')
        for name in (*folders, *files):
            path = Path(top, name)
            place = os.path.relpath(path, folder)
            if path.is_symlink():
                found[place] = os.readlink(path)
            elif path.is_dir():
                found[place] = None
            else:
                found[place] = path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR)
    return found
