"""Ends tasks for good: TERM, a grace time, KILL, until no process of them is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Sequence

from xmanager.backends.local.processes import (
    Owner,
    Process,
    members,
    read_process,
    send,
    send_group,
)
from xmanager.backends.local.runs import Run

Scan = Callable[[int], Sequence[Process]]
"""Lists the living processes that started at or after a time in ticks."""

_SWEEP_PERIOD = 0.25
_STOP_PERIOD = 0.03
_RUNNER_GRACE = 1.0
_KILL_ROUNDS = 5


class Endings:
    """The tasks that are being ended, or have ended and may have left processes behind.

    The list of all processes is read for all of them at once, and seldom enough to cost a tenth of a CPU at most.
    """

    def __init__(self, scan: Scan, clock: Callable[[], float]) -> None:
        self._scan = scan
        self._clock = clock
        self._runs: set[Run] = set()
        self._foreign: set[tuple[int, int]] = set()
        self._scanned_at = float('-inf')
        self._scan_cost = 0.0

    def __len__(self) -> int:
        return len(self._runs)

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
            self._runs.add(run)
        if fresh:
            self._terminate(fresh)

    def sweep(self, run: Run) -> None:
        """Ends what a task left behind that has ended by itself."""
        self._runs.add(run)
        # The group can be asked without reading /proc: its number is taken for as long as it has a member. What is
        # found that way holds up the news of the end; only what left the group is swept up behind it.
        if run.is_child and send_group(run.pid, 0):
            run.held = True

    def advance(self) -> None:
        """Does what is due: finds out who is gone, sends TERM to what was left behind and KILL to what is late."""
        now = self._clock()
        if not self._runs or now < self._scanned_at + self.period:
            return
        left = self._find(self._runs)
        for run in list(self._runs):
            mine = left.get(run.owner, [])
            if run.end is not None and not mine:
                run.clean = True
                self._runs.discard(run)
            elif run.end is not None and run.kill_at is None:
                run.kill_at = now + run.grace
                self._send(mine, signal.SIGTERM)
        late = [run for run in self._runs if run.kill_at is not None and now >= run.kill_at]
        if late:
            self._kill(late, left)

    @property
    def period(self) -> float:
        """Seconds between two readings of the list of processes."""
        hurried = any(run.held for run in self._runs)
        return max(_STOP_PERIOD if hurried else _SWEEP_PERIOD, 10 * self._scan_cost)

    def _find(self, runs: Iterable[Run]) -> dict[Owner, list[Process]]:
        runs = list(runs)
        began = time.perf_counter()
        processes = self._scan(min((run.start for run in runs), default=0))
        self._scan_cost = time.perf_counter() - began
        self._scanned_at = self._clock()
        own = [
            process for process in processes if (process.pid, process.start) not in self._foreign
        ]
        found = members(own, {run.pid: run.session for run in runs if run.pid})
        for run in runs:
            names = [task.name for task in run.unit.tasks]
            if (
                run.task.name == names[0]
            ):  # a job that changed XM_JOB_NAME for its children: the first answers for it
                strays = [o for o in found if o.key == run.unit.key and o.job not in names]
                found.setdefault(run.owner, []).extend(p for owner in strays for p in found[owner])
        return found

    def _terminate(self, runs: Sequence[Run]) -> None:
        grouped = [run for run in runs if self._send_group(run, signal.SIGTERM)]
        left = self._find(runs)
        for run in runs:
            others = left.get(run.owner, [])
            if run in grouped:
                others = [process for process in others if process.group != run.pid]
            self._send(others, signal.SIGTERM)
        for run in grouped:  # a stopped process (SIGSTOP) must run to see its TERM
            self._send_group(run, signal.SIGCONT)

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
                self._foreign.add((process.pid, process.start))
        return sent

    def _kill(self, runs: Sequence[Run], left: dict[Owner, list[Process]]) -> None:
        """KILLs in rounds, so that what forks meanwhile is found too. The runner goes last: it records the end."""
        for _ in range(_KILL_ROUNDS):
            killed = False
            for run in runs:
                overdue = self._clock() >= (run.kill_at or 0) + _RUNNER_GRACE
                victims = [p for p in left.get(run.owner, []) if p.pid != run.pid or overdue]
                run.killed = run.killed or bool(victims)
                killed = self._send(victims, signal.SIGKILL) or killed
            if not killed:
                return
            left = self._find(runs)
