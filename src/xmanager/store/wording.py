"""How spans of time, sizes, amounts, arguments and signals are said, wherever they are shown.

Pure, and quick to import: launchers, commands and web pages share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from xmanager.store import masking

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400
_IN_BYTES: Final = ('ram', 'memory', 'disk', 'ephemeral_storage')


def duration(seconds: float | None) -> str:
    """`0.4s`, `12s`, `2m 03s`, `1h 05m`, `3d 4h`; empty when unknown."""
    if seconds is None:
        return ''
    if seconds < 9.95:
        return f'{max(seconds, 0):.1f}s'
    whole = round(seconds)
    if whole < _MINUTE:
        return f'{whole}s'
    if whole < _HOUR:
        return f'{whole // _MINUTE}m {whole % _MINUTE:02}s'
    if whole < _DAY:
        return f'{whole // _HOUR}h {whole % _HOUR // _MINUTE:02}m'
    return f'{whole // _DAY}d {whole % _DAY // _HOUR}h'


def size(amount: float | None) -> str:
    """Bytes: `512 B`, `1.5 KiB`, `12 GiB`; empty when unknown."""
    if amount is None:
        return ''
    for unit in ('B', 'KiB', 'MiB', 'GiB', 'TiB'):
        if abs(amount) < 1024 or unit == 'TiB':
            break
        amount /= 1024
    return f'{amount:.0f} {unit}' if unit == 'B' or amount >= 10 else f'{amount:.1f} {unit}'


def amounts(by_resource: Mapping[str, float]) -> str:
    """`cpu 2, ram 4.0 GiB, local_gpu 1`."""
    return ', '.join(
        f'{name} {size(amount) if name in _IN_BYTES else f"{amount:g}"}'
        for name, amount in by_resource.items()
    )


def signal_name(number: int) -> str:
    """`SIGKILL`; `signal 99` if it has no name here."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f'signal {number}'


def arguments(args: Mapping[str, Any]) -> str:
    """A unit's arguments: `lr=0.1 width=64`, nested by job as `learner.lr=0.1`; secrets masked."""
    return ' '.join(_flatten(masking.mask_values(args), ''))


def _flatten(value: Any, path: str) -> list[str]:
    if isinstance(value, Mapping):
        words = []
        for key, inner in value.items():
            # `{'args': …, 'env_vars': …}` is how a job's arguments are kept: the words say nothing more.
            silent = key in ('args', 'env_vars') and isinstance(inner, Mapping | list | tuple)
            words += _flatten(inner, path if silent else f'{path}.{key}' if path else str(key))
        return words
    if isinstance(value, list | tuple) and not path:
        return [str(item) for item in value]
    return [f'{path}={value}'] if path else [str(value)]


def importance_in_words(importance: int) -> str:
    """`high` for 1, `normal` for 0, `low` for -1, as in `xm.Importance`; other numbers as they are."""
    return {1: 'high', 0: 'normal', -1: 'low'}.get(importance, str(importance))
