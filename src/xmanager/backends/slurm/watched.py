"""One submitted unit as it is watched: its records, Slurm's words, and what follows from them."""

from __future__ import annotations

import math
import pwd

import attrs

from xmanager.backend import Task, TaskObservation, Unit
from xmanager.backends.slurm import states
from xmanager.backends.slurm.commands import Place, Row
from xmanager.backends.slurm.node.element import SUPERSEDED, Begun, End, read_begun, read_end
from xmanager.backends.slurm.states import Facts, Judgement, Need
from xmanager.backends.slurm.stopping import Stop

_RANKS = {Need.NOTHING: 0, Need.QUEUE: 1, Need.DETAILS: 2, Need.HISTORY: 3}


@attrs.define(eq=False)
class TaskWatch:
    """What is known of one task. Times named `_at` are on the clock that counts seconds."""

    task: Task
    place: Place
    begun: dict[int, Begun] = attrs.field(factory=dict)
    ends: dict[int, End] = attrs.field(factory=dict)
    recorded_at: float = -math.inf  # When the newest record was seen;
    noticed_at: float = 0.0  # the same by the calendar.
    row: Row | None = None
    row_at: float = -math.inf
    missing: Need = Need.NOTHING
    missing_at: float = -math.inf
    over_since: float | None = None
    verdict: Judgement | None = None

    @property
    def need(self) -> Need:
        """What is still to be asked."""
        return Need.QUEUE if self.verdict is None else self.verdict.need

    @property
    def is_over(self) -> bool:
        """Whether its end is known."""
        return self.verdict is not None and self.verdict.is_over

    def facts(self, watch: UnitWatch, now: float, seen_at: float, *, tells_who: bool) -> Facts:
        """All that is known; of Slurm's words only those that are newer than the records.

        `seen_at`: records that were there then are known.
        """
        row = self.row if self.row_at > self.recorded_at else None
        return Facts(
            task=self.task,
            folder=watch.folder,
            is_alone=len(watch.tasks) == 1,
            begun=self.begun,
            ends=self.ends,
            row=row,
            missing=self.missing if self.missing_at > self.recorded_at else Need.NOTHING,
            waited=-math.inf if self.over_since is None else seen_at - self.over_since,
            stopping=watch.stop is not None,
            killing=watch.stop is not None and watch.stop.is_killing,
            submitted_at=watch.submitted_at,
            noticed_at=self.noticed_at,
            age=now - self.recorded_at,
            user=_name_of(row.by) if row else '',
            tells_who=tells_who,
        )

    def record(self, kind: str, restart: int, content: bytes, at: float, noticed_at: float) -> None:
        if kind == 'begun':
            if begun := read_begun(content):
                self.begun[restart] = begun
        elif end := read_end(content):
            self.ends[restart] = end
        self.recorded_at, self.noticed_at, self.over_since = at, noticed_at, None

    def hear(self, row: Row, at: float) -> None:
        self.row, self.row_at, self.missing = row, at, Need.NOTHING
        if not states.is_over(row):
            self.over_since = None
        elif self.over_since is None:
            self.over_since = at

    def miss(self, kind: Need, at: float) -> None:
        """It was asked for in vain. What is known to be over stays so."""
        if self.missing_at <= self.recorded_at or _RANKS[kind] > _RANKS[self.missing]:
            self.missing, self.missing_at = kind, at
        if self.row is not None and not states.is_over(self.row):
            self.row = None
        self.over_since = at if self.over_since is None else self.over_since


@attrs.define(eq=False)
class UnitWatch:
    """One submitted unit."""

    unit: Unit
    job: int
    element: int | None
    folder: str
    since: float
    submitted_at: float
    tasks: dict[str, TaskWatch]
    stop: Stop | None = None
    is_over: bool = False
    is_followed: bool = False  # It took the place of another batch's.

    @property
    def name(self) -> str:
        """As Slurm calls it."""
        return f'{self.job}' if self.element is None else f'{self.job}_{self.element}'

    @property
    def has_begun(self) -> bool:
        return any(task.begun for task in self.tasks.values())

    @property
    def is_waiting(self) -> bool:
        """Whether it is in Slurm's queue, perhaps once more."""
        verdicts = [task.verdict for task in self.tasks.values()]
        return all(one is not None and one.observation.state == 'waiting' for one in verdicts)

    @property
    def begun_at(self) -> float | None:
        """When a record of a beginning was last seen."""
        return max((t.recorded_at for t in self.tasks.values() if t.begun), default=None)

    @property
    def superseded_by(self) -> str:
        """The batch that had taken this attempt when its own came to run it; '' if none had."""
        refusals = (end.refused for task in self.tasks.values() for end in task.ends.values())
        return next(
            (one.removeprefix(SUPERSEDED) for one in refusals if one.startswith(SUPERSEDED)), ''
        )

    def judge(self, now: float, seen_at: float, *, tells_who: bool) -> dict[str, TaskObservation]:
        """How its tasks fare by what is known; of records, all that were there at `seen_at`."""
        for task in self.tasks.values():
            if task.verdict is None or not task.verdict.is_over:
                task.verdict = states.judge(task.facts(self, now, seen_at, tells_who=tells_who))
        self.is_over = all(task.is_over for task in self.tasks.values())
        return {name: task.verdict.observation for name, task in self.tasks.items() if task.verdict}

    @property
    def is_unsettled(self) -> bool:
        """Whether time alone, or an answer that says nothing new, may tell more of it."""
        return any(task.need is not Need.NOTHING for task in self.tasks.values())


def _name_of(user: str) -> str:
    try:
        return pwd.getpwuid(int(user)).pw_name
    except ValueError:  # None was told, or a name already.
        return user
    except KeyError:
        return f'user {user}'
