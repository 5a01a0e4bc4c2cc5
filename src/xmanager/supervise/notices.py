"""Tells whom `--xm_notify` names of failed units and of the experiment's end, by processes that nobody waits for."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final, Protocol

import attrs

VARIABLE: Final = 'XM_NOTIFY'

_AT_ONCE: Final = 5  # Notices a process delivers: at 10 s each, it ends by itself in good time.
_SECONDS: Final = 60.0  # That such a process may take in all.
_GRACE: Final = 5.0  # From SIGTERM to SIGKILL.
_STALE: Final = 300.0  # Failures that have waited so long are no news: the target can't keep up.
_TOLD: Final = 500  # Characters of what a failed process has said.

_UNIT_FAILED: Final = 'unit-failed'
_EXPERIMENT_ENDED: Final = 'experiment-ended'


class Process(Protocol):
    """A process that leads a group of its own: what is asked of subprocess.Popen."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...


Spawn = Callable[[Sequence[str], Mapping[str, str], IO[bytes]], Process]


def spawn(argv: Sequence[str], environ: Mapping[str, str], errors: IO[bytes]) -> Process:
    """Starts a process in a session of its own, with its standard error in a file."""
    import subprocess  # Here, as tempfile below: few supervisors have anybody to tell.

    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=dict(environ),
        start_new_session=True,
    )


@attrs.define
class _Helper:
    """A process that delivers `what`."""

    process: Process
    errors: IO[bytes]
    what: str
    deadline: float
    is_late: bool = False

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        from subprocess import TimeoutExpired

        self.signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=1)
        except TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def said(self) -> str:
        """What it wrote to its standard error, in one line: the last of it if that is much."""
        size = self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, size - 4 * _TOLD))
        lines = self.errors.read().decode(errors='replace').splitlines()
        words = '; '.join(line.removeprefix('xmanager: ').strip() for line in lines)
        return ''.join(c if c.isprintable() else ' ' for c in words[-_TOLD:])


class Notices:
    """What is to be told of one experiment, and the one process at a time that tells it.

    `environ` is that of the supervisor: without XM_NOTIFY in it, nothing is ever pending. `log` is given one line for
    what could not be told; nothing here raises, and no notice is tried twice.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        experiment_id: int,
        log: Callable[[str], None],
        *,
        spawn: Spawn = spawn,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environ = environ
        self._id = experiment_id
        self._log = log
        self._spawn = spawn
        self._clock = clock
        self._is_wanted = bool(environ.get(VARIABLE, '').strip())
        self._failed: dict[str, float] = {}  # Labels of units, and when we heard of each.
        self._has_ended = False
        self._helper: _Helper | None = None

    def unit_failed(self, label: str) -> None:
        """A unit has failed or is lost, for good."""
        if self._is_wanted:
            self._failed.setdefault(label, self._clock())

    def experiment_ended(self) -> None:
        """No unit of the experiment is active any more."""
        self._has_ended = self._is_wanted

    @property
    def pending(self) -> bool:
        """Whether something is still to be told: the supervisor stays, and calls `poll`."""
        return self._helper is not None or bool(self._failed) or self._has_ended

    def poll(self) -> None:
        """Starts what is due and looks after what was started. Returns at once."""
        if self._helper is not None:
            self._look_after(self._helper)
        if self._helper is None and self._failed:
            self._forget_stale()
            self._tell_of_failures()
        if self._helper is None and not self._failed and self._has_ended:
            self._has_ended = False
            self._start([str(self._id)], _EXPERIMENT_ENDED)

    def close(self) -> None:
        """Ends the process that delivers, if there is one, and forgets the rest. Takes a second at most."""
        if self._helper is not None:
            self._helper.end()
            self._log(f'notice not delivered, for the supervisor ends: {self._helper.what}')
            self._let_go(self._helper)
        self._failed.clear()
        self._has_ended = False

    def _tell_of_failures(self) -> None:
        labels = [*self._failed][:_AT_ONCE]
        for label in labels:
            del self._failed[label]
        if labels:
            self._start([f'{self._id}.{label}' for label in labels], _UNIT_FAILED)

    def _forget_stale(self) -> None:
        stale = [at for at in self._failed.values() if self._clock() - at > _STALE]
        if stale:
            # In the order in which they were heard of, the oldest are the first.
            self._failed = dict([*self._failed.items()][len(stale) :])
            self._log(
                f'notices not delivered, for {VARIABLE} takes too long: {len(stale)} failed units'
            )

    def _start(self, addresses: Sequence[str], event: str) -> None:
        import tempfile

        argv = [sys.executable, '-P', '-m', 'xmanager', 'notify', *addresses, '--event', event]
        what = f'{event} of {", ".join(addresses)}'
        with contextlib.ExitStack() as stack:
            try:
                errors = stack.enter_context(tempfile.TemporaryFile())
                process = self._spawn(argv, self._environ, errors)
            except OSError as error:
                self._log(f'notice not delivered: {what}: {error}')
                return
            self._helper = _Helper(process, errors, what, self._clock() + _SECONDS)
            stack.pop_all()  # It keeps its file.

    def _look_after(self, helper: _Helper) -> None:
        code = helper.process.poll()
        if code is None:
            self._hurry(helper)
            return
        if code and helper.is_late:
            self._log(f'notice not delivered within {_SECONDS:g} s: {helper.what}')
        elif code:
            said = helper.said() or f'{helper.what} (exit code {code})'
            self._log(f'notice not delivered: {said}')
        self._let_go(helper)

    def _hurry(self, helper: _Helper) -> None:
        if self._clock() < helper.deadline:
            return
        helper.signal(signal.SIGKILL if helper.is_late else signal.SIGTERM)
        helper.is_late = True
        helper.deadline = self._clock() + _GRACE

    def _let_go(self, helper: _Helper) -> None:
        helper.errors.close()
        self._helper = None
