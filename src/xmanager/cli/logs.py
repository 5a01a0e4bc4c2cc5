"""`xmanager logs`: what jobs have printed, byte for byte for one job, with a prefix for several."""

from __future__ import annotations

import io
import select
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from xmanager.cli import session, terminal, waiting
from xmanager.cli.parameters import Whole, addresses
from xmanager.cli.tailing import Follower, Prefixer

if TYPE_CHECKING:
    from xmanager.cli.address import Address
    from xmanager.store import Store
    from xmanager.store.values import TaskRecord, UnitRecord

_PERIOD: Final = 0.05
_REFRESH: Final = 1.0  # Seconds between two questions to the server of a network file system.


@click.command('logs')
@addresses(3, many=False)
@click.option('-f', '--follow', is_flag=True, help='Go on until the units have ended.')
@click.option('--tail', type=Whole(0), metavar='N', help='Only the last N lines of each.')
@click.option(
    '--attempt', type=Whole(1), metavar='N', help='An earlier attempt. [default: the last]'
)
def command(where: Address, follow: bool, tail: int | None, attempt: int | None) -> None:
    """Print what jobs have printed: stdout and stderr, in order.

    Of one job, the very bytes. Of several jobs, each line with its unit and job before it.

    \b
    Examples:
      xmanager logs 12.3               work unit 3 of experiment 12
      xmanager logs 12.3.train -f      one job of it, while it runs
      xmanager logs 12 --tail 5        the last 5 lines of each job
      xmanager logs 12.3 --attempt 1   before it was restarted
    """
    with session.open_store(readonly=True) as store:
        reader = LogReader(store, where, tail, attempt)
        if follow:
            reader.follow()
        else:
            reader.print()


class Source:
    """The log of one job of one unit."""

    def __init__(self, unit: UnitRecord, task: TaskRecord, tail: int | None, attempt: int) -> None:
        self.path = log_path(unit, task, attempt)
        self._follower = Follower(self.path, tail)
        self._prefixer = Prefixer(f'[{unit.label} {task.task.name}] '.encode())

    @property
    def was_there(self) -> bool:
        return self._follower.seen

    def copy(self, *, prefixed: bool) -> None:
        """Prints what has come since the last time."""
        out = sys.stdout.buffer
        for chunk in self._follower.read():
            out.write(self._prefixer.lines(chunk) if prefixed else chunk)

    def finish(self, *, prefixed: bool) -> None:
        """Prints all that is left."""
        self.copy(prefixed=prefixed)
        sys.stdout.buffer.write(self._prefixer.rest())
        self._follower.close()


class LogReader:
    """The logs of the jobs that an address names."""

    def __init__(self, store: Store, where: Address, tail: int | None, attempt: int | None) -> None:
        self._store = store
        self._where = where
        self._tail = tail
        self._attempt = attempt
        self._sources: dict[tuple[int, str], Source] = {}
        self._finished: set[tuple[int, str]] = set()

    def print(self) -> None:
        """Prints what is there."""
        units = self._find()
        for source in self._sources.values():
            source.finish(prefixed=self._prefixed)
        if not any(source.was_there for source in self._sources.values()):
            self._explain_silence(units)

    def follow(self) -> None:
        """Prints what is there and what comes, until all units have ended."""
        token = None
        units: list[UnitRecord] = []
        refreshed_at = time.monotonic()
        vigil = waiting.Vigil(self._store, [self._where])
        while True:
            # The state first: what a unit printed was all there before it was recorded to have ended.
            if (now := self._store.change_token(self._where.experiment_id)) != token or not units:
                units, token = self._find(), now
            if time.monotonic() > refreshed_at + _REFRESH:
                refreshed_at = time.monotonic()
                self._refresh()
            self._copy(units)
            sys.stdout.flush()
            goes_on = any(unit.is_active for unit in units)
            if not goes_on and not waiting.will_restart(self._store, [self._where]):
                return
            vigil.keep()
            _raise_if_nobody_listens()
            time.sleep(_PERIOD)

    @property
    def _prefixed(self) -> bool:
        return len(self._sources) > 1

    def _find(self) -> list[UnitRecord]:
        units = session.find_units(self._store, self._where)
        for unit in units:
            # A generator's unit has no jobs yet.
            job = self._where.job if unit.tasks else ''
            attempt = self._attempt or unit.attempt
            self._check_attempt(unit, attempt)
            for task in session.find_tasks(unit, job):
                key = (unit.id, task.task.name)
                if key not in self._sources:
                    self._sources[key] = Source(unit, task, self._tail, attempt)
        return units

    def _check_attempt(self, unit: UnitRecord, attempt: int) -> None:
        if self._where.label and attempt > unit.attempt:
            from xmanager.errors import NotFoundError

            raise NotFoundError(
                f'unit {unit.experiment_id}.{unit.label} has no attempt {attempt}: '
                f'its last one is {unit.attempt}'
            )

    def _refresh(self) -> None:
        """Jobs may write on another machine, into a folder that both see."""
        from xmanager.launch.tail import refresh

        for key, source in self._sources.items():
            if key not in self._finished:
                refresh(source.path)

    def _copy(self, units: Iterable[UnitRecord]) -> None:
        active = {unit.id for unit in units if unit.is_active}
        for key, source in self._sources.items():
            if key[0] in active:
                # It may have been restarted.
                self._finished.discard(key)
                source.copy(prefixed=self._prefixed)
            elif key not in self._finished:
                source.finish(prefixed=self._prefixed)
                self._finished.add(key)

    def _explain_silence(self, units: list[UnitRecord]) -> None:
        from xmanager.errors import NotFoundError

        sys.stdout.flush()
        if any(unit.started_at for unit in units) and self._sources:
            gone = next(iter(self._sources.values())).path
            raise NotFoundError(f'the log of {self._where} is gone: there is no {gone}')
        states = ', '.join(sorted({unit.state for unit in units})) or 'without units'
        terminal.note(f'{self._where} is {states}: nothing has started, so there is no log')


def log_path(unit: UnitRecord, task: TaskRecord, attempt: int) -> Path:
    """Where a job's output is kept: `output.log`, and `output.N.log` of attempts before the last."""
    name = 'output.log' if attempt == unit.attempt else f'output.{attempt}.log'
    return task.folder / name


def _raise_if_nobody_listens() -> None:
    """Notices that the reader of a pipe has gone while there is nothing to write, as `tail -f` does."""
    try:
        descriptor = sys.stdout.fileno()
    except io.UnsupportedOperation:
        return
    poll = select.poll()
    poll.register(descriptor, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError
