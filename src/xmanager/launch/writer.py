"""Writes new units in a few transactions, however many are added one by one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from xmanager.store import NewUnit, Store, UnitRecord

_PAUSE = 0.02  # Seconds from one transaction to the next; the first is written at once.

ACTOR = 'launcher'


class UnitWriter:
    """Gathers units and writes them together. Lives in one event loop; the order of `add` calls is kept."""

    def __init__(self, store: Store, experiment_id: int, written: Callable[[], None]) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._written = written
        self._waiting: list[tuple[NewUnit, asyncio.Future[tuple[UnitRecord, bool]]]] = []
        self._task: asyncio.Task[None] | None = None
        self._last = 0.0

    async def add(self, unit: NewUnit) -> tuple[UnitRecord, bool]:
        """Returns the unit as recorded, and whether it is new."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[UnitRecord, bool]] = loop.create_future()
        self._waiting.append((unit, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._write())
        return await future

    async def _write(self) -> None:
        while self._waiting:
            await asyncio.sleep(max(0.0, self._last + _PAUSE - time.monotonic()))
            batch, self._waiting = self._waiting, []
            try:
                records = await asyncio.to_thread(
                    self._store.add_units,
                    self._experiment_id,
                    [unit for unit, _ in batch],
                    actor=ACTOR,
                )
                self._written()
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            self._last = time.monotonic()
            for (_, future), record in zip(batch, records, strict=True):
                if not future.done():
                    future.set_result(record)
