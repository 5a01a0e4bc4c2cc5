"""What `xmanager.ledger.explain` has found, in words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from xmanager.ledger import explain
from xmanager.ledger.explain import Ahead, Lack, Part, Waiting, Who
from xmanager.ledger.space import total
from xmanager.ledger.values import Hold

_GIB: Final = 1024**3
_NAMED: Final = 3  # Holders that are told by name.
# Singular and plural; what is counted in no unit of its own is told by its name.
_NOUNS: Final = {'cpu': ('CPU', 'CPUs'), 'local_gpu': ('GPU', 'GPUs')}
_ENGINES: Final = {'kubernetes': 'Kubernetes', 'slurm': 'Slurm', 'vertex': 'Vertex AI'}


class Speaker:
    """Says things to whoever looks on: what is his own is called by its number alone."""

    def __init__(self, user: str, home: str, now: float) -> None:
        self._user = user
        self._home = home
        self._now = now

    def sentence(self, waiting: Waiting) -> str:
        """`experiment 12 unit 3 waits since 13:58 for 4 GPUs; 2 are free, experiment 9 holds 2 since 14:02`."""
        subject = self.unit(waiting.who, waiting.unit)
        if waiting.more:  # Nobody knows here whether those behind are like it.
            behind = f', with {waiting.count - 1 + waiting.more:,} more behind it'
            return f'{subject} {self._predicate(waiting, False, behind)}'
        if waiting.count > 1:
            return f'{subject} and {waiting.count - 1:,} more like it {self._predicate(waiting, True, "")}'
        return f'{subject} {self._predicate(waiting, False, "")}'

    def who(self, who: Who) -> str:
        """`experiment 9`, `experiment 9 of /scratch/home`, `user bo's experiment 4`."""
        if who.home == self._home:
            return f'experiment {who.experiment_id}'
        if who.user == self._user:
            return f'experiment {who.experiment_id} of {who.home}'
        return f"user {who.user}'s experiment {who.experiment_id}"

    def unit(self, who: Who, unit: str) -> str:
        """`experiment 12 unit 3`, `experiment 12 unit 3 of /scratch/home`, `user bo's experiment 4 unit 7`."""
        if who.home != self._home and who.user == self._user:
            return f'experiment {who.experiment_id} unit {unit} of {who.home}'
        return f'{self.who(who)} unit {unit}'

    def when(self, at: float) -> str:
        """The time of the day, with the date if it is another day's: `14:02`, `2026-01-31 14:02`."""
        told = datetime.fromtimestamp(at)
        is_today = told.date() == datetime.fromtimestamp(self._now).date()
        return told.strftime('%H:%M' if is_today else '%Y-%m-%d %H:%M')

    def _predicate(self, waiting: Waiting, plural: bool, behind: str) -> str:
        verb, since = 'wait' if plural else 'waits', f'since {self.when(waiting.since)}'
        waits = f'{verb} {since}'
        note = _told_by_engine(waiting)
        match waiting.reason:
            case explain.RESOURCES:
                each = ' each' if plural else ''
                wanted = ' and '.join(_needs(lack) for lack in waiting.lacks)
                return f'{waits} for {wanted}{each}{behind}; {self._causes(waiting)}'
            case explain.TURN if waiting.ahead is not None:
                return f'{waits}{behind}; its turn is after {self._ahead(waiting.ahead)}'
            case explain.NEXT:
                return f'{"are" if plural else "is"} about to start{behind}'
            case explain.STARTING:
                return f'{"are" if plural else "is"} starting{behind}'
            case explain.PAUSED:
                when = '' if waiting.at is None else f' since {self.when(waiting.at)}'
                number = waiting.who.experiment_id
                return f'{waits}{behind}; paused{when}: xmanager resume {number}'
            case explain.ENGINE:
                return f'{verb} in {engine_name(waiting.engine)} {since}{behind}{note}'
            case explain.HANDOVER:
                return f'{waits} to be submitted to {engine_name(waiting.engine)}{behind}{note}'
            case explain.BACKOFF:
                return f'{"try" if plural else "tries"} again {self._in(waiting.at)}{behind}'
        return f'{waits}{behind}; {waiting.note}'

    def _causes(self, waiting: Waiting) -> str:
        several = len(waiting.lacks) > 1
        return '; '.join(self._cause(lack, waiting.who, several) for lack in waiting.lacks)

    def _cause(self, lack: Lack, asking: Who, with_noun: bool) -> str:
        words = [_free(lack, with_noun)]
        words += [self._part(lack, part, asking) for part in lack.holders[:_NAMED]]
        if rest := lack.holders[_NAMED:]:
            others = 'another one holds' if len(rest) == 1 else f'{len(rest)} others hold'
            words.append(f'{others} {_figure(lack.resource, sum(part.amount for part in rest))}')
        if lack.strangers:
            words.append(_strangers(lack))
        return ', '.join(words)

    def _part(self, lack: Lack, part: Part, asking: Who) -> str:
        holder = 'other units of it hold' if part.who == asking else f'{self.who(part.who)} holds'
        said = f'{holder} {_figure(lack.resource, part.amount)} since {self.when(part.since)}'
        if part.ends_by is None:
            return said
        return f'{said} till {self.when(part.ends_by)} at the latest'

    def _ahead(self, ahead: Ahead) -> str:
        wanted = ' and '.join(_needs(lack) for lack in ahead.lacks)
        return f'{self.unit(ahead.who, ahead.unit)}, which waits for {wanted or "its turn"}'

    def _in(self, at: float | None) -> str:
        seconds = 0 if at is None else round(at - self._now)
        if seconds < 1:
            return 'at once'
        return f'in {seconds} s' if seconds < 120 else f'in {round(seconds / 60)} min'


