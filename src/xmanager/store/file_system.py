"""On what file system a path is: some share no memory between hosts, which decides how SQLite keeps its log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path('/proc/self/mountinfo')
# Memory maps of these are not shared between hosts (https://sqlite.org/wal.html, "all processes … the same host").
_OF_THE_NETWORK: Final = frozenset(
    {
        *('9p', 'afs', 'beegfs', 'ceph', 'cifs', 'gfs2', 'gpfs', 'lustre', 'nfs', 'nfs4', 'ocfs2'),
        *('orangefs', 'panfs', 'pvfs2', 'smb3', 'smbfs', 'virtiofs', 'wekafs'),
    }
)
_FUSE: Final = 'fuse.'
# Programs that serve a file system of this host alone.
_LOCAL_FUSE: Final = frozenset(
    {'fuse.fuse-overlayfs', 'fuse.ntfs-3g', 'fuse.gocryptfs', 'fuse.encfs'}
)


def is_of_the_network(kind: str) -> bool:
    """Whether several hosts may have this type of file system mounted at once; of a FUSE that isn't known it is so."""
    return kind in _OF_THE_NETWORK or (kind.startswith(_FUSE) and kind not in _LOCAL_FUSE)


def file_system_of(path: Path, mounts: Path | None = None) -> str:
    """The type of the file system that holds `path`, such as `ext4`; `unknown` where the kernel doesn't tell."""
    found, longest = 'unknown', -1
    try:
        lines = (mounts or _MOUNTS).read_text(errors='surrogateescape').splitlines()
    except OSError:
        return found
    real = os.path.realpath(path) + '/'
    for line in lines:
        # man 5 proc: fields, a dash, then the type; the fifth field is the mount point.
        before, _, after = line.partition(' - ')
        point = before.split(' ', 5)[4].replace('\\040', ' ').rstrip('/') + '/'
        if len(point) >= longest and real.startswith(point):
            found, longest = after.split(' ', 1)[0], len(point)
    return found
