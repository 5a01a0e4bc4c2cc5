"""What a person sees while a launch script runs: job output, one line a unit as it ends, progress, a summary.

Job output goes to stdout, all else to stderr, so that a launch can be piped.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from xmanager.launch.tail import LogTail, last_lines
from xmanager.ledger.sentences import engine_name
from xmanager.store import (
    AUXILIARY,
    COMPLETED,
    FAILED,
    FINAL_STATES,
    LOST,
    RUNNING,
    STOPPED,
    UnitRecord,
    Wait,
)
from xmanager.store.wording import arguments, duration

_REDRAW = 0.1  # Seconds between two drawings of the progress line.
_COLOURS = {COMPLETED: '32', FAILED: '31', STOPPED: '33', LOST: '35'}
_SHOWN_FAILURES = 5
_SHOWN_LINES = 5
_SHOWN_REASONS = 3


class Terminal:
    """Watches the units of one launch and tells of them."""

    def __init__(
        self,
        experiment_id: int,
        *,
        out: Any = None,
        err: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        shows_progress: bool = True,
    ) -> None:
        self._experiment_id = experiment_id
        self._out = sys.stdout if out is None else out
        self._err = sys.stderr if err is None else err
        self._clock = clock
        self._live = self._err.isatty()
        self.shows_progress = shows_progress
        self._began = clock()
        self._drawn_at = 0.0
        self._drawn = False
        self._added = 0
        self._running: set[int] = set()
        self._ended: Counter[str] = Counter()
        self._failures: list[UnitRecord] = []
        self._waits: list[Wait] = []
        self._refusals: set[str] = set()  # Why engines took no units, as was told.
        self._tails: dict[int, list[LogTail]] = {}
        self._broken = False

    def added(self, count: int = 1) -> None:
        self._added += count

    def started(self, unit: UnitRecord) -> None:
        self._running.add(unit.id)
        if unit.id in self._tails:
            return
        self._tails[unit.id] = [
            LogTail(f'{record.place}/output.log', f'[{unit.label} {record.task.name}] '.encode())
            for record in unit.tasks
            if record.task.options.get('stream_output', True)
        ]

    def tried(self, unit: UnitRecord, why: str) -> None:
        if unit.state != RUNNING:
            self._running.discard(unit.id)
        self._print_output()
        self._say(f'{_name(unit)} {self._paint(FAILED, why)}')

    def ended(self, unit: UnitRecord) -> None:
        self._running.discard(unit.id)
        self._print_output(rest=unit.id)
        self._tails.pop(unit.id, None)
        self._ended[unit.state] += 1
        if unit.state in (FAILED, LOST):
            self._failures.append(unit)
        self._say(self._end_line(unit))

    def waits(self, waits: Sequence[Wait]) -> None:
        self._waits = [wait for wait in waits if wait.is_taken or wait.reason]
        for wait in self._waits:
            if not wait.is_taken and wait.reason not in self._refusals:
                self._refusals.add(wait.reason)
                units = '1 unit waits' if wait.count == 1 else f'{wait.count:,} units wait'
                self._say(f'{units}: {wait.reason}')

    def tick(self) -> None:
        self._print_output()
        if self._live and self.shows_progress and self._clock() - self._drawn_at >= _REDRAW:
            self._drawn_at = self._clock()
            self._draw()

    def close(self) -> None:
        self._erase()
        self._write_err('')

    def say(self, text: str) -> None:
        """One line for the person, above the progress line."""
        self._say(text)

    def summary(self) -> None:
        """So many completed, failed, stopped; of the failed ones the last lines, and how to see more."""
        if not self._ended:
            return
        counts = ', '.join(
            self._paint(state, f'{self._ended[state]} {state}')
            for state in (COMPLETED, FAILED, STOPPED, LOST)
            if self._ended[state]
        )
        for unit in self._failures[:_SHOWN_FAILURES]:
            self._show_failure(unit)
        if (more := len(self._failures) - _SHOWN_FAILURES) > 0:
            self._say(f'… and {more} more: xmanager show {self._experiment_id}')
        elapsed = duration(self._clock() - self._began)
        self._say(f'experiment {self._experiment_id}: {counts} in {elapsed}')

    def _show_failure(self, unit: UnitRecord) -> None:
        for record in unit.tasks:
            lines = last_lines(record.folder / 'output.log', _SHOWN_LINES)
            if not lines or (record.exit_code == 0 and not record.message):
                continue
            name = f'{self._experiment_id}.{unit.label}'
            self._say(
                f'{self._paint(unit.state, f"unit {unit.label}")} {record.task.name}, last lines:'
            )
            for line in lines:
                self._say(f'    {line[:500]}')
            self._say(f'    more: xmanager logs {name}')

    def _end_line(self, unit: UnitRecord) -> str:
        began = unit.started_at
        took = '' if began is None or unit.ended_at is None else duration(unit.ended_at - began)
        line = f'{_name(unit)} {self._paint(unit.state, unit.state)}'
        if took:
            line += f' {"in" if unit.state == COMPLETED else "after"} {took}'
        if unit.attempt > 1:
            line += f' at attempt {unit.attempt}'
        if unit.message and unit.state != COMPLETED:
            return f'{line}: {unit.message}'
        shown = short_args(unit.args)
        return f'{line}  {shown}' if shown else line

    def _paint(self, state: str, text: str) -> str:
        return f'\x1b[{_COLOURS[state]}m{text}\x1b[0m' if self._live and state in _COLOURS else text

    def _print_output(self, rest: int | None = None) -> None:
        tails = self._tails.items() if rest is None else [(rest, self._tails.get(rest, []))]
        for unit_id, all in tails:
            for tail in all:
                for lines in tail.read(rest=unit_id == rest):
                    self._show(lines)

    def _show(self, lines: bytes) -> None:
        if self._broken:
            return
        self._erase()
        try:
            self._write_out(lines)
        except OSError:  # Whoever read our output is gone; the units and their logs are not.
            self._broken = True

    def _write_out(self, data: bytes) -> None:
        self._out.flush()
        buffer = getattr(self._out, 'buffer', None)
        if buffer is None:  # A notebook's stdout.
            self._out.write(data.decode('utf-8', 'replace'))
        else:
            buffer.write(data)
        self._out.flush()

    def _say(self, text: str) -> None:
        self._erase()
        self._write_err(f'{text}\n')

    def _write_err(self, text: str) -> None:
        try:
            self._err.write(text)
            self._err.flush()
        except OSError:  # The person has gone; the units and their logs have not.
            self._live = False

    def _draw(self) -> None:
        done = sum(self._ended[state] for state in FINAL_STATES)
        running = len(self._running)
        parts = [*self._queued(self._added - done - running), f'{running} running']
        parts += [f'{self._ended[s]} {s}' for s in _COLOURS if self._ended[s]]
        elapsed = self._clock() - self._began
        text = f'{" · ".join(parts)} · {duration(elapsed)}'
        if 0 < done < self._added:
            text += f' · about {duration(elapsed / done * (self._added - done))} left'
        # A line that is longer than the terminal is wide could not be wiped.
        text = text[: shutil.get_terminal_size().columns - 1]
        self._write_err(f'\r\x1b[K\x1b[2m{text}\x1b[0m')
        self._drawn = True

    def _queued(self, left: int) -> list[str]:
        """How many of those that are left wait, and for what, as far as their engines tell."""
        told = sum(wait.count for wait in self._waits)
        parts = [_waiting(wait) for wait in self._waits[:_SHOWN_REASONS]]
        if more := sum(wait.count for wait in self._waits[_SHOWN_REASONS:]):
            parts.append(f'{more:,} wait for other things')
        if left > told or not parts:
            parts.insert(0, f'{max(0, left - told)} queued')
        return parts

    def _erase(self) -> None:
        if self._drawn:
            self._write_err('\r\x1b[K')
            self._drawn = False


def short_args(args: Mapping[str, Any], limit: int = 100) -> str:
    """The hyperparameters of a unit in one line, `k=v k=v`; secrets masked."""
    text = ' '.join(arguments(args).splitlines())
    return text if len(text) <= limit else text[: limit - 1] + '…'


def _name(unit: UnitRecord) -> str:
    return f'auxiliary unit {unit.label}' if unit.kind == AUXILIARY else f'unit {unit.label}'


def _waiting(wait: Wait) -> str:
    """`3 wait: Priority`, or if nobody says why: `3 wait in Slurm`."""
    waits = f'{wait.count:,} {"waits" if wait.count == 1 else "wait"}'
    return f'{waits}: {wait.reason}' if wait.reason else f'{waits} in {engine_name(wait.backend)}'
