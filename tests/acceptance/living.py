"""Which processes of a home are alive: launchers, supervisors, jobs and whatever jobs have started.

All of them inherit `XM_HOME`, so what a job leaves behind is found even if it left its session and its parents.
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A living process; `words` is its command line."""

    pid: int
    words: tuple[str, ...]

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def processes_of(home: Path) -> list[Process]:
    """Everything that lives with this home in its environment."""
    mark = b'\0XM_HOME=' + os.fsencode(home) + b'\0'
    found = []
    for name in os.listdir('/proc'):
        if not name.isdecimal():
            continue
        try:
            # A zombie's environment is empty.
            if mark not in b'\0' + Path(f'/proc/{name}/environ').read_bytes():
                continue
            words = os.fsdecode(Path(f'/proc/{name}/cmdline').read_bytes()).split('\0')
        except OSError:  # It ended in between.
            continue
        found.append(Process(int(name), tuple(words[:-1])))
    return found


def supervisors_of(home: Path, experiment_id: int = 1) -> list[Process]:
    """The supervisors of one experiment: one at most, but for the moment when it is taken over."""
    tail = ('xmanager.supervise', str(experiment_id))
    return [process for process in processes_of(home) if process.words[-2:] == tail]
