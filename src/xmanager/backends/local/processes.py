"""Finds the processes of a task in /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from xmanager.backend import KEY_VARIABLE

PROC = Path('/proc')
_BOOT_ID = PROC / 'sys/kernel/random/boot_id'  # random(4)
JOB_VARIABLE = 'XM_JOB_NAME'
_TICKS = os.sysconf('SC_CLK_TCK')
_TICK_NANOSECONDS = 10**9 // _TICKS
_LISTINGS = 20


@attrs.frozen
class Owner:
    """The task that a process belongs to: the key of its unit and the name of its job."""

    key: str
    job: str


@attrs.frozen
class Process:
    """One living process. `pid` and `start` (clock ticks after boot) together name it for ever.

    `mark` is the task named in its environment, None where there is none or the environment can't be read. A
    `nascent` process leads a session and will have its environment, and so perhaps a mark, in a moment.
    """

    pid: int
    start: int
    parent: int
    group: int
    session: int
    mark: Owner | None = None
    nascent: bool = False


@attrs.frozen
class Session:
    """The session that a task's runner leads, and the ticks between which the number was the runner's own."""

    owner: Owner
    begin: int
    end: float

    def holds(self, process: Process) -> bool:
        """A process of this session; the number alone may have gone to a stranger after the runner's end."""
        if process.mark is not None and process.mark.key != self.owner.key:
            return False
        return self.begin <= process.start <= self.end


def boot_seconds() -> float:
    """Seconds since boot, on the clock that processes' start times are taken from."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id(environ: Mapping[str, str]) -> str:
    """The name of this boot of the machine, 8 hex digits; XM_BOOT_ID is another one for tests that play a reboot."""
    return (environ.get('XM_BOOT_ID') or _BOOT_ID.read_text())[:8]


def ticks(seconds: float) -> float:
    """Seconds since boot as clock ticks."""
    return seconds * _TICKS


def seconds(start: int) -> float:
    """Clock ticks after boot as seconds."""
    return start / _TICKS


def read_process(pid: int, proc: Path = PROC) -> Process | None:
    """The process of that number, without its mark; None if there is none or it has ended (a zombie)."""
    return _parse_stat(pid, f'{proc}/{pid}')


def boot_nanoseconds() -> int:
    """As `boot_seconds`, in whole nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def start_between(before: int, after: int) -> int:
    """When a process started that did so between two moments (nanoseconds since boot), if these tell; else 0.

    They do if both are in one tick: the kernel takes the start from the same clock, and rounds it down.
    """
    first, last = before // _TICK_NANOSECONDS, after // _TICK_NANOSECONDS
    return first if first == last else 0


def read_start(pid: int, proc: Path = PROC) -> int:
    """When a child of ours started, which may have ended already but was not waited for."""
    process = _parse_stat(pid, f'{proc}/{pid}', even_ended=True)
    return process.start if process is not None else 0


def child_start(pid: int, proc: Path = PROC) -> int:
    """When a process started, ended or not, that is a child of ours and was not waited for; 0 if it is none."""
    process = _parse_stat(pid, f'{proc}/{pid}', even_ended=True) if pid else None
    return process.start if process is not None and process.parent == os.getpid() else 0


def read_mark(pid: int, proc: Path = PROC) -> Owner | None:
    """The task named in the environment that the process began with."""
    return _parse_environment(f'{proc}/{pid}')


def scan_processes(since: int = 0, proc: Path = PROC) -> list[Process]:
    """All living processes that started `since` (ticks) or later, with their marks. Costs some 30 µs a process.

    A process that forks and ends again and again could slip through one reading of the list. So the list is read
    again for those born meanwhile, until there is none (or the machine is too busy for that to happen).
    """
    found: list[Process] = []
    known: set[str] = set()
    for _ in range(_LISTINGS):
        born = [name for name in os.listdir(proc) if name.isdecimal() and name not in known]
        if not born:
            break
        known.update(born)
        # The newest first: of those that hand on to a child and end, it is the one still alive.
        for name in sorted(born, key=int, reverse=True):
            process = _read_marked(int(name), f'{proc}/{name}', since)
            if process is not None:
                found.append(process)
    return found


