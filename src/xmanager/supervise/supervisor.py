"""The one process that makes an experiment so: admits, submits, observes, records. The only writer of states.

The order of every step is: record the intent, submit under the unit's key, record the reference. So at any
instruction at which the process may die, the next supervisor can tell from the store and the back end what is true.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import attrs

from xmanager.backend import Backend, Grant, Observation, Rejected
from xmanager.errors import ExecutorError
from xmanager.store import (
    COMPLETED,
    CREATING,
    FAILED,
    LOST,
    QUEUED,
    RESTARTING,
    RUNNING,
    STARTING,
    Change,
    Request,
    Store,
    UnitRecord,
)
from xmanager.store.presence import Presence
from xmanager.supervise import outcomes
from xmanager.supervise.admission import Demand, Pool
from xmanager.supervise.auxiliaries import due_auxiliaries
from xmanager.supervise.running import Engine, Running
from xmanager.supervise.waiting_line import WaitingLine

ACTOR = 'supervisor'
_IDLE = 1.0  # Seconds between two looks at the store when nothing wakes the supervisor.


class Supervisor:
    """Drives the units of one experiment through the back ends, one `step` at a time."""

    def __init__(
        self,
        store: Store,
        experiment_id: int,
        load_backend: Callable[[str], Backend],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.experiment_id = experiment_id
        self._load_backend = load_backend
        self._clock = clock
        self._presence = Presence(store.home.experiment_folder(experiment_id))
        self._engines: dict[str, Engine] = {}
        self._running: dict[int, Running] = {}
        self._queue = WaitingLine(store, experiment_id)
        self._outbox: list[Change] = []
        self._requests: list[Request] = []
        self._token: object = None
        self._launching = True  # Until it was seen that nobody launches.

    # The course of things.

    def adopt(self) -> None:
        """Takes over what an earlier supervisor left: finds what was submitted, requeues what never started."""
        records = self.store.units(self.experiment_id, states=(STARTING, RUNNING, RESTARTING))
        for name in sorted({record.backend for record in records}):
            mine = [record for record in records if record.backend == name]
            self._adopt_from(self._engine(name), mine)
        self._flush()
        self._stop_all([running for running in self._running.values() if running.stopping])

    def step(self) -> bool:
        """One pass over everything; returns whether something happened, so that another pass is due at once."""
        self._look_at_store()
        happened = self._observe()
        happened = self._obey() or happened
        self._fail_orphans()
        happened = self._end_auxiliaries() or happened
        happened = self._admit() or happened
        if not happened:
            self._flush()
        return happened

    def patience(self) -> float:
        """Seconds until the next step is due, if nothing wakes the supervisor before."""
        periods = [
            engine.backend.period for engine in self._engines.values() if self._needs(engine)
        ]
        return min([_IDLE, *periods])

    def has_work(self) -> bool:
        """Whether the experiment still needs a supervisor."""
        if self._outbox or any(self._needs(engine) for engine in self._engines.values()):
            return True
        if self._presence.is_launching():
            return True
        if self.store.requests(self.experiment_id):
            return True
        counts = self.store.counts(self.experiment_id)
        return any(counts.get(s) for s in (CREATING, QUEUED, STARTING, RUNNING, RESTARTING))

    def close(self) -> None:
        """Lets go of what the back ends hold of this process; the units run on."""
        for engine in self._engines.values():
            engine.backend.close()

    # Adoption.

    def _adopt_from(self, engine: Engine, records: list[UnitRecord]) -> None:
        found = engine.backend.find([record.as_unit() for record in records])
        for record in records:
            if record.key in found:
                self._take_over(engine, record, found[record.key])
            elif record.stopping:
                state, message = record.stopping
                self._record(record, state, why='asked to stop', message=message)
            elif record.state == RUNNING:
                self._record(record, LOST, why='no trace of it was found', message=_NO_TRACE)
            else:
                self._record(record, QUEUED, why='it had not started when its supervisor died')

    def _take_over(self, engine: Engine, record: UnitRecord, reference: str) -> None:
        unit = record.as_unit()
        demand = engine.backend.demand(unit.tasks)
        engine.pool.take_these(demand, record.grant)
        self._running[record.id] = Running(
            record, unit, reference, engine, demand, record.grant, record.stopping
        )
        if record.state != RUNNING:
            self._record(record, RUNNING, why='found running', reference=reference)

    # Looking.

    def _look_at_store(self) -> None:
        token = self.store.foreign_token()
        if token == self._token:
            return
        self._token = token
        self._queue.is_stale = True
        self._requests = self.store.requests(self.experiment_id)

    def _observe(self) -> bool:
        happened = False
        for engine in self._engines.values():
            if not self._needs(engine):
                continue
            mine = {r.reference: r for r in self._running.values() if r.engine is engine}
            seen = engine.backend.observe({ref: running.unit for ref, running in mine.items()})
            for reference, observation in seen.items():
                happened = self._consider(mine[reference], observation) or happened
        return happened

    def _consider(self, running: Running, observation: Observation) -> bool:
        if outcomes.has_ended(observation):
            self._end(running, observation)
            return True
        if not running.culprit and (wrong := outcomes.first_gone_wrong(observation)):
            running.culprit = wrong
            running.engine.backend.stop({running.reference: running.unit}, None)
            return True
        return False

    def _end(self, running: Running, observation: Observation) -> None:
        outcome = outcomes.judge(running.record, observation, running.culprit)
        why = outcome.message
        if running.stopping:
            state, message = running.stopping
            outcome = attrs.evolve(outcome, state=state, message=message)
            why = f'asked to stop: {message}' if message else 'asked to stop'
        ends = [task.ended_at for task in observation.values() if task.ended_at is not None]
        self._outbox.append(
            Change(
                running.record.id,
                outcome.state,
                why=why,
                message=outcome.message,
                at=max(ends) if ends else self._clock(),
                tasks=observation,
                task_messages=outcome.task_messages,
            )
        )
        del self._running[running.record.id]
        running.release()

    # Obeying.

    def _obey(self) -> bool:
        """Does what was asked for; returns whether anything was."""
        requests, self._requests = self._requests, []
        for request in requests:
            if request.verb == 'stop':
                self._stop(request)
            else:
                self._restart(request)
            self._flush()  # What is asked of each unit is recorded with it: the request has served.
            self.store.finish_requests([request.id])
        return bool(requests)

    def _stop(self, request: Request) -> None:
        self._flush()
        active = [unit for unit in self._units_of(request) if unit.is_active]
        waiting = [unit for unit in active if unit.id not in self._running]
        for unit in waiting:
            self._record(unit, request.outcome, why=_asked(request), message=request.message)
        self._queue.remove({unit.id for unit in waiting})
        ours = [self._running[unit.id] for unit in active if unit.id in self._running]
        self._ask_to_end(ours, request.outcome, request.message)

    def _ask_to_end(self, units: Sequence[Running], state: str, message: str) -> bool:
        """Stops running units, which shall end in that state; False if all were asked before."""
        fresh = [running for running in units if running.stopping is None]
        for running in fresh:
            running.stopping = (state, message)
            self._outbox.append(Change(running.record.id, RUNNING, stopping=running.stopping))
        self._flush()  # The intent comes first: a successor goes on with it.
        self._stop_all(fresh)
        return bool(fresh)

    def _stop_all(self, units: Sequence[Running]) -> None:
        for engine in {running.engine.name: running.engine for running in units}.values():
            mine = {r.reference: r.unit for r in units if r.engine is engine}
            engine.backend.stop(mine, None)

    def _restart(self, request: Request) -> None:
        for unit in self._units_of(request):
            if not unit.is_active and unit.backend:  # Else its generator never added a job.
                self._record(unit, RESTARTING, why=_asked(request))
                self._record(unit, QUEUED, why='restarted')
        self._queue.is_stale = True

    def _units_of(self, request: Request) -> list[UnitRecord]:
        if request.unit_id is None:
            return self.store.units(self.experiment_id, with_tasks=False)
        return self.store.units_by_id([request.unit_id], with_tasks=False)

    def _end_auxiliaries(self) -> bool:
        if self._launching or self._queue:
            return False
        due = due_auxiliaries(self.store, self.experiment_id, self._clock())
        for unit in due:
            if unit.id not in self._running:
                self._record(unit, COMPLETED, why=_SERVED, message=_SERVED)
        running = [self._running[unit.id] for unit in due if unit.id in self._running]
        return self._ask_to_end(running, COMPLETED, _SERVED)

    def _fail_orphans(self) -> None:
        """Fails units whose generator can't add jobs any more, because its launcher is gone."""
        was_launching, self._launching = self._launching, self._presence.is_launching()
        if not self._queue.is_stale and (self._launching or not was_launching):
            return
        creating = self.store.units(self.experiment_id, states=(CREATING,), with_tasks=False)
        # Asked after the units were read: whoever added one of these and lives, holds the lock since before that.
        if creating and not self._presence.is_launching():
            self._outbox += [
                Change(unit.id, FAILED, why=_ORPHANED, message=_ORPHANED, expect=(CREATING,))
                for unit in creating
            ]

    # Admission.

    def _admit(self) -> bool:
        if self._queue.needs_reading():
            self._flush()
            self._queue.read()
        admitted: list[tuple[UnitRecord, Engine, Demand, Grant]] = []
        while self._queue:
            record = self._queue.first
            try:
                engine = self._engine(record.backend)
                demand = engine.backend.demand([task.task for task in record.tasks])
                if not engine.pool.fits(demand):
                    # The machine may be another one than that at which it was added.
                    engine.backend.check([task.task for task in record.tasks])
                    break
            except ExecutorError as error:
                self._record(record, FAILED, why=str(error), message=str(error))
                self._queue.remove_first()
                continue
            grant = engine.pool.take(demand)
            admitted.append((record, engine, demand, grant))
            self._outbox.append(Change(record.id, STARTING, expect=(QUEUED,), grant=grant))
            self._queue.remove_first()
        if not admitted:
            return False
        moved = {record.id for record in self._flush() if record.state == STARTING}
        for record, engine, demand, grant in admitted:
            if record.id in moved:
                self._submit(record, engine, demand, grant)
            else:  # Stopped by somebody between our reading and our writing.
                engine.pool.give_back(demand, grant)
        return True

    def _submit(self, record: UnitRecord, engine: Engine, demand: Demand, grant: Grant) -> None:
        unit = record.as_unit()
        [answer] = engine.backend.submit([engine.backend.render(unit, grant)])
        if isinstance(answer, Rejected):
            engine.pool.give_back(demand, grant)
            message = f'job {answer.task} {answer.reason}' if answer.task else answer.reason
            self._record(record, FAILED, why=answer.reason, message=message)
            return
        self._running[record.id] = Running(record, unit, answer.ref, engine, demand, grant)
        self._record(record, RUNNING, reference=answer.ref)

    def _needs(self, engine: Engine) -> bool:
        """Whether the back end has to be looked at: for running units, or to end what ended ones left behind."""
        return engine.backend.busy or any(r.engine is engine for r in self._running.values())

    # Recording.

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            backend = self._load_backend(name)
            self._engines[name] = Engine(name, backend, Pool(backend.capacity()))
        return self._engines[name]

    def _record(
        self,
        unit: UnitRecord,
        state: str,
        *,
        why: str = '',
        message: str | None = None,
        reference: str | None = None,
    ) -> None:
        self._outbox.append(
            Change(unit.id, state, why=why, message=message, reference=reference, at=self._clock())
        )

    def _flush(self) -> list[UnitRecord]:
        """Writes what has gathered, in one transaction."""
        if not self._outbox:
            return []
        changes, self._outbox = self._outbox, []
        return self.store.move(changes, actor=ACTOR)


_NO_TRACE = 'its folder and its processes are gone; how it ended cannot be known'
_SERVED = 'ended after the last work unit'
_ORPHANED = 'the launch script ended before the job generator of this unit did'


def _asked(request: Request) -> str:
    asked = f'{request.verb} asked by {request.actor}'
    return f'{asked}: {request.message}' if request.message else asked