def engine_name(backend: str) -> str:
    """What people call a back end: `Slurm`."""
    return _ENGINES.get(backend, backend)


def amount(resource: str, value: float) -> str:
    """`4 GPUs`, `1 CPU`, `16 GiB of memory`."""
    of = ' of' if resource == 'ram' else ''
    return f'{_figure(resource, value)}{of} {_noun(resource, value)}'


def devices_in_words(resource: str, devices: Sequence[str]) -> str:
    """`GPU 5`, `GPUs 0, 1 and 7`."""
    *first, last = devices
    names = f'{", ".join(first)} and {last}' if first else last
    return f'{_noun(resource, len(devices))} {names}'


def holds_in_words(holds: Sequence[Hold]) -> str:
    """All that these hold: `GPUs 0 and 1, 0.5 of GPU 2, 3 CPUs, 16 GiB of memory`."""
    devices: dict[str, Counter[str]] = {}
    amounts: Counter[str] = Counter()
    for hold in holds:
        amounts.update(total(hold.demand))
        for task, given in hold.grant.items():
            for resource, names in given.items():
                share = min(1.0, hold.demand.get(task, {}).get(resource, 0.0))
                devices.setdefault(resource, Counter()).update(dict.fromkeys(names, share))
    told = []
    for resource, shares in devices.items():
        by_number = sorted(shares, key=_number)
        if whole := [name for name in by_number if shares[name] > 1 - 1e-9]:
            told.append(devices_in_words(resource, whole))
        told += [
            f'{shares[name]:.2g} of {devices_in_words(resource, [name])}'
            for name in by_number
            if name not in whole
        ]
    rest = {name: much for name, much in amounts.items() if much and name not in devices}
    return ', '.join([*told, *(amount(name, much) for name, much in rest.items())])


def _number(device: str) -> tuple[int, str]:
    return (int(device), '') if device.isdecimal() else (1 << 31, device)


def _told_by_engine(waiting: Waiting) -> str:
    reason = f': {waiting.note}' if waiting.note else ''
    if waiting.supervised:
        return reason
    number = waiting.who.experiment_id
    return f'{reason}; no supervisor is alive to tell more: xmanager supervise {number}'


def _figure(resource: str, value: float) -> str:
    return f'{value / _GIB:.3g} GiB' if resource == 'ram' else f'{value:.4g}'


def _needs(lack: Lack) -> str:
    """What is asked for; of devices, parts are told one by one, for they don't add up."""
    shares = Counter(asked for asked in lack.asked if lack.devices and asked < 1)
    whole = sum(asked for asked in lack.asked if not (lack.devices and asked < 1))
    told = [amount(lack.resource, whole)] if whole else []
    for share, count in shares.items():
        one = f'{share:.4g} of a {_noun(lack.resource, 1)}'
        told.append(one if count == 1 else f'{count} × {one}')
    return ' and '.join(told)


def _free(lack: Lack, with_noun: bool) -> str:
    if lack.devices and max(lack.asked) < 1:
        share = f'{lack.largest_share:.2g}'
        return f'{share} is free of one' if lack.largest_share >= 0.005 else 'none has room'
    figure = _figure(lack.resource, lack.free)
    if figure in ('0', '0 GiB'):
        return f'no {_noun(lack.resource, 1)} is free' if with_noun else 'none is free'
    is_or_are = 'is' if lack.free <= 1 or lack.resource == 'ram' else 'are'
    return f'{amount(lack.resource, lack.free) if with_noun else figure} {is_or_are} free'


def _strangers(lack: Lack) -> str:
    devices = devices_in_words(lack.resource, lack.strangers)
    if len(lack.strangers) == 1:
        return f'a process that is none of ours uses {devices}'
    return f'processes that are none of ours use {devices}'


def _noun(resource: str, count: float) -> str:
    if resource == 'ram':
        return 'memory'
    one, many = _NOUNS.get(resource, (resource, resource))
    return one if count <= 1 else many