def _read_marked(pid: int, folder: str, since: int) -> Process | None:
    process = _parse_stat(pid, folder)
    if process is None or process.start < since:
        return None
    mark = _parse_environment(folder)
    nascent = mark is None and process.pid == process.session and _is_nascent(folder)
    return attrs.evolve(process, mark=mark, nascent=nascent)


def processes_with_lock(byte: int, descriptor: int, proc: Path = PROC) -> list[Process]:
    """Living processes whose descriptor of that number holds a lock on that byte of its file (proc(5), fdinfo)."""
    span = f' {byte} {byte}\n'.encode()
    found = []
    for name in os.listdir(proc):
        if not name.isdecimal():
            continue
        try:
            with open(f'{proc}/{name}/fdinfo/{descriptor}', 'rb') as file:
                holds = span in file.read()
        except OSError:  # It has none of that number, has ended, or is another user's.
            continue
        process = read_process(int(name), proc) if holds else None
        if process is not None:
            found.append(process)
    return found


def is_copy(pid: int, parent: int, proc: Path = PROC) -> bool:
    """Whether a child has not executed a program of its own yet: it would treat a signal as its parent does."""
    try:
        own = Path(f'{proc}/{pid}/cmdline').read_bytes()
        return own == Path(f'{proc}/{parent}/cmdline').read_bytes()
    except OSError:  # One of them has ended.
        return False


def _is_nascent(folder: str) -> bool:
    """Whether exec(2) is still under way. It lets the parent go on before arguments and environment can be read."""
    try:
        return not Path(folder, 'cmdline').read_bytes() and not Path(folder, 'environ').read_bytes()
    except OSError:
        return False


def _parse_stat(pid: int, folder: str, even_ended: bool = False) -> Process | None:
    try:
        descriptor = os.open(f'{folder}/stat', os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(descriptor, 2048)
        finally:
            os.close(descriptor)
    except OSError:  # it ended in between
        return None
    # proc(5): the name in brackets may hold anything, brackets included; state is the first field after it.
    fields = data[data.rfind(b')') + 2 :].split()
    if len(fields) < 20:
        return None
    # A zombie is an ended process that nobody has waited for, unless only its first thread has ended.
    if fields[0] in b'ZX' and fields[17] in (b'0', b'1') and not even_ended:
        return None
    return Process(
        pid=pid,
        start=int(fields[19]),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
    )


def _parse_environment(folder: str) -> Owner | None:
    try:
        with open(f'{folder}/environ', 'rb') as file:
            data = b'\0' + file.read()
    except OSError:  # another user's process, or one that ended
        return None
    key = _variable(data, KEY_VARIABLE)
    return None if key is None else Owner(key, _variable(data, JOB_VARIABLE) or '')


def _variable(environment: bytes, name: str) -> str | None:
    _, found, after = environment.partition(f'\0{name}='.encode())
    return os.fsdecode(after.partition(b'\0')[0]) if found else None


def members(
    processes: Iterable[Process], sessions: Mapping[int, Session]
) -> dict[Owner, list[Process]]:
    """The processes of each task: those in its runner's session, those that bear its mark, and all their children.

    Children count because a program may wipe the environment it was given (`env -i`, setproctitle). A process with
    a mark of its own is never counted as its parent's: a job may launch experiments itself.
    """
    by_pid = {process.pid: process for process in processes if process.pid != os.getpid()}
    owners: dict[int, Owner | None] = {}

    def own(process: Process) -> Owner | None:
        session = sessions.get(process.session)
        if session is not None and session.holds(process):
            return session.owner
        return process.mark

    for process in by_pid.values():
        line = [process]
        while (
            own(line[-1]) is None and (parent := by_pid.get(line[-1].parent)) and parent not in line
        ):
            line.append(parent)
        owners[process.pid] = own(line[-1])
    found: dict[Owner, list[Process]] = {}
    for pid, owner in owners.items():
        if owner is not None:
            found.setdefault(owner, []).append(by_pid[pid])
    return found
