"""Reads the records that `element.sh` leaves: that a component was begun, and how it ended."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence

import attrs

SUPERSEDED = 'superseded by batch '
"""How a refusal begins whose attempt is another batch's; its id follows."""

_SIGNALS = frozenset(int(number) for number in signal.valid_signals())
_AT = re.compile(r'(\d+(?:\.\d+)?)')
_CLOCK = re.compile(r'(\d+)m(\d+(?:\.\d+)?)s')


@attrs.frozen
class Begun:
    """A component was begun by job `job` on `node` (`n1,n2` if on several), at `at` seconds since the epoch there."""

    job: str
    node: str
    at: float | None


@attrs.frozen
class End:
    """How a component ended: by itself with `exit_code`, or by `signal`.

    `refused` says why it did not run. `terminated`: a TERM came from outside, so Slurm knows why it ended. Of replicas
    it tells what the one did that went wrong first, `replica`, and the times of all together.
    """

    exit_code: int | None = None
    signal: int | None = None
    at: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    timed_out: bool = False
    warned: bool = False
    terminated: bool = False
    refused: str = ''
    replica: int | None = None

    @property
    def has_failed(self) -> bool:
        return self.exit_code != 0


def read_begun(data: bytes) -> Begun | None:
    """The record of a beginning; None if it is not all there yet, or nothing that an element wrote."""
    facts = dict(line.split(' ', 1) for line in _lines(data) if ' ' in line)
    if not {'job', 'node', 'at'} <= facts.keys():
        return None
    return Begun(facts['job'], facts['node'], _time(facts['at']))


def read_end(data: bytes) -> End | None:
    """The record of an end; None if it is not all there yet, or nothing that an element wrote."""
    lines = _lines(data)
    [(_, own), *sections] = list(_sections(lines))
    end = _end(own)
    if end is None:
        return None
    if end.exit_code == 0 and len(sections) < _replicas(own):
        # srun says 0 of processes that were killed after it had stopped to wait for them; they leave no record.
        end = attrs.evolve(end, exit_code=None, signal=int(signal.SIGKILL))
    replicas = [
        attrs.evolve(one, replica=number if len(sections) > 1 else None)
        for number, part in sections
        if (one := _end(part)) is not None
    ]
    return _together(end, replicas) if replicas else end


def _together(end: End, replicas: Sequence[End]) -> End:
    """What srun says, made plainer by what its processes say. Who was ended because of another one comes last."""
    failed = [one for one in replicas if one.has_failed]
    first = min(failed, key=lambda one: (one.terminated, one.at or 0), default=None)
    user = sum(one.user_seconds or 0 for one in replicas)
    system = sum(one.system_seconds or 0 for one in replicas)
    if first is None or not end.has_failed:
        return attrs.evolve(end, user_seconds=user, system_seconds=system)
    # The record is the component's: what happened to it as a whole stays.
    return attrs.evolve(
        first,
        at=end.at,
        timed_out=any(one.timed_out for one in replicas),
        warned=end.warned or any(one.warned for one in replicas),
        terminated=end.terminated or first.terminated,
        user_seconds=user,
        system_seconds=system,
    )


def _end(lines: Sequence[str]) -> End | None:
    end: End | None = None
    refused = ''
    for number, line in enumerate(lines):
        match line.split(' ', 1):
            case ['refused', sentence]:
                refused = refused or sentence
            case ['exited', code] if code.isdecimal():
                end = _from_shell(int(code), refused)
            case ['at', text] if end:
                end = attrs.evolve(end, at=_time(text))
            case ['warned'] if end:
                end = attrs.evolve(end, warned=True)
            case ['terminated'] if end:
                end = attrs.evolve(end, terminated=True)
            case ['timed', 'out'] if end:
                end = attrs.evolve(end, timed_out=True)
            case ['times'] if end:
                # Those of the shell stand first, those of its children below.
                user, system = _clocks(lines[number + 2 : number + 3])
                return attrs.evolve(end, user_seconds=user, system_seconds=system)
    return end


def _replicas(lines: Sequence[str]) -> int:
    """How many processes srun was to start; 0 if there was no srun."""
    told = [line.removeprefix('replicas ') for line in lines if line.startswith('replicas ')]
    return int(told[0]) if told and told[0].isdecimal() else 0


def _from_shell(code: int, refused: str) -> End:
    """From a shell's exit code, where 128 + n stands for signal n."""
    if code - 128 in _SIGNALS and not refused:
        return End(signal=code - 128)
    return End(exit_code=code, refused=refused)


def _sections(lines: Sequence[str]) -> Iterator[tuple[int | None, list[str]]]:
    number: int | None = None
    section: list[str] = []
    for line in lines:
        word, _, rest = line.partition(' ')
        if word == 'replica' and rest.isdecimal():
            yield number, section
            number, section = int(rest), []
        else:
            section.append(line)
    yield number, section


def _clocks(lines: Sequence[str]) -> tuple[float | None, float | None]:
    """`0m1.230000s 0m0.100000s`, as `times` of a shell says it."""
    found = _CLOCK.findall(lines[0]) if lines else []
    if len(found) != 2:
        return None, None
    user, system = (60 * int(minutes) + float(rest) for minutes, rest in found)
    return user, system


def _time(text: str) -> float | None:
    # busybox has no nanoseconds: `1700000000.%N`.
    found = _AT.match(text)
    return float(found[1]) if found else None


def _lines(data: bytes) -> list[str]:
    """What has no newline yet is still being written."""
    return data.decode('utf-8', 'surrogateescape').split('\n')[:-1]
