"""Reads what the runner wrote: which attempt it started, as which process, and how that ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import attrs

_SIGNALS = frozenset(int(number) for number in signal.valid_signals())


@attrs.frozen
class Ending:
    """How a program ended: by itself with `exit_code`, or by `signal`."""

    exit_code: int | None = None
    signal: int | None = None

    @classmethod
    def from_shell(cls, code: int) -> Ending:
        """From a shell's exit code, where 128 + n stands for signal n (POSIX leaves 128 up; all shells do this)."""
        if code - 128 in _SIGNALS:
            return cls(signal=code - 128)
        return cls(exit_code=code)


@attrs.frozen
class Record:
    """A runner's status file. `pid` is the runner's, in that `boot`; `written_at` is when it was last written to."""

    attempt: int
    pid: int
    written_at: float
    boot: str = ''
    ending: Ending | None = None


def read_record(path: str | Path) -> Record | None:
    """The record in a status file; None if there is none, or nothing that a runner wrote."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 4096).decode('ascii', 'replace')
            written_at = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
    except OSError:
        return None
    # What has no newline yet is still being written.
    lines = text.split('\n')[:-1]
    # What goes on under another runner after the first was killed has a line of each; the last one counts.
    last = max((i for i, line in enumerate(lines) if line.startswith('started ')), default=0)
    lines = lines[last:]
    match lines[0].split() if lines else []:
        case ['started', attempt, pid, *boot] if attempt.isdecimal() and pid.isdecimal():
            started = (int(attempt), int(pid), written_at, ''.join(boot))
        case _:
            return None
    match lines[-1].split():
        case ['exited', code] if code.isdecimal():
            return Record(*started, ending=Ending.from_shell(int(code)))
    return Record(*started)
