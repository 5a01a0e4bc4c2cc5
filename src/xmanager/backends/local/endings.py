"""Ends tasks for good: TERM, a grace time, KILL, until no process of them is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Sequence

from xmanager.backends.local.processes import (
    Owner,
    Process,
    is_copy,
    members,
    read_process,
)
from xmanager.backends.local.runs import Run
from xmanager.backends.local.signals import send, send_group
from xmanager.containers.signals import KILL

Scan = Callable[[int], Sequence[Process]]
"""Lists the living processes that started at or after a time in ticks."""

_FIRST_PAUSE = 0.03
_LONGEST_PAUSE = 0.25
_RUNNER_GRACE = 1.0
_KILL_ROUNDS = 30


class Endings:
    """The tasks that are being ended, or have ended and may have left processes behind.

    The list of all processes is read for all of them at once, and seldom enough to cost a tenth of a CPU at most.
    """

    def __init__(
        self,
        scan: Scan,
        clock: Callable[[], float],
        strays: Callable[[Run], Sequence[Process]] = lambda run: (),
    ) -> None:
        """`strays` finds, for a task that has ended, what lives of it though it bears no mark and left the session."""
        self._scan = scan
        self._strays = strays
        self._clock = clock
        # The processes of each that were sent TERM: once is enough, a second one may cut its cleaning-up short.
        self._runs: dict[Run, set[Process]] = {}
        self._foreign: set[Process] = set()
        self._scanned_at = float('-inf')
        self._scan_cost = 0.0
        self._pause = _FIRST_PAUSE

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def period(self) -> float:
        """Seconds between two calls of `advance`."""
        if any(self._is_due(run) for run in self._runs):
            return max(self._pause, 10 * self._scan_cost)
        return _LONGEST_PAUSE

    def begin(self, runs: Iterable[Run], grace: float | None) -> None:
        """Sends TERM to all processes of these tasks; `advance` does the rest. Repeating it can only hasten."""
        now = self._clock()
        fresh = []
        for run in runs:
            if run.clean:
                continue
            kill_at = now + (run.grace if grace is None else grace)
            if run.kill_at is None:
                fresh.append(run)
                run.kill_at = kill_at
            run.kill_at = min(run.kill_at, kill_at)
            run.held = True
            self._runs.setdefault(run, set())
        self._pause = _FIRST_PAUSE
        if fresh:
            self._terminate(fresh)

    def sweep(self, run: Run, *, is_leased: bool) -> None:
        """Ends what a task left behind that has ended by itself."""
        self._runs.setdefault(run, set())
        # Lease and group can be asked without reading /proc; the group's number is taken for as long as it has a
        # member. What is found that way holds up the news of the end, so that a successor of ours goes on ending it.
        # Only what left the group and closed what it inherited is swept up behind the news.
        if is_leased or (run.is_child and send_group(run.pid, 0)):
            run.held = True
        if run.held:
            self._pause = _FIRST_PAUSE

    def advance(self) -> bool:
        """Does what is due: finds out who is gone, sends TERM to what was left behind and KILL to what is late.

        Returns whether it was time to look.
        """
        now = self._clock()
        if not self._runs or now < self._scanned_at + max(self._pause, 10 * self._scan_cost):
            return False
        due = [run for run in self._runs if self._is_due(run)]
        hurried = any(run.held for run in due)
        pause = max(self._pause if hurried else _LONGEST_PAUSE, 10 * self._scan_cost)
        if not due or now < self._scanned_at + pause:
            return False
        self._pause = min(_LONGEST_PAUSE, 1.3 * self._pause)
        left = self._find(due)
        late = []
        for run in due:
            mine = left.get(run.owner, [])
            if run.end is not None and not mine:
                run.clean = True
                del self._runs[run]
            elif run.kill_at is not None and now >= run.kill_at:
                late.append(run)
            else:
                self._terminate_rest(run, mine)
        self._kill(late, left)
        return True

    def _is_due(self, run: Run) -> bool:
        """Something may have to be done for a task: else there is nothing to do but to wait for its end."""
        if run.end is not None or run.kill_at is None or self._clock() >= run.kill_at:
            return True
        return not any(process.parent == run.pid for process in self._runs[run])

    def _find(self, runs: Sequence[Run]) -> dict[Owner, list[Process]]:
        began = time.perf_counter()
        processes = self._scan(min((run.start for run in runs), default=0))
        self._scan_cost = time.perf_counter() - began
        self._scanned_at = self._clock()
        own = [process for process in processes if process not in self._foreign]
        found = members(own, {run.pid: run.session for run in runs if run.pid})
        for run in runs:
            names = [task.name for task in run.unit.tasks]
            if run.task.name == names[0]:
                # A job may change XM_JOB_NAME for its children: the first one answers for what no job is named in.
                strays = [o for o in found if o.key == run.unit.key and o.job not in names]
                found.setdefault(run.owner, []).extend(p for owner in strays for p in found[owner])
            if run.end is not None and not found.get(run.owner):
                left = [p for p in self._strays(run) if p not in self._foreign]
                found.setdefault(run.owner, []).extend(left)
        return found

    def _terminate(self, runs: Sequence[Run]) -> None:
        """Signals each task's process group in one step, and whatever else is found of it one by one."""
        # Listed first: who is born between the list and the signal is seen by _terminate_rest not to have had it.
        left = self._find(runs)
        for run in runs:
            mine = left.get(run.owner, [])
            group = _programs(run, [process for process in mine if process.group == run.pid])
            if self._send_group(run, signal.SIGTERM):
                self._runs[run].update(group)
                self._send_group(run, signal.SIGCONT)  # a stopped process must run to see its TERM
            self._send_term(run, mine)

    def _terminate_rest(self, run: Run, mine: Sequence[Process]) -> None:
        """TERM for what a task left behind, or for its program if it was just being started when TERM came."""
        if run.end is None:
            self._send_term(run, [process for process in mine if process.parent == run.pid])
            return
        if run.kill_at is None:
            run.kill_at = self._clock() + run.grace
        self._send_term(run, mine)

    def _send_term(self, run: Run, processes: Iterable[Process]) -> None:
        fresh = [process for process in processes if process not in self._runs[run]]
        programs = _programs(run, fresh)
        self._send(fresh, signal.SIGTERM)
        self._runs[run].update(programs)

    def _kill(self, runs: Sequence[Run], left: dict[Owner, list[Process]]) -> None:
        """KILLs in rounds, so that what forks meanwhile is found too. The runner goes last: it records the end.

        Of a container the keeper is told to kill: it has the engine do so, and sees the end.
        """
        for run in runs:
            if run.task.image and run.end is None:
                keepers = [p for p in left.get(run.owner, []) if p.pid != run.pid]
                self._send(keepers, signal.SIGCONT)
                self._send(keepers, KILL)
        runs = [run for run in runs if not run.task.image or run.end is not None]
        for _ in range(_KILL_ROUNDS):
            found = False
            for run in runs:
                overdue = self._clock() >= (run.kill_at or 0) + _RUNNER_GRACE
                victims = [p for p in left.get(run.owner, []) if p.pid != run.pid or overdue]
                run.killed = run.killed or bool(victims)
                found = found or bool(victims)
                self._send(victims, signal.SIGKILL)
            if not found:
                return
            left = self._find(runs)

    def _send_group(self, run: Run, signum: int) -> bool:
        runner = read_process(run.pid) if run.end is None and run.pid else None
        return runner is not None and runner.start == run.start and send_group(run.pid, signum)

    def _send(self, processes: Iterable[Process], signum: int) -> bool:
        """Signals each; True if there was one to signal."""
        sent = False
        for process in processes:
            try:
                sent = send(process, signum) or sent
            except PermissionError:  # it became another user's (sudo): out of our hands
                self._foreign.add(process)
        return sent


def _programs(run: Run, processes: Iterable[Process]) -> list[Process]:
    """Without the runner's own copy that is about to become the program: TERM is lost on it as on the runner.

    To be asked before the signal is sent. The copy gets another one once it is the program.
    """
    return [p for p in processes if p.parent != run.pid or not is_copy(p.pid, run.pid)]
