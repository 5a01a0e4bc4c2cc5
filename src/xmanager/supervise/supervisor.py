"""The one process that makes an experiment so: admits, submits, observes, records. The only writer of states.

The order of every step is: record the intent, submit under the unit's key, record the reference. So at any
instruction at which the process may die, the next supervisor can tell from the store and the back end what is true.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence

from xmanager.backend import Backend
from xmanager.errors import LedgerError
from xmanager.store import (
    ACTIVE_STATES,
    COMPLETED,
    CREATING,
    FAILED,
    FINAL_STATES,
    LOST,
    QUEUED,
    RESTARTING,
    RUNNING,
    STARTING,
    Change,
    Request,
    Standing,
    Store,
    UnitRecord,
)
from xmanager.store.leases import Lease
from xmanager.store.presence import Presence
from xmanager.supervise.admission import Admission
from xmanager.supervise.adoption import Adoption
from xmanager.supervise.auxiliaries import due_auxiliaries
from xmanager.supervise.engines import Engines
from xmanager.supervise.handover import Handover
from xmanager.supervise.notices import Notices
from xmanager.supervise.outbox import Outbox
from xmanager.supervise.running import Fleet
from xmanager.supervise.waiting_line import WaitingLine

_BATCH = 256  # Requests that are obeyed in one step.
_IDLE = 1.0  # Seconds between two looks at the store when nothing wakes the supervisor.


class Supervisor:
    """Drives the units of one experiment through the back ends, one `step` at a time."""

    def __init__(
        self,
        store: Store,
        experiment_id: int,
        load_backend: Callable[[str], Backend],
        *,
        notices: Notices | None = None,
        lease: Lease | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.experiment_id = experiment_id
        self._clock = clock
        self._presence = Presence(store.home.experiment_folder(experiment_id))
        self._notices = notices or Notices(os.environ, experiment_id, _log)
        self._lease = lease
        self._outbox = Outbox(store, clock, self._moved, lease)
        self._engines = Engines(store, experiment_id, load_backend, clock=clock)
        self._fleet = Fleet(self._outbox, clock, self._restart_at)
        self._adoption = Adoption(self._engines, self._fleet, self._outbox, clock)
        self._handover = Handover(
            store, experiment_id, self._engines, self._outbox, self._fleet, self._adoption, clock
        )
        self._line = WaitingLine(store, experiment_id, without=self._handover.names)
        self._admission = Admission(self._line, self._engines)
        self._due: dict[int, float] = {}  # When units that failed are to be tried again.
        self._requests: list[Request] = []
        self._token: object = None
        self._launching = True  # Until it was seen that nobody launches.
        self._stirred = (
            True  # Something outside may have changed since the last turn at the accounts.
        )
        self._has_news = (
            False  # A unit has ended, and the end of the experiment was not told since.
        )

    # The course of things.

    def adopt(self) -> None:
        """Takes over what an earlier supervisor left: finds what was submitted, requeues what never started."""
        records = self.store.units(self.experiment_id, states=(STARTING, RUNNING, RESTARTING))
        for record in records:
            if record.state == RESTARTING:
                self._due[record.id] = record.not_before or 0.0
        self._adoption.take([record for record in records if record.state != RESTARTING])

    def step(self) -> bool:
        """One pass over everything; returns whether another one is due at once, for this one has made room."""
        self._look_at_store()
        for engine in self._engines:
            if self._fleet.needs(engine):
                self._fleet.observe(engine)
        if self._adoption.go_on():
            self._stale()
        again = self._obey()
        self._fail_orphans()
        again = self._end_auxiliaries() or again
        self._queue_what_is_due()
        again = self._handover.go(is_launching=self._launching) or again
        return self._admit() or again

    def rest(self) -> bool:
        """Writes what can wait until nothing else is to be done; returns whether there was any.

        That a unit runs is not written at once: often there is more to write with it a moment later, and should this
        process die in between, its successor finds the unit by its key.
        """
        written = bool(self._outbox)
        self._outbox.flush()
        self._notices.poll()
        return written

    def patience(self) -> float:
        """Seconds until the next step is due, if nothing wakes the supervisor before."""
        periods = [e.backend.period for e in self._engines if self._fleet.needs(e)]
        if self._due:
            periods.append(max(0.0, min(self._due.values()) - self._clock()))
        if (due := self._handover.patience()) is not None:
            periods.append(due)
        return min([_IDLE, *periods])

    def has_work(self) -> bool:
        """Whether the experiment still needs a supervisor.

        Raises ExecutorError if all that it needs one for is with an engine that this one can't use.
        """
        if self._adoption.unusable and not (self._fleet or self._line or self._handover):
            raise self._adoption.unusable
        if self._outbox or self._fleet or any(self._fleet.needs(e) for e in self._engines):
            return True
        if self._presence.is_launching() or self.store.requests(self.experiment_id):
            return True
        counts = self.store.counts(self.experiment_id)
        if any(counts.get(s) for s in (CREATING, QUEUED, STARTING, RUNNING, RESTARTING)):
            return True
        if self._has_news:
            self._has_news = False
            self._notices.experiment_ended()
            self._notices.poll()
        return self._notices.pending

    def rests(self) -> bool:
        """Whether all that is left is with engines that go on by themselves: another may look after it later."""
        if self._outbox or self._due or not self._fleet.rests() or self._notices.pending:
            return False
        if any(engine.backend.busy for engine in self._engines):
            return False
        if self._presence.is_launching() or self.store.requests(self.experiment_id):
            return False
        counts = self.store.counts(self.experiment_id)
        left = sum(counts.get(state, 0) for state in ACTIVE_STATES)
        return left == len(self._fleet)

    def leave(self) -> None:
        """Nothing is held any more, and nothing waits."""
        for engine in self._engines:
            try:
                engine.account.leave()
            except (
                LedgerError
            ) as error:  # What is left there counts for nothing once this process has ended.
                _log(str(error))

    def close(self) -> None:
        """Lets go of what is held of this process; the units run on."""
        self._engines.close()
        self._notices.close()

    # Looking.

    def _look_at_store(self) -> None:
        token = self.store.foreign_token(self.experiment_id)
        if token == self._token:
            return
        self._token = token
        self._line.is_stale = True
        self._handover.look()
        self._requests = self.store.requests(self.experiment_id)

    def _stale(self) -> None:
        """We have queued units."""
        self._line.is_stale = True
        self._handover.stale()

    def _moved(self, units: list[Standing]) -> None:
        """These were written to have moved."""
        for unit in units:
            if unit.state in FINAL_STATES:
                self._has_news = True
            if unit.state in (FAILED, LOST):
                self._notices.unit_failed(unit.label)

    # Obeying.

    def _obey(self) -> bool:
        """Does what was asked for, so much at a time that nothing else waits for long; returns whether anything was."""
        batch, self._requests = self._requests[:_BATCH], self._requests[_BATCH:]
        for verb, group in itertools.groupby(batch, key=lambda request: request.verb):
            requests = list(group)
            self._outbox.flush()
            if verb == 'stop':
                self._stop(requests)
            else:
                self._restart(requests)
            self._outbox.flush()  # What is asked of each unit is recorded with it: the requests have served.
            self.store.finish_requests([one.id for one in requests], lease=self._lease)
        return bool(batch)

    def _stop(self, requests: Sequence[Request]) -> None:
        running: dict[tuple[str, str], list[UnitRecord]] = {}
        for unit, request in self._asked_of(requests):
            if unit.id in self._fleet:
                running.setdefault((request.outcome, request.message), []).append(unit)
            elif unit.id in self._adoption:
                self._adoption.ask_to_end([unit], request.outcome, request.message)
            elif unit.is_active:
                self._due.pop(unit.id, None)
                self._outbox.record(
                    unit, request.outcome, why=_asked(request), message=request.message
                )
                self._line.remove([unit.id])
                self._handover.remove([unit.id])
        for (outcome, message), units in running.items():
            self._fleet.ask_to_end(self._fleet.among(units), outcome, message)

    def _restart(self, requests: Sequence[Request]) -> None:
        for unit, request in self._asked_of(requests):
            if not unit.is_active and unit.backend:  # Else its generator never added a job.
                self._outbox.record(unit, RESTARTING, why=_asked(request), restarts=0)
                self._outbox.record(unit, QUEUED, why='restarted')
        self._stale()

    def _asked_of(self, requests: Sequence[Request]) -> list[tuple[UnitRecord, Request]]:
        """Each unit of which something is asked, with the first request that asks it."""
        asked: dict[int, tuple[UnitRecord, Request]] = {}
        by_id = {one.unit_id: one for one in reversed(requests) if one.unit_id is not None}
        for request in requests:
            if request.unit_id is None:
                for unit in self.store.units(self.experiment_id, with_tasks=False):
                    asked.setdefault(unit.id, (unit, request))
        for unit in self.store.units_by_id(by_id, with_tasks=False):
            asked.setdefault(unit.id, (unit, by_id[unit.id]))
        return list(asked.values())

    def _end_auxiliaries(self) -> bool:
        if self._launching or self._line or self._handover:
            return False
        due = due_auxiliaries(self.store, self.experiment_id, self._clock())
        self._adoption.ask_to_end(
            [one for one in due if one.id in self._adoption], COMPLETED, _SERVED
        )
        for unit in due:
            if unit.id not in self._fleet and unit.id not in self._adoption:
                self._due.pop(unit.id, None)
                self._outbox.record(unit, COMPLETED, why=_SERVED, message=_SERVED)
        return self._fleet.ask_to_end(self._fleet.among(due), COMPLETED, _SERVED)

    def _fail_orphans(self) -> None:
        """Fails units whose generator can't add jobs any more, because its launcher is gone."""
        was_launching, self._launching = self._launching, self._presence.is_launching()
        if not self._line.is_stale and (self._launching or not was_launching):
            return
        creating = self.store.units(self.experiment_id, states=(CREATING,), with_tasks=False)
        # Asked after the units were read: whoever added one of these and lives, holds the lock since before that.
        if creating and not self._presence.is_launching():
            for unit in creating:
                self._outbox.add(
                    Change(unit.id, FAILED, why=_ORPHANED, message=_ORPHANED, expect=(CREATING,))
                )

    # Trying again.

    def _restart_at(self, unit_id: int, due: float) -> None:
        self._due[unit_id] = due

    def _queue_what_is_due(self) -> None:
        now = self._clock()
        for unit_id in [id for id, due in self._due.items() if due <= now]:
            del self._due[unit_id]
            self._outbox.add(Change(unit_id, QUEUED, why='its turn again', expect=(RESTARTING,)))
            self._stale()

    # Admission.

    def _admit(self) -> bool:
        """Starts who may start; returns whether others may now, too."""
        if self._line.needs_reading():
            self._outbox.flush()
            self._line.read()
        if not self._line and all(engine.account.is_settled for engine in self._engines):
            return False
        admitted, refused = self._admission.go()
        for one in refused:
            self._outbox.record(one.record, FAILED, why=one.why, message=one.why)
        for starting in admitted:
            self._outbox.add(
                Change(starting.record.id, STARTING, expect=(QUEUED,), grant=starting.grant)
            )
        left = bool(refused)
        moved = {record.id for record in self._outbox.flush() if record.state == STARTING}
        for starting in admitted:
            if starting.record.id not in moved:
                # Stopped by somebody between our reading and our writing.
                starting.engine.account.give_back(starting.record.id)
                left = True
            elif not self._fleet.submit(starting.record, starting.engine, starting.grant):
                left = True
        return left or (self._line.needs_reading() and not self._line)


_SERVED = 'ended after the last work unit'
_ORPHANED = 'the launch script ended before the job generator of this unit did'


def _asked(request: Request) -> str:
    asked = f'{request.verb} asked by {request.actor}'
    return f'{asked}: {request.message}' if request.message else asked


def _log(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
