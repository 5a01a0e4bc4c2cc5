"""How a command names what it is about: `12`, `12.3`, `12.a1`, `12.3.train`. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_NUMBER = re.compile(r'[1-9][0-9]{0,17}', re.ASCII)
_LABEL = re.compile(r'a?[1-9][0-9]{0,17}', re.ASCII)


class Address(NamedTuple):
    """An experiment, one of its units (`''`: all of them), one of the unit's jobs (`''`: all of them)."""

    experiment_id: int
    label: str = ''
    job: str = ''

    def __str__(self) -> str:
        return '.'.join(str(part) for part in self if part)


def parse(text: str) -> Address:
    """The address that `text` names; ValueError, with one sentence for the user, if it names none."""
    experiment, *rest = text.split('.', 2)
    if not _NUMBER.fullmatch(experiment):
        raise ValueError(
            f'{text!r} names no experiment: write its number, such as 12, as `xmanager list` shows it'
        )
    label = rest[0] if rest else ''
    if rest and not _LABEL.fullmatch(label):
        raise ValueError(
            f'{text!r} names no unit: write {experiment}.3 for work unit 3, '
            f'{experiment}.a1 for auxiliary unit 1'
        )
    job = rest[1] if len(rest) == 2 else ''
    if len(rest) == 2 and not job:
        raise ValueError(f'{text!r} names no job: write {experiment}.{label}.NAME')
    return Address(int(experiment), label, job)
