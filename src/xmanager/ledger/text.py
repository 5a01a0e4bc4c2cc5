"""An entry of the ledger as the JSON that is in its file, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from xmanager.backend import Capacity
from xmanager.ledger.values import Entry, Hold, Want

FORMAT = 1


def encode(entry: Entry) -> bytes:
    """One line of JSON. Times are seconds since the epoch."""
    return _ENCODE(
        {
            'format': FORMAT,
            'owner': entry.owner,
            'user': entry.user,
            'home': entry.home,
            'experiment': entry.experiment_id,
            'pid': entry.pid,
            'wake_pipe': entry.wake_pipe,
            'holds': [_of_hold(hold) for hold in entry.holds],
            'wants': _of_wants(entry.wants),
            'capacity': _of_capacity(entry.capacity),
            'strangers': entry.strangers,
        }
    ).encode()


def decode(data: bytes) -> Entry:
    """Raises ValueError for anything that `encode` did not make: another user's file may hold whatever he likes."""
    try:
        value = json.loads(data)
        if value['format'] != FORMAT:
            raise ValueError(f'format {value["format"]!r}')
        owner = str(value['owner'])
        return Entry(
            owner=owner,
            user=str(value['user']),
            home=str(value['home']),
            experiment_id=int(value['experiment']),
            pid=int(value['pid']),
            wake_pipe=str(value['wake_pipe']),
            holds=tuple(_to_hold(hold) for hold in value['holds']),
            wants=tuple(_to_want(want, owner) for want in value['wants']),
            capacity=_to_capacity(value.get('capacity')),
            strangers=_to_names(value.get('strangers') or {}),
        )
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f'no entry of a ledger: {error!r}') from error


_ENCODE = json.JSONEncoder(separators=(',', ':')).encode


def _of_hold(hold: Hold) -> dict[str, Any]:
    return {
        'key': hold.key,
        'unit': hold.unit,
        'demand': hold.demand,
        'grant': hold.grant,
        'since': hold.since,
        'ends_by': hold.ends_by,
    }


def _of_wants(wants: Sequence[Want]) -> list[dict[str, Any]]:
    """Units of a sweep, which ask for the same one after the other, are one want with their count."""
    told: list[dict[str, Any]] = []
    last: Want | None = None
    for want in wants:
        if last and last.importance == want.importance and last.signature == want.signature:
            told[-1]['count'] += want.count
            continue
        last = want
        told.append(
            {
                'id': want.id,
                'unit': want.unit,
                'importance': want.importance,
                'since': want.since,
                'demand': want.demand,
                'limit': want.limit,
                'count': want.count,
            }
        )
    return told


def _to_hold(value: dict[str, Any]) -> Hold:
    return Hold(
        key=str(value['key']),
        unit=str(value['unit']),
        demand=_to_demand(value['demand']),
        grant={str(task): _to_names(given) for task, given in value['grant'].items()},
        since=float(value['since']),
        ends_by=None if value['ends_by'] is None else float(value['ends_by']),
    )


def _to_want(value: dict[str, Any], owner: str) -> Want:
    return Want(
        owner=owner,
        id=int(value['id']),
        unit=str(value['unit']),
        importance=int(value['importance']),
        since=float(value['since']),
        demand=_to_demand(value['demand']),
        limit=None if value['limit'] is None else float(value['limit']),
        count=max(1, min(int(value['count']), _MOST)),
    )


_MOST = 4096


def _of_capacity(capacity: Capacity | None) -> dict[str, Any] | None:
    if capacity is None:
        return None
    return {'amounts': capacity.amounts, 'devices': capacity.devices}


def _to_capacity(value: dict[str, Any] | None) -> Capacity | None:
    if value is None:
        return None
    amounts = {str(resource): float(amount) for resource, amount in value['amounts'].items()}
    return Capacity(amounts, _to_names(value['devices']))


def _to_names(value: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {str(resource): tuple(map(str, names)) for resource, names in value.items()}


def _to_demand(value: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {
        str(task): {str(resource): float(amount) for resource, amount in amounts.items()}
        for task, amounts in value.items()
    }
