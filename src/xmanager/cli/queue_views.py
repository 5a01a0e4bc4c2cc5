"""The queue as JSON values under the schema `xmanager/1`, for `xmanager queue --json`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from xmanager.cli.views import View, document, time

if TYPE_CHECKING:
    from xmanager.ledger import Entry
    from xmanager.ledger.explain import Ahead, Lack, Waiting, Who

__all__ = ['document', 'holding', 'waiting']


def waiting(one: Waiting, sentence: str) -> View:
    """A run of units that wait, and why."""
    return {
        **_who(one.who),
        'unit': one.unit,
        'count': one.count,
        'more': one.more,
        'importance': one.importance,
        'since': time(one.since),
        'reason': one.reason,
        'engine': one.engine or None,
        'engine_reason': one.note if one.engine else '',
        'at': time(one.at),
        'lacks': [_lack(lack) for lack in one.lacks],
        'ahead': None if one.ahead is None else _ahead(one.ahead),
        'sentence': sentence,
    }


def holding(entries: Iterable[Entry]) -> list[View]:
    """Who holds what on this host, unit by unit."""
    from xmanager.ledger.explain import who

    return [
        {
            **_who(who(entry)),
            'unit': hold.unit,
            'supervised': entry.alive,
            'since': time(hold.since),
            'ends_by': time(hold.ends_by),
            'amounts': {task: dict(amounts) for task, amounts in hold.demand.items()},
            'devices': {
                task: {resource: list(names) for resource, names in given.items()}
                for task, given in hold.grant.items()
            },
        }
        for entry in entries
        for hold in entry.holds
    ]


def _who(who: Who) -> View:
    return {'user': who.user, 'home': who.home, 'experiment_id': who.experiment_id}


def _ahead(ahead: Ahead) -> View:
    lacks = [_lack(lack) for lack in ahead.lacks]
    return {**_who(ahead.who), 'unit': ahead.unit, 'lacks': lacks}


def _lack(lack: Lack) -> View:
    return {
        'resource': lack.resource,
        'asked': list(lack.asked),
        'free': lack.free,
        'holders': [
            {
                **_who(part.who),
                'amount': part.amount,
                'since': time(part.since),
                'ends_by': time(part.ends_by),
            }
            for part in lack.holders
        ],
        'strangers': list(lack.strangers),
    }
