"""The units that back ends have: submitted, observed, asked to end, and ended with what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from xmanager.backend import (
    Deferred,
    Grant,
    Observation,
    Rejected,
    TaskObservation,
    Unit,
)
from xmanager.ledger import Hold
from xmanager.store import (
    FAILED,
    LOST,
    QUEUED,
    RESTARTING,
    RUNNING,
    STARTING,
    Change,
    UnitRecord,
)
from xmanager.supervise import outcomes, references, retries
from xmanager.supervise.admission import longest
from xmanager.supervise.engines import Engine
from xmanager.supervise.outbox import Outbox
from xmanager.supervise.trouble import PASSING, Trouble


@attrs.define
class Running:
    """A submitted unit.

    `stopping` is the (state, message) that it shall end in once it was asked to stop; `culprit` is the task that
    went wrong first, for which its siblings were stopped. An engine that queues by itself may have begun it anew, so
    many `restarts`: attempts of the `record` which the `unit`, as it was submitted, knows nothing of. `state` and
    `message` are what is recorded of it, `seen` is what was observed last.
    """

    record: UnitRecord
    unit: Unit
    reference: str
    engine: Engine
    stopping: tuple[str, str] | None = None
    culprit: str = ''
    restarts: int = 0
    state: str = RUNNING
    message: str = ''
    seen: Observation | None = None


class Fleet:
    """All running units of an experiment, by id."""

    def __init__(
        self,
        outbox: Outbox,
        clock: Callable[[], float],
        restarting: Callable[[int, float], None],
    ) -> None:
        """`restarting` is told the id of a unit that shall be tried again, and when that is due."""
        self._outbox = outbox
        self._clock = clock
        self._restarting = restarting
        self._units: dict[int, Running] = {}
        # Units that could not be started whole: what they hold is free once nothing of them is left.
        self._undone: list[tuple[int, Engine]] = []
        self._unstopped: set[int] = set()  # Units whose engine is still to be told to end them.
        self._trouble = Trouble()

    def __contains__(self, unit_id: int) -> bool:
        return unit_id in self._units

    def __len__(self) -> int:
        return len(self._units)

    def among(self, units: Sequence[UnitRecord]) -> list[Running]:
        """Those of these units that run."""
        return [self._units[unit.id] for unit in units if unit.id in self._units]

    def needs(self, engine: Engine) -> bool:
        """Whether the back end has to be looked at: for running units, or to end what ended ones left behind."""
        return engine.backend.busy or any(one.engine is engine for one in self._units.values())

    def rests(self) -> bool:
        """Whether there is nothing to do but to look again: all are with engines that go on by themselves."""
        return all(
            one.engine.queues_itself
            and one.seen is not None
            and not one.stopping
            and not one.culprit
            for one in self._units.values()
        )

    # Taking in.

    def submit(self, record: UnitRecord, engine: Engine, grant: Grant) -> bool:
        """Starts a unit whose intent is recorded, or completes its start; False if it can't be started now."""
        unit = record.as_unit()
        [answer] = engine.backend.submit([engine.backend.render(unit, grant)])
        if isinstance(answer, Rejected | Deferred):
            self._undone.append((record.id, engine))
            self._give_back_undone()
            self.turn_away(record, answer)
            return False
        self._units[record.id] = Running(record, unit, answer.ref, engine, record.stopping)
        self._outbox.record(record, RUNNING, reference=answer.ref)
        return True

    def turn_away(self, record: UnitRecord, answer: Rejected | Deferred) -> float:
        """The engine has not taken the unit. Returns how many seconds later to try it again; 0 if never."""
        if isinstance(answer, Deferred):
            message = f'waits: {answer.reason}'
            self._outbox.record(record, QUEUED, why=answer.reason, message=message)
            return answer.delay
        message = f'job {answer.task} {answer.reason}' if answer.task else answer.reason
        self._outbox.record(record, FAILED, why=answer.reason, message=message)
        return 0.0

    def resume(self, record: UnitRecord, recorded: str, engine: Engine) -> None:
        """A unit that an engine which queues by itself took; `recorded` is its reference, as recorded or found."""
        reference, restarts = references.split(recorded)
        self._enter(record, reference, engine, restarts)
        if recorded != record.reference:
            self._outbox.record(record, STARTING, reference=recorded)

    def take_in(self, record: UnitRecord, reference: str, engine: Engine) -> None:
        """A unit that such an engine has just taken."""
        self._enter(record, reference, engine)
        self._outbox.record(record, STARTING, message='', reference=reference)

    def _enter(self, record: UnitRecord, reference: str, engine: Engine, restarts: int = 0) -> None:
        submitted = attrs.evolve(record, attempt=record.attempt - restarts)
        self._units[record.id] = Running(
            record,
            submitted.as_unit(),
            reference,
            engine,
            record.stopping,
            restarts=restarts,
            state=RUNNING if record.state == RUNNING else STARTING,
            message=record.message,
        )

    def take_over(self, record: UnitRecord, reference: str, engine: Engine) -> None:
        """A unit that was found running, or to have run. It holds what it was given."""
        tasks = [task.task for task in record.tasks]
        since = record.started_at or self._clock()
        limit = longest(tasks)
        ends_by = None if limit is None else since + limit
        demand = engine.demand(tasks)
        engine.account.hold(
            record.id, Hold(record.key, record.label, demand, record.grant, since, ends_by)
        )
        if record.state == RUNNING:
            unit = record.as_unit()
            self._units[record.id] = Running(record, unit, reference, engine, record.stopping)
        else:
            self.submit(record, engine, record.grant)

    def never_seen(self, record: UnitRecord, message: str) -> None:
        """A unit that ran, of which no trace was found."""
        self._finish(
            record, outcomes.Outcome(LOST, message, {}), self._clock(), {}, _any_retry(record)
        )

    # Looking.

    def observe(self, engine: Engine) -> None:
        """Asks a back end for its units, and records the ends of those that have ended."""
        if self._unstopped:
            again, self._unstopped = self._unstopped, set()
            self._stop([self._units[id] for id in again if id in self._units])
        mine = {one.reference: one for one in self._units.values() if one.engine is engine}
        try:
            seen = engine.backend.observe({reference: one.unit for reference, one in mine.items()})
        except PASSING as error:
            self._trouble.tell(error)
            return
        if not self._unstopped:
            self._trouble.is_over()
        for reference, observation in seen.items():
            self._consider(mine[reference], observation)
        self._give_back_undone()

    def _give_back_undone(self) -> None:
        for unit_id, engine in [one for one in self._undone if not one[1].backend.busy]:
            engine.account.give_back(unit_id)
            self._undone.remove((unit_id, engine))

    def _consider(self, running: Running, observation: Observation) -> None:
        if observation is running.seen:
            return
        running.seen = observation
        if running.engine.queues_itself:
            self._note_standing(running, observation)
        if outcomes.has_ended(observation):
            self._end(running, observation)
        elif not running.culprit and (wrong := outcomes.first_gone_wrong(observation)):
            running.culprit = wrong
            self._stop([running])

    def _note_standing(self, running: Running, observation: Observation) -> None:
        """Records what an engine that queues by itself has done with a unit since it was last looked at."""
        ended = outcomes.has_ended(observation)
        restarts = max((task.restarts for task in observation.values()), default=0)
        if restarts > running.restarts:
            self._begin_anew(running, restarts, ended=ended)
        state, message, since = outcomes.standing(observation)
        if ended and (running.state == RUNNING or since is None):
            return
        if running.state == RUNNING:  # It is not said to wait again within one attempt.
            state = RUNNING
        if (state, message) == (running.state, running.message):
            return
        running.state, running.message = state, message
        at = since if state == RUNNING and since is not None else self._clock()
        self._outbox.add(Change(running.record.id, state, message=message, at=at))

    def _begin_anew(self, running: Running, restarts: int, *, ended: bool) -> None:
        """The engine has run the unit again by itself: further attempts of it, as long as its restarts suffice."""
        name = running.engine.name.capitalize()
        options = [record.task.options for record in running.record.tasks]
        most = max((one.get('max_restarts') or 0 for one in options), default=0)
        while running.restarts < restarts:
            record = running.record
            running.restarts += 1
            number = record.restarts + 1
            of = f' of {most}' if number <= most else ''
            why = f'attempt {record.attempt}: was requeued by {name}; restart {number}{of}'
            reference = references.join(running.reference, running.restarts)
            for change in (
                Change(record.id, RESTARTING, why=why, message=why, restarts=number),
                Change(record.id, QUEUED, why=f'requeued by {name}'),
                Change(record.id, STARTING, reference=reference, stopping=running.stopping),
            ):
                self._outbox.add(attrs.evolve(change, at=self._clock()))
            running.record = attrs.evolve(record, attempt=record.attempt + 1, restarts=number)
            running.state, running.message = STARTING, why
        if running.record.restarts > most and not ended and not running.stopping:
            message = f'{name} has requeued it more often than max_restarts={most} allows'
            self.ask_to_end([running], FAILED, message)

    def _end(self, running: Running, observation: Observation) -> None:
        outcome = outcomes.judge(running.record, observation, running.culprit)
        retry = None
        if running.stopping:
            state, message = running.stopping
            outcome = attrs.evolve(outcome, state=state, message=message)
        else:
            retry = _retry(running, observation)
        ends = [task.ended_at for task in observation.values() if task.ended_at is not None]
        at = max(ends) if ends else self._clock()
        del self._units[running.record.id]
        running.engine.account.give_back(running.record.id)
        asked = running.stopping is not None
        self._finish(running.record, outcome, at, observation, retry, asked_to_stop=asked)

    def _finish(
        self,
        record: UnitRecord,
        outcome: outcomes.Outcome,
        at: float,
        observation: Observation,
        retry: retries.Retry | None,
        *,
        asked_to_stop: bool = False,
    ) -> None:
        if retry is not None:
            due = self._clock() + retry.delay
            message = f'attempt {record.attempt}: {outcome.message}; {retry.why}'
            self._outbox.add(
                Change(
                    record.id,
                    RESTARTING,
                    why=message,
                    message=message,
                    at=at,
                    not_before=due,
                    restarts=record.restarts + 1,
                )
            )
            self._restarting(record.id, due)
            return
        why = outcome.message
        if asked_to_stop:
            why = f'asked to stop: {why}' if why else 'asked to stop'
        self._outbox.add(
            Change(
                record.id,
                outcome.state,
                why=why,
                message=outcome.message,
                at=at,
                tasks=observation,
                task_messages=outcome.task_messages,
            )
        )

    # Ending.

    def ask_to_end(self, units: Sequence[Running], state: str, message: str) -> bool:
        """Stops running units, which shall end in that state; False if all were asked before."""
        fresh = [running for running in units if running.stopping is None]
        for running in fresh:
            running.stopping = (state, message)
            self._outbox.add(Change(running.record.id, running.state, stopping=running.stopping))
        self._outbox.flush()  # The intent comes first: a successor goes on with it.
        self._stop(fresh)
        return bool(fresh)

    def go_on_stopping(self) -> None:
        """Stops again what an earlier supervisor was asked to stop."""
        self._stop([running for running in self._units.values() if running.stopping])

    def _stop(self, units: Sequence[Running]) -> None:
        for engine in {running.engine.name: running.engine for running in units}.values():
            mine = [one for one in units if one.engine is engine]
            try:
                engine.backend.stop({one.reference: one.unit for one in mine}, None)
            except PASSING as error:
                self._unstopped.update(one.record.id for one in mine)
                self._trouble.tell(error)


def _retry(running: Running, observation: Observation) -> retries.Retry | None:
    """Decided by the task that went wrong first: the others were stopped because of it."""
    culprit = running.culprit or outcomes.first_gone_wrong(observation)
    for task in running.unit.tasks:
        if task.name == culprit:
            return retries.decide(task.options, observation[culprit], running.record.restarts)
    return None


def _any_retry(record: UnitRecord) -> retries.Retry | None:
    vanished = TaskObservation('vanished')
    found = (retries.decide(one.task.options, vanished, record.restarts) for one in record.tasks)
    return next(filter(None, found), None)
