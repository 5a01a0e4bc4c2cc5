"""The few lines of shell that sit beside each local process and keep its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

__all__ = ['command', 'script']


@cache
def script() -> str:
    """The text of `runner.sh` without its comments, for `sh -c`.

    The text is passed, not the file: a shell reads a file as it goes, and an upgrade may change it in mid-run.
    """
    lines = Path(__file__).with_name('runner.sh').read_text(encoding='utf-8').splitlines()
    return '\n'.join(line for line in lines if line and not line.startswith('#'))


def command(status: Path, attempt: int, boot: str, cwd: str, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in `cwd` and records its start and its end in the file `status`.

    `boot` names this boot of the machine: the process number in the record means nothing after the next one.
    """
    return ['/bin/sh', '-c', script(), 'xm-runner', str(status), str(attempt), boot, cwd, *argv]
