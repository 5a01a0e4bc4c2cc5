"""Follows the units of an experiment: one look at the store serves all who wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence, Set
from typing import Protocol

from xmanager.launch.elsewhere import Elsewhere
from xmanager.store import (
    COMPLETED,
    FAILED,
    FINAL_STATES,
    LOST,
    RESTARTING,
    RUNNING,
    Store,
    UnitRecord,
    Wait,
)

# Seconds between two looks: just after a change, and when nothing changes.
_QUICK, _SLOW = 0.01, 0.1
# Seconds of pause for each unit that has just ended. Where very many end, looks are rare: each costs something, and a
# unit that has started and ended since the last one is read once instead of twice.
_FOR_AN_END = 0.003
# By itself, that is; a restart by hand is no news to who asked for it.
_TRIED = (RESTARTING, 'supervisor')
_SILENCE = 2.0  # Seconds without news after which the supervisor may have been killed.


class Watcher(Protocol):
    """Who wants to see what happens: the terminal."""

    def started(self, unit: UnitRecord) -> None:
        """An attempt of the unit, which comes with its tasks, runs. May be told twice."""

    def tried(self, unit: UnitRecord, why: str) -> None:
        """An attempt has failed, and the unit will be tried again; `why` says so in words."""

    def ended(self, unit: UnitRecord) -> None:
        """The unit has come to a final state. It comes with its tasks if it failed or is lost."""

    def waits(self, waits: Sequence[Wait]) -> None:
        """What the units of the experiment wait for by now; told of those whose engines queue by themselves."""

    def tick(self) -> None:
        """Called at every look, changes or not."""


class Follower:
    """Looks at the store while somebody waits or watches. Lives in one event loop."""

    def __init__(
        self,
        store: Store,
        experiment_id: int,
        watcher: Watcher | None = None,
        *,
        revive: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._watcher = watcher
        self._revive = revive
        self._watched: set[int] = set()
        self._fresh: set[int] = set()  # Watched, but what befell them before that is not known yet.
        self._waiting: dict[int, asyncio.Future[UnitRecord]] = {}
        self._last_event = store.last_event_id(experiment_id)
        self._token: object = None
        self._elsewhere = Elsewhere(store, experiment_id)
        self._tells_of_waits = False
        self._task: asyncio.Task[None] | None = None

    def watch(self, unit_id: int, *, queues_itself: bool = False) -> None:
        """Shows this unit to the watcher from now on. `queues_itself`: its engine does, and may tell why it waits."""
        self._tells_of_waits = self._tells_of_waits or queues_itself
        self._watched.add(unit_id)
        self._fresh.add(unit_id)
        self._ensure_running()

    async def ended(self, unit_id: int) -> UnitRecord:
        """The unit as recorded once it is in a final state."""
        loop = asyncio.get_running_loop()
        future = self._waiting.get(unit_id)
        if future is None:
            # The future comes before the look: an end between the two is seen by the follower.
            future = self._waiting[unit_id] = loop.create_future()
            try:
                record = self._store.unit(unit_id)
            except BaseException:
                del self._waiting[unit_id]
                raise
            if not record.is_active:
                self._resolve(record)
        self._ensure_running()
        return await asyncio.shield(future)

    async def all_ended(self, unit_ids: Collection[int]) -> list[UnitRecord]:
        """Returns once the watcher was told of the ends of all these watched units.

        Those that have not completed are returned as recorded, without their tasks.
        """
        loop = asyncio.get_running_loop()
        for unit_id in unit_ids:
            if unit_id in self._watched:
                self._ensure_running()
                future = self._waiting.setdefault(unit_id, loop.create_future())
                await asyncio.shield(future)
        units = self._store.standing(unit_ids)
        others = sorted(unit.id for unit in units if unit.state != COMPLETED)
        return self._store.units_by_id(others, with_tasks=False)

    async def all_taken(self, unit_ids: Collection[int]) -> None:
        """Returns once each of these units is in the queue of its engine, or has ended."""
        taken = self._elsewhere.taken(unit_ids)
        self._token = None  # What is so already counts, too.
        self._ensure_running()
        await asyncio.shield(taken)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def look(self) -> bool:
        """One look at the store; returns whether something had happened. One that fails may be repeated."""
        token = self._store.change_token(self._experiment_id)
        has_changed = token != self._token
        events = (
            self._store.events(self._experiment_id, after_id=self._last_event)
            if has_changed
            else []
        )
        # An event that keeps the state tells of something else, such as another importance.
        moves = [event for event in events if event.from_state != event.to_state]
        started = {event.unit_id for event in moves if event.to_state == RUNNING}
        ended = {event.unit_id: event.to_state for event in moves if event.to_state in FINAL_STATES}
        for unit in self._store.standing(self._fresh) if self._fresh else ():
            if unit.started_at is not None:
                started.add(unit.id)
            if not unit.is_active:
                ended[unit.id] = unit.state
        failed = {unit_id for unit_id, state in ended.items() if state in (FAILED, LOST)}
        tried = {e.unit_id: e.why for e in moves if (e.to_state, e.actor) == _TRIED}
        records = self._read(started | tried.keys() | ended.keys(), started | failed)
        self._token = token
        self._last_event = events[-1].id if events else self._last_event
        self._fresh = set()
        for record in records:
            self._tell(record, record.id in started, tried.get(record.id, ''))
        self._look_elsewhere(has_changed)
        return bool(started or tried or ended)

    def _read(self, unit_ids: Set[int], with_tasks: Set[int]) -> list[UnitRecord]:
        """Those of the units that somebody waits for or watches, in the order in which they were added."""
        wanted = unit_ids & (self._watched | self._waiting.keys())
        records: list[UnitRecord] = []
        if full := wanted & with_tasks:
            records += self._store.units_by_id(full)
        if brief := wanted - with_tasks:
            records += self._store.units_by_id(brief, with_tasks=False)
        return sorted(records, key=lambda record: record.id)

    def _look_elsewhere(self, has_changed: bool) -> None:
        if not (self._elsewhere or self._tells_of_waits):
            return
        waits = self._elsewhere.look(has_changed)
        if waits is not None and self._tells_of_waits and self._watcher is not None:
            self._watcher.waits(waits)

    def _tell(self, record: UnitRecord, has_started: bool, tried: str) -> None:
        watched = self._watcher is not None and record.id in self._watched
        if watched and has_started:
            assert self._watcher is not None
            self._watcher.started(record)
        if watched and tried:
            assert self._watcher is not None
            self._watcher.tried(record, tried)
        if record.is_active:
            return
        if watched:
            assert self._watcher is not None
            self._watcher.ended(record)
            self._watched.discard(record.id)
        self._resolve(record)

    def _resolve(self, record: UnitRecord) -> None:
        future = self._waiting.pop(record.id, None)
        if future is not None and not future.done():
            future.set_result(record)

    def _ensure_running(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        pause = _QUICK
        heard_at = time.monotonic()
        while self._waiting or self._watched or self._elsewhere:
            watched = len(self._watched)
            try:
                happened = self.look()
                if happened:
                    heard_at = time.monotonic()
                elif time.monotonic() > heard_at + _SILENCE:
                    heard_at = time.monotonic()
                    self._revive()
                if self._watcher is not None:
                    self._watcher.tick()
            except Exception as error:
                self._fail(error)  # Whoever waits raises it.
                return
            ended = watched - len(self._watched)
            # A launcher that only waits until its units are taken has nothing else to do, and leaves then.
            longest = 2 * _QUICK if self._elsewhere else _SLOW
            pause = min(longest, self._pause_after(ended) if happened else 1.1 * pause)
            await asyncio.sleep(pause)

    def _pause_after(self, ended: int) -> float:
        if (
            len(self._waiting) > 1
        ):  # By a script that may do something at each end, such as add the next unit.
            return _QUICK
        # Not for longer than those that are left may need: the last ends are told soon.
        return max(_QUICK, _FOR_AN_END * min(ended, len(self._watched)))

    def _fail(self, error: Exception) -> None:
        self._elsewhere.fail(error)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()
