"""What `xmanager doctor` says of the ledger in which the experiments of this host share out what it has."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

from xmanager.errors import LedgerError
from xmanager.launch.findings import BAD, OK, WARN, Finding
from xmanager.ledger import Reader, place
from xmanager.store.file_system import file_system_of, is_of_the_network

_ELSEWHERE: Final = 'set XM_LOCAL_LEDGER to a folder on a local disk'


def inspect_ledger(environ: Mapping[str, str]) -> Finding:
    """Where it is, who may write to it, and how many keep account there at present."""
    folder = place.locate(environ)
    facts: dict[str, Any] = {'path': str(folder)}
    try:
        here = place.prepare(folder)
        with contextlib.closing(Reader(here)) as reader:
            entries = reader.entries()
    except LedgerError as error:
        return Finding('ledger', BAD, str(error), facts=facts)
    except OSError as error:
        trouble = f'the ledger of this host, {folder}, can not be read: {error.strerror}'
        return Finding('ledger', BAD, trouble, f'mend it, or {_ELSEWHERE}', facts)
    supervisors = sum(entry.alive for entry in entries)
    units = sum(len(entry.holds) for entry in entries)
    kind = file_system_of(folder)
    facts |= {
        'shared': here.shared,
        'file_system': kind,
        'supervisors': supervisors,
        'units': units,
    }
    whose = 'shared by those who may write to it' if here.shared else 'your own'
    holding = f'{_count(units, "unit")} {"holds" if units == 1 else "hold"} something'
    detail = f'{folder}, {whose}; {_count(supervisors, "supervisor")}, {holding}'
    if is_of_the_network(kind):
        detail += f'; it is on {kind}, where other hosts may take it for theirs'
        return Finding('ledger', WARN, detail, _ELSEWHERE, facts)
    return Finding('ledger', OK, detail, facts=facts)


def _count(number: int, noun: str) -> str:
    return f'{number:,} {noun}' if number == 1 else f'{number:,} {noun}s'
