"""Fetches what units write on a cluster: their logs while they grow, their results at the end."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from xmanager.backend import Unit
from xmanager.backends.slurm.remote.channel import Channel, RefusedError
from xmanager.backends.slurm.remote.results import Results
from xmanager.errors import UnreachableError

_AGENT: Final = 'agent_watching'
_ROOM: Final = 4 << 20  # Bytes of logs in one answer.
_SHORTEST, _LONGEST = 0.5, 5.0
_GROUP: Final = 100  # Units whose results are fetched in one round trip.
_LOG: Final = 'output.log'
_NOTE: Final = 'mirror.json'
# In place of an offset, as `agent_watching` says them.
_PUT_ASIDE, _BEGINS, _IS_WHOLE, _TROUBLE = -1, -2, -3, -4

logger = logging.getLogger('xmanager')


@attrs.frozen
class _Wanted:
    """What is to be fetched: units by reference."""

    live: Mapping[str, Unit] = attrs.field(factory=dict)
    ended: Mapping[str, Unit] = attrs.field(factory=dict)

    @property
    def units(self) -> dict[str, Unit]:
        return {**self.live, **self.ended}


class Mirror:
    """A thread that fetches. `folder` says where a unit is on the cluster; results of more than `limit` stay there."""

    def __init__(self, channel: Channel, folder: Callable[[Unit], str], limit: int) -> None:
        self._channel = channel
        self._folder = folder
        self._results = Results(channel, limit)
        self._change = threading.Condition()
        self._wanted = _Wanted()
        self._whole: set[str] = set()
        self._has_news = False
        self._closing = False
        self._thread: threading.Thread | None = None
        self._logs: dict[str, _Logs] = {}
        self._openings = 0

    def want(self, live: Mapping[str, Unit], ended: Mapping[str, Unit]) -> frozenset[str]:
        """From now on these; returns the references of those ended of which all is here."""
        with self._change:
            if not ended.keys() <= self._whole | self._wanted.ended.keys():
                self._has_news = True
                self._change.notify()
            self._wanted = _Wanted(dict(live), dict(ended))
            self._whole &= ended.keys()
            if self._thread is None and (live or ended):
                self._thread = threading.Thread(target=self._run, name='mirror', daemon=True)
                self._thread.start()
            return frozenset(self._whole)

    def close(self) -> None:
        with self._change:
            self._closing = True
            self._change.notify()
        self._channel.close()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        period, told = 0.0, ''
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closing or self._has_news, period)
                self._has_news = False
                if self._closing:
                    return
                whole = self._whole
                ended = {ref: u for ref, u in self._wanted.ended.items() if ref not in whole}
                wanted = _Wanted(self._wanted.live, ended)
            try:
                has_found, told = self._fetch(wanted), ''
            except (UnreachableError, RefusedError, OSError) as error:
                # Logs that lag behind are no harm, and what else fails because of it tells of it too.
                level = logging.DEBUG if str(error) == told else logging.WARNING
                logger.log(level, 'logs and results are not fetched: %s', error)
                has_found, told = False, str(error)
                self._openings = -1  # What it has told of may not be here.
            period = _SHORTEST if has_found else min(2 * max(period, _SHORTEST), _LONGEST)

    def _fetch(self, wanted: _Wanted) -> bool:
        """One round; whether anything was found."""
        if not wanted.live and not wanted.ended and not self._logs:
            return False
        has_found = self._fetch_logs(wanted.units)
        refs = list(wanted.ended)
        for start in range(0, len(refs), _GROUP):
            group = refs[start : start + _GROUP]
            self._results.fetch(
                (unit.task_folder(task), f'{self._folder(unit)}/{task.name}')
                for unit in (wanted.ended[ref] for ref in group)
                for task in unit.tasks
            )
            with self._change:
                self._whole |= self._wanted.ended.keys() & set(group)
        return has_found or bool(refs)

    def _fetch_logs(self, units: Mapping[str, Unit]) -> bool:
        """All that is new in the logs of these; whether there was anything."""
        places = {
            f'{ref}/{task.name}': (unit.task_folder(task), f'{self._folder(unit)}/{task.name}')
            for ref, unit in units.items()
            for task in unit.tasks
        }
        has_found, is_left = False, True
        while is_left:
            if self._channel.openings != self._openings:  # Another agent, which follows nothing.
                self._logs, self._openings = {}, self._channel.openings
            add = [key for key in places if key not in self._logs]
            drop = [key for key in self._logs if key not in places]
            self._logs = {key: self._logs.get(key) or _Logs(places[key][0]) for key in places}
            asked = [[key, places[key][1], *self._logs[key].state()] for key in add]
            header, payload = self._channel.ask(
                'tails', needs=_AGENT, once=True, add=asked, drop=drop, room=_ROOM
            )
            has_found |= self._put(header['parts'], payload)
            is_left = header['left']
            if self._channel.openings != self._openings:  # It knows of this request only.
                self._openings = self._channel.openings
                self._logs = {key: self._logs[key] for key in add}
                is_left |= len(add) < len(places)
        return has_found

    def _put(self, parts: Iterable[Any], payload: bytes) -> bool:
        start = 0
        for key, name, offset, size in parts:
            self._logs[key].put(name, offset, payload[start : start + size])
            start += size
        return start > 0


class _Logs:
    """The logs of one task here. Which of the cluster's is `output.log` stands in a note beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def state(self) -> tuple[int, int, list[str]]:
        """The number of the file that `output.log` is a copy of, how much of it is here, and which logs are whole."""
        folder = self._folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            inode = int(json.loads((folder / _NOTE).read_bytes())['inode'])
        except (FileNotFoundError, ValueError, KeyError):
            return 0, 0, [path.name for path in folder.glob('output.*.log')]
        size = (folder / _LOG).stat().st_size if (folder / _LOG).exists() else 0
        return inode, size, [path.name for path in folder.glob('output.*.log')]

    def put(self, name: str, offset: int, data: bytes) -> None:
        """One piece, as the agent tells it."""
        log = self._folder / _LOG
        if offset == _PUT_ASIDE:
            os.replace(log, self._folder / _checked(name))
        elif offset == _BEGINS:
            # The copy first: a note about a log that isn't here would have what follows put behind another.
            log.write_bytes(b'')
            beside = self._folder / f'.{_NOTE}'
            beside.write_text(json.dumps({'inode': int(name)}))
            os.replace(beside, self._folder / _NOTE)
        elif offset == _TROUBLE:
            logger.warning('a log can not be fetched: %s', name)
        elif offset == _IS_WHOLE:
            os.replace(self._folder / f'.{_checked(name)}', self._folder / name)
        else:
            place = log if name == _LOG else self._folder / f'.{_checked(name)}'
            with open(place, 'r+b' if place.exists() and offset else 'wb') as file:
                file.seek(offset)
                file.write(data)


def _checked(name: str) -> str:
    """The name of an earlier attempt's log. Raises OSError if another one is given."""
    if not (name.startswith('output.') and name.endswith('.log') and '/' not in name):
        raise OSError(f'the cluster calls a log {name!r}')
    return name
