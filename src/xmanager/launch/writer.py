"""Writes new units in a few transactions, however many are added one by one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from xmanager.errors import StoreError
from xmanager.store import NewUnit, Store, UnitRecord

_PAUSE = 0.02  # Seconds from one transaction to the next; the first is written at once.

ACTOR = 'launcher'

_Written = tuple[UnitRecord, bool]
_Outcome = _Written | Exception

logger = logging.getLogger(__name__)


class UnitWriter:
    """Gathers units and writes them together. Lives in one event loop; the order of `add` calls is kept."""

    def __init__(self, store: Store, experiment_id: int, written: Callable[[], None]) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._written = written
        self._waiting: list[tuple[NewUnit, asyncio.Future[_Written]]] = []
        self._task: asyncio.Task[None] | None = None
        self._last = 0.0

    async def add(self, unit: NewUnit) -> _Written:
        """Returns the unit as recorded, and whether it is new."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Written] = loop.create_future()
        self._waiting.append((unit, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._write())
        return await future

    async def _write(self) -> None:
        while self._waiting:
            await asyncio.sleep(max(0.0, self._last + _PAUSE - time.monotonic()))
            batch, self._waiting = self._waiting, []
            try:
                outcomes = await self._outcomes([unit for unit, _ in batch])
            except Exception as error:
                outcomes = [error] * len(batch)
            self._last = time.monotonic()
            if not all(isinstance(outcome, Exception) for outcome in outcomes):
                self._tell()
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                _resolve(future, outcome)

    async def _outcomes(self, units: list[NewUnit]) -> list[_Outcome]:
        """What became of each unit. One that can't be written leaves the others be; trouble with the store is all's."""
        try:
            return list(await self._add(units))
        except StoreError:
            raise
        except Exception as error:
            if len(units) == 1:
                return [error]
        return [outcome for unit in units for outcome in await self._outcomes([unit])]

    async def _add(self, units: list[NewUnit]) -> list[_Written]:
        return await asyncio.to_thread(
            self._store.add_units, self._experiment_id, units, actor=ACTOR
        )

    def _tell(self) -> None:
        """Tells that there are new units. They are written: that nobody could be told is no failure of theirs."""
        try:
            self._written()
        except Exception as error:
            # Whoever waits for them looks after the supervisor again and again.
            logger.warning('%s: %s', type(error).__name__, error)


def _resolve(future: asyncio.Future[_Written], outcome: _Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
