"""Ends units: TERM, and KILL to what is left after the grace time; by scancel in the background."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import attrs

from xmanager.backend import DEFAULT_GRACE, Unit
from xmanager.backends.slurm import commands
from xmanager.backends.slurm.site import Running, Site
from xmanager.errors import UnreachableError

_AGAIN = 5.0  # Seconds until what has not ended is told again, or Slurm is asked again.
_MOMENT = 1.0  # Seconds from the beginning of a job until all of it has begun.
_LAST_WORDS = 1.0
_END = 'TERM'
# By it elements kill their programs. KILL itself reaches a batch script's shell alone, or all only after the site's
# KillWait, and may leave programs behind for good.
_KILL = 'URG'
_MOST = 500  # Names on one command line.


@attrs.define(eq=False)
class Stop:
    """The end that was asked of one unit.

    `told_at` is when it was last told, `begun_at` when it was seen to have begun, on the clock that counts seconds.
    """

    job: int
    element: int | None
    is_alone: bool
    kill_at: float
    told_at: float
    begun_at: float | None = None
    is_killing: bool = False

    @property
    def was_missed(self) -> bool:
        """Whether it began when it had been told to end already; steps are started a moment after their job."""
        moment = 0.0 if self.is_alone else _MOMENT
        return self.begun_at is not None and self.begun_at > self.told_at - moment


def stop_of(unit: Unit, job: int, element: int | None, grace: float | None, now: float) -> Stop:
    """The end of a unit that is asked for now; `grace` None is the longest that one of its tasks has."""
    is_replicated = any((task.options.get('replicas') or 1) > 1 for task in unit.tasks)
    stated = [task.options.get('grace') for task in unit.tasks]
    own = max(DEFAULT_GRACE if one is None else float(one) for one in stated)
    # What srun starts is told by steps: it would kill all copies at once if it were sent TERM itself.
    is_alone = len(unit.tasks) == 1 and not is_replicated
    return Stop(job, element, is_alone, now + (own if grace is None else grace), now)


class Stops:
    """The stops of all units that have not ended yet, and what is still to be told to Slurm."""

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self._site = site
        self._clock = clock
        self._untold: deque[list[str]] = deque()
        self._finished: list[Stop] = []
        self._running: Running | None = None
        self._free_at = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether there is something to tell to Slurm."""
        return self._running is not None or bool(self._untold or self._finished)

    @property
    def is_telling(self) -> bool:
        """Whether Slurm is being told now."""
        return self._running is not None

    def begin(self, stops: Sequence[Stop]) -> None:
        """Takes out of the queue what has not begun, and sends TERM to what has."""
        # Not `scancel --state=PENDING`: of an array that ends all elements that wait, whichever are named (22.05).
        self._say(commands.cancel, [stop for stop in stops if stop.begun_at is None])
        self._signal(_END, [stop for stop in stops if stop.begun_at is not None])
        self.advance([])

    def advance(self, stops: Iterable[Stop]) -> None:
        """Goes on with what is due. `stops` are those of units that have not ended."""
        now = self._clock()
        due = [stop for stop in stops if now >= _due(stop)]
        if due:
            missed = [stop for stop in due if now < stop.kill_at and stop.was_missed]
            self._signal(_END, missed)
            self._signal(_KILL, [stop for stop in due if now >= stop.kill_at])
            # A plain cancel is for what was neither waiting nor running when it was told, but in between.
            self._say(commands.cancel, [stop for stop in due if stop not in missed])
            for stop in due:
                stop.told_at = now
                stop.is_killing = stop.is_killing or now >= stop.kill_at
        self._say(commands.cancel, self._finished)
        self._finished = []
        self._tell(now)

    def finish(self, stop: Stop) -> None:
        """It has ended, as its record says. Were it preempted meanwhile, Slurm would begin it once more."""
        self._finished.append(stop)

    def due_in(self, stops: Iterable[Stop]) -> float:
        """Seconds until `advance` has something to do."""
        if self.is_busy:
            return 0.0
        due = min((_due(stop) for stop in stops), default=math.inf)
        return due - self._clock()

    def close(self) -> None:
        """Lets the command that runs reach Slurm; the rest is told by whoever stops these units again."""
        if self._running is not None:
            latest = time.monotonic() + _LAST_WORDS
            with contextlib.suppress(UnreachableError):
                while self._running.poll() is None and time.monotonic() < latest:
                    time.sleep(0.01)
                self._running.cancel()
        self._running = None
        self._untold.clear()

    def _signal(self, name: str, stops: Sequence[Stop]) -> None:
        for is_alone in (True, False):
            command = partial(commands.signal, name, steps_only=not is_alone)
            self._say(command, [stop for stop in stops if stop.is_alone is is_alone])

    def _say(self, command: Callable[[Sequence[str]], list[str]], stops: Sequence[Stop]) -> None:
        names = _names(stops)
        for first in range(0, len(names), _MOST):
            self._untold.append(command(names[first : first + _MOST]))

    def _tell(self, now: float) -> None:
        """One command at a time; one that did not reach Slurm is told again."""
        try:
            while now >= self._free_at:
                if self._running is None:
                    if not self._untold:
                        return
                    self._running = self._site.start(self._untold[0])
                answer = self._running.poll()
                if answer is None:
                    return
                self._running = None
                if answer.code and commands.is_out_of_reach(answer.err):
                    raise UnreachableError(commands.words(answer))
                self._untold.popleft()
        except (
            UnreachableError
        ):  # Slurm being down is told of by whoever asks it how the units fare.
            self._running = None
            self._free_at = now + _AGAIN


def _due(stop: Stop) -> float:
    """When it is to be told again."""
    if stop.is_killing:
        return stop.told_at + _AGAIN
    if stop.begun_at is None:
        return min(stop.kill_at, stop.told_at + _AGAIN)
    return min(stop.kill_at, stop.begun_at + _MOMENT) if stop.was_missed else stop.kill_at


def _names(stops: Sequence[Stop]) -> list[str]:
    singles = [str(stop.job) for stop in stops if stop.element is None]
    arrays: dict[int, list[int]] = {}
    for stop in stops:
        if stop.element is not None:
            arrays.setdefault(stop.job, []).append(stop.element)
    return singles + [commands.elements(job, sorted(numbers)) for job, numbers in arrays.items()]
