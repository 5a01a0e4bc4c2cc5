"""Locks that say who is alive: the kernel ends them with the last process that has the file open.

These are 'open file description' locks (fcntl(2), F_OFD_SETLK) on one byte each of one file. A descriptor that a
job inherits keeps its lock for as long as any process of the job has it open, whoever took it and whoever died since.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from pathlib import Path

_FLOCK = 'hhqqi4x'  # struct flock of 64-bit Linux: type, whence, start, length, pid.


def hold(file: Path, name: str) -> int:
    """Takes the lock of that name in common with whoever else holds it; returns the descriptor that holds it."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _range(fcntl.F_RDLCK, name))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_held(descriptor: int, name: str) -> bool:
    """Whether another open file than this one, of the same path, holds the lock of that name."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _range(fcntl.F_WRLCK, name))
    kind: int = struct.unpack(_FLOCK, answer)[0]
    return kind != fcntl.F_UNLCK


def byte_of(name: str) -> int:
    """The byte on which the lock of that name is, as /proc/PID/fdinfo tells it."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest()) + 1


def _range(kind: int, name: str) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, byte_of(name), 1, 0)
