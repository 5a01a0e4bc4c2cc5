"""The context of an experiment: a loop while it is open, and what is waited for where it ends."""

from __future__ import annotations

import abc
import contextlib
import contextvars
import inspect
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    import logging

    from xmanager.xm.eager import CoroutineFactory, Inbox, LoopThread, Pending

R = TypeVar('R')


_MOST_PENDING = 500
_LONGEST_HOLD = 0.1  # Seconds; the newest may be a generator that takes its time.

_CO_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

_current_experiment: contextvars.ContextVar[ExperimentContext] = contextvars.ContextVar(
    'xm_experiment'
)


class DebugInterrupt(BaseException):
    """Raised by a script to leave an experiment's context without waiting for anything."""


class ExperimentContext(abc.ABC):
    """What `with experiment:` and `async with experiment:` do; the base of `xm.Experiment`.

    Work is scheduled in one loop: the script's own, or that of a thread which lives as long as the context.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: Inbox | None = None
        self._thread: LoopThread | None = None
        # In the order of the calls; ended ones only if they failed.
        self._pending: dict[Pending, None] = {}
        self._newest: Pending | None = None
        self._generators: set[asyncio.Task[Any]] = set()
        self._interrupted = False
        self._tokens: list[contextvars.Token[ExperimentContext]] = []

    # What implementations provide.

    @property
    @abc.abstractmethod
    def experiment_id(self) -> int:
        """Small and sequential; known once the experiment's context was entered."""

    @property
    @abc.abstractmethod
    def work_unit_count(self) -> int:
        """How many work units the experiment has, those just being added included."""

    def _entered(self) -> None:
        """Called when the context is entered, before anything is added."""

    async def _finish(self, error: BaseException | None) -> list[Exception]:
        """Waits for what must be waited for; returns the errors to raise. `error` left the script's block."""
        return []

    def _interrupt(self) -> None:
        """Called from any thread at the first Ctrl-C while `_finish` waits."""

    def _left(self) -> None:
        """Called last, whatever happened."""

    @property
    def is_async(self) -> bool:
        """Whether the open context is that of an `async with`."""
        return self._thread is None

    # Entering and leaving.

    def __enter__(self) -> Self:
        if sys._getframe(1).f_code.co_flags & _CO_ASYNC:
            raise RuntimeError(
                'with experiment: inside a coroutine would block its loop. Use `async with` instead.'
            )
        from xmanager.xm.eager import LoopThread

        self._refuse_twice()
        self._thread = LoopThread()
        self._enter(self._thread.loop)
        return self

    async def __aenter__(self) -> Self:
        import asyncio

        self._refuse_twice()
        self._enter(asyncio.get_running_loop())
        return self

    def _refuse_twice(self) -> None:
        if self._loop is not None:
            raise RuntimeError('This experiment is open already: its context was entered before.')

    def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        from xmanager.xm.eager import Inbox

        self._loop = loop
        self._inbox = Inbox(loop)
        self._interrupted = False
        try:
            self._entered()
        except BaseException:
            self._close()
            raise
        self._tokens.append(_current_experiment.set(self))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            error = self._wait_to_leave(exc)
        finally:
            self._close()
        if error is not None:
            raise error

    def _wait_to_leave(self, exc: BaseException | None) -> BaseException | None:
        """Returns the error to raise; that is the first Ctrl-C, once the wait is over. The second is raised at once."""
        from xmanager.xm.eager import result_of

        assert self._thread is not None
        interrupt = exc if isinstance(exc, KeyboardInterrupt) else None
        leaving: concurrent.futures.Future[BaseException | None] | None = None
        while True:
            try:  # Ctrl-C may come at any instruction.
                if interrupt and not self._interrupted:
                    self._stop_adding()
                leaving = leaving or self._thread.call(self._leave(exc))
                error = result_of(leaving)
                return error if interrupt is None or interrupt is exc else interrupt
            except KeyboardInterrupt as pressed:
                if interrupt is not None:
                    raise
                interrupt = pressed

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import asyncio

        interrupted: BaseException | None = None
        leaving = asyncio.ensure_future(self._leave(exc))
        if isinstance(exc, KeyboardInterrupt | asyncio.CancelledError):
            self._stop_adding()
        try:
            while True:
                try:
                    error = await asyncio.shield(leaving)
                    break
                except asyncio.CancelledError as interrupt:
                    if interrupted or isinstance(exc, asyncio.CancelledError):
                        leaving.cancel()
                        raise
                    interrupted = interrupt
                    self._stop_adding()
        finally:
            self._close()
        if error := interrupted or error:
            raise error

    def _stop_adding(self) -> None:
        """At the first Ctrl-C: the script's generators end too, for it is script code that is interrupted."""
        self._interrupted = True
        self._interrupt()
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._cancel_generators)

    def _cancel_generators(self) -> None:
        for task in self._generators:
            task.cancel()

    def _close(self) -> None:
        for pending in list(self._pending):  # Something is left only if nothing was waited for.
            pending.cancel()
        self._pending.clear()
        self._newest = None
        try:
            self._left()
        finally:
            for token in self._tokens:
                with contextlib.suppress(ValueError):  # Left in another context than entered in.
                    _current_experiment.reset(token)
            self._tokens.clear()
            thread, self._thread, self._loop = self._thread, None, None
            if thread is not None:
                thread.close()

    async def _leave(self, exc: BaseException | None) -> BaseException | None:
        """Waits for all that must be waited for; returns the error to raise, after logging the others."""
        if isinstance(exc, DebugInterrupt):
            return None
        errors = await self._await_pending()
        errors += await self._finish(exc)
        if exc is None and self.work_unit_count == 0:
            _logger().warning('No work units were added to experiment %s.', self.experiment_id)
        if exc is not None:  # The script's own error goes on its way; ours must not hide it.
            _log(errors)
            return None
        _log(errors[1:])
        return errors[0] if errors else None

    async def _await_pending(self) -> list[BaseException]:
        """Waits for all that was added, also meanwhile; returns the errors that the script has not seen."""
        errors: list[BaseException] = []
        while self._pending:
            pending = next(iter(self._pending))
            await pending.ended()
            self._pending.pop(pending, None)
            error = pending.take_unseen_error()
            if pending.done.cancelled():
                _logger().warning('An addition to experiment %s was cancelled.', self.experiment_id)
            elif error is not None and not any(error is known for known in errors):
                errors.append(error)
        return errors

    # Running.

    def _schedule(self, create: CoroutineFactory) -> Pending:
        from xmanager.xm.eager import Pending

        pending = Pending(create, self._require_open(), self._forget)
        self._pending[pending] = None
        self._newest = pending
        assert self._inbox is not None
        self._inbox.start(pending)
        return pending

    def _forget(self, pending: Pending) -> None:
        """Drops what has ended well: a script may add very many units."""
        self._pending.pop(pending, None)

    def _wait_for_room(self) -> None:
        """Holds up a script that adds units much faster than they can be written. For sync scripts."""
        from xmanager.xm.eager import running_loop

        if len(self._pending) < _MOST_PENDING or running_loop() is not None:
            return
        # Not looked up in `_pending`, which the loop's thread may be changing.
        if self._newest is not None:
            self._newest.wait(_LONGEST_HOLD)

    def _require_open(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError(
                'Units can be added only inside the context of the experiment: `with experiment:` or '
                '`async with experiment:`.'
            )
        return self._loop

    async def _await_elsewhere(self, function: Callable[[], Awaitable[R]]) -> R:
        """Awaits in the experiment's own loop while it is open, in the caller's otherwise."""
        from xmanager.xm.eager import await_in, running_loop

        loop = self._loop or running_loop()
        assert loop is not None
        return await await_in(loop, function)

    async def _interruptible(
        self, run_generator: Callable[[], Awaitable[BaseException | None]]
    ) -> BaseException | None:
        """Runs a generator, which knows its experiment and is cancelled by Ctrl-C; returns its error."""
        import asyncio

        if self._interrupted:
            return asyncio.CancelledError()
        _current_experiment.set(self)
        task = cast('asyncio.Task[Any]', asyncio.current_task())
        self._generators.add(task)
        try:
            return await run_generator()
        finally:
            self._generators.discard(task)


def _log(errors: Sequence[BaseException]) -> None:
    for error in errors:
        _logger().error('%s: %s', type(error).__name__, error)


def _logger() -> logging.Logger:
    import logging  # Late: costs several milliseconds, and most scripts never get here.

    return logging.getLogger(__name__)
