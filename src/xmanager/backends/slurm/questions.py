"""Asks Slurm how all units fare: in the background, one question at a time, and seldom."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from xmanager.backends.slurm import commands
from xmanager.backends.slurm.commands import Place, Rows
from xmanager.backends.slurm.site import Answer, Running, Site
from xmanager.backends.slurm.states import Need
from xmanager.errors import UnreachableError

GAP = 2.0
"""Seconds between the beginnings of two questions, at least."""

_MOMENT = 0.5  # Seconds until Slurm shows what was asked of it.
_MOST_DETAILS = 3  # Questions for details between two for the queue.
_LONGEST_GAP = 10.0  # While nothing changes.
_LONGEST_TROUBLE = 30.0  # While Slurm does not answer.
_GROWTH = 1.5
_SHARE = 4  # A question that takes long is asked so many times more seldom than it takes.
_PATIENCE = 60.0
_MOST = 400  # Names in one question.
_MANY = 50  # Elements of a job that are asked for one by one.

_log = logging.getLogger(__name__)


@attrs.frozen
class Word:
    """An answer: `rows` of what was `asked` for (None: of all), as of `asked_at` on the clock of the questions.

    `is_news` is False if it says what the last answer of its kind said.
    """

    kind: Need
    asked_at: float
    rows: Rows
    asked: frozenset[Place] | None = None
    is_news: bool = True


@attrs.define
class _Question:
    kind: Need
    asked_at: float
    running: Running
    read: Callable[[Answer], Rows]
    asked: frozenset[Place] | None = None
    jobs: frozenset[int] = frozenset()


class Questions:
    """`clock` counts seconds. What is to be asked is said at each turn; the answer comes at a later one."""

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self._site = site
        self._clock = clock
        self._question: _Question | None = None
        self._free_at = 0.0  # When the next question may be asked.
        self._queue_at = 0.0  # When that for the queue is due.
        self._interval = GAP
        self.tells_who = True  # Whether accounts may tell who has cancelled a job.
        self._details_asked = 0  # Since the queue was asked for.
        self._last_answer: Answer | None = None
        self._last_rows: Rows = {}
        self._failures = 0
        self._log_path: str | None = None  # Of the job completion log; '' if there is none.

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is still to come."""
        return self._question is not None

    def hasten(self) -> None:
        """Something was done that changes the queue in a moment."""
        self._interval = GAP
        soon = self._clock() + _MOMENT
        self._queue_at = min(self._queue_at, soon) if self._queue_at > 0.0 else soon
        self._free_at = max(self._free_at, soon)

    def turn(
        self, jobs: Collection[int], details: Mapping[Place, str], history: Mapping[Place, str]
    ) -> Word | None:
        """The answer to the last question, if it has come; and asks the next one, if that is due.

        `jobs` are all that have not ended; `details` and `history` name those of which more is to be known.
        """
        word = None
        if self._question is not None:
            word = self._hear(self._question)
        now = self._clock()
        if self._question is None and jobs and now >= self._free_at and word is None:
            self._ask(now, jobs, details, history)
        return word

    def close(self) -> None:
        """Ends the question that runs."""
        if self._question is not None:
            self._question.running.cancel()
            self._question = None

    # --- asking

    def _ask(
        self,
        now: float,
        jobs: Collection[int],
        details: Mapping[Place, str],
        history: Mapping[Place, str],
    ) -> None:
        is_due = now >= self._queue_at
        self._details_asked += 1
        if is_due and (not (details or history) or self._details_asked > _MOST_DETAILS):
            self._details_asked = 0
            argv = commands.queue(sorted(set(jobs)))
            self._begin(Need.QUEUE, now, argv, commands.read_queue)
        elif details:
            some, names = _some(details)
            argv = commands.details(names)
            self._begin(Need.DETAILS, now, argv, commands.read_details, some)
        elif history:
            some, names = _some(history)
            argv = commands.accounts(names)
            self._begin(Need.HISTORY, now, argv, commands.read_accounts, some)

    def _begin(
        self,
        kind: Need,
        now: float,
        argv: Sequence[str],
        read: Callable[[Answer], Rows],
        asked: Collection[Place] | None = None,
    ) -> None:
        places = None if asked is None else frozenset(asked)
        jobs = frozenset(place[0] for place in places or ())
        try:
            running = self._site.start(argv, env=commands.QUIET)
        except UnreachableError as error:
            self._fail(now, error)
            return
        self._question = _Question(kind, now, running, read, places, jobs)
        # Of what the queue no longer has, the details are asked for at once.
        self._free_at = now + (_MOMENT if kind is Need.QUEUE else GAP)

    # --- hearing

    def _hear(self, question: _Question) -> Word | None:
        now = self._clock()
        try:
            answer = question.running.poll()
            if answer is None:
                if now > question.asked_at + _PATIENCE:
                    question.running.cancel()
                    raise UnreachableError(f'Slurm gave no answer in {_PATIENCE:g} s.')
                return None
            is_same = question.kind is Need.QUEUE and answer == self._last_answer
            rows = self._last_rows if is_same else question.read(answer)
        except UnreachableError as error:
            self._question = None
            self._fail(now, error)
            return None
        self._question = None
        self._succeed(now, now - question.asked_at)
        if question.kind is Need.QUEUE:
            self._interval = min(_LONGEST_GAP, self._interval * _GROWTH) if is_same else GAP
            self._queue_at = question.asked_at + self._interval
            self._last_answer, self._last_rows = answer, rows
            return Word(Need.QUEUE, question.asked_at, rows, None, not is_same)
        if question.kind is Need.HISTORY and self._go_on(question, now, answer, rows):
            return None
        return Word(question.kind, question.asked_at, rows, question.asked)

    def _go_on(self, question: _Question, now: float, answer: Answer, rows: Rows) -> bool:
        """Where accounting does not know, the job completion log may, if there is one: first its path is asked for."""
        if question.read is commands.read_accounts and commands.has_no_accounts(answer):
            self.tells_who = False
        if question.read is _read_nothing:
            self._log_path = _completion_log(answer)
        elif question.read is not commands.read_accounts or all(
            commands.find(rows, place) for place in question.asked or ()
        ):
            return False
        if self._log_path is None:
            self._begin(question.kind, now, commands.CONFIG, _read_nothing, question.asked)
        elif self._log_path:
            argv = commands.completions(sorted(question.jobs), self._log_path)
            self._begin(question.kind, now, argv, commands.read_completions, question.asked)
        return self._question is not None

    def _succeed(self, now: float, took: float) -> None:
        if self._failures:
            _log.info('Slurm answers again.')
        self._failures = 0
        self._free_at = max(self._free_at, now + took * _SHARE)

    def _fail(self, now: float, error: UnreachableError) -> None:
        if not self._failures:
            _log.warning('Slurm can not be asked how its jobs fare, and will be again: %s', error)
        self._failures += 1
        self._free_at = now + min(_LONGEST_TROUBLE, GAP * 2.0 ** min(self._failures, 8))


def _some(wanted: Mapping[Place, str]) -> tuple[Collection[Place], Collection[str]]:
    """As many as one question may name, and their names; of a job with many of them its own name stands for all."""
    counts = Counter(place[0] for place in wanted)
    some: list[Place] = []
    names: dict[str, None] = {}
    for place, name in wanted.items():
        if len(names) >= _MOST:
            break
        names[str(place[0]) if counts[place[0]] > _MANY else name] = None
        some.append(place)
    return some, names


def _read_nothing(answer: Answer) -> Rows:
    return {}


def _completion_log(answer: Answer) -> str:
    if answer.code:
        return ''
    config = commands.read_config(answer)
    return config.get('JobCompLoc', '') if config.get('JobCompType') == 'jobcomp/filetxt' else ''
