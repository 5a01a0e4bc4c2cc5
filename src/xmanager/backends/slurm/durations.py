"""Slurm's way to write how long something takes: `90`, `1:30:00`, `2-12`."""

from __future__ import annotations

import math
import re

# sbatch(1), --time: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes and
# days-hours:minutes:seconds.
_CLOCK = re.compile(r'(\d+)(?::(\d+))?(?::(\d+))?', re.ASCII)
_WITH_DAYS = re.compile(r'(\d+)-(\d+)(?::(\d+))?(?::(\d+))?', re.ASCII)


def seconds_of(text: str) -> float:
    """The seconds that a text of Slurm's stands for; ValueError if it stands for none."""
    if found := _WITH_DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    if found := _CLOCK.fullmatch(text):
        first, second, third = (None if part is None else int(part) for part in found.groups())
        assert first is not None
        if third is None:
            return float(first * 60 + (second or 0))
        return float((first * 60 + (second or 0)) * 60 + third)
    raise ValueError(f'{text!r} is no duration of Slurm.')


def minutes_for(seconds: float) -> int:
    """Whole minutes that are no shorter: Slurm counts in these. At least 1, for 0 means no limit."""
    return max(1, math.ceil(seconds / 60))
