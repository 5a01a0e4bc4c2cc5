"""The loop behind an experiment: one async core that serves sync and async scripts alike."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec('P')
R = TypeVar('R')

_SLICE = 0.2  # Seconds.

CoroutineFactory = Callable[[], Coroutine[Any, Any, Any]]


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread, or None."""
    return asyncio._get_running_loop()


class Pending:
    """One piece of work of the eager core, and whether the script has taken note of how it ended."""

    def __init__(
        self,
        coroutine: CoroutineFactory,
        loop: asyncio.AbstractEventLoop,
        succeeded: Callable[[Pending], None] = lambda _: None,
    ) -> None:
        self.done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.noted = False
        self._coroutine = coroutine
        self._loop = loop
        self._succeeded = succeeded
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the work in its loop; may be called from any thread."""
        if running_loop() is self._loop:
            self._start()
        else:
            self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run(), context=self._context)
        self._task.add_done_callback(self._ended)

    async def _run(self) -> None:
        try:
            result = await self._coroutine()
        except asyncio.CancelledError:
            raise
        # SystemExit too: let out of the task, it would kill the loop's thread.
        except BaseException as error:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)
            self._succeeded(self)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.done.cancel()
            self.done.set_running_or_notify_cancel()

    def cancel(self) -> None:
        """Cancels the work; may be called from any thread, also when the loop has not started it yet."""
        if not self.done.done() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def wait(self, seconds: float) -> None:
        """Waits for the end, so long at most, in a thread without a loop."""
        concurrent.futures.wait([self.done], seconds)

    async def ended(self) -> None:
        """Waits for the end, in any loop, however the work ends."""
        await asyncio.wait([AsyncFuture(self, asyncio.get_running_loop())])

    def take_unseen_error(self) -> BaseException | None:
        """The error with which the work ended, if the script has not seen it; told once."""
        if self.noted or self.done.cancelled():
            return None
        self.noted = True
        return self.done.exception()


class Inbox:
    """Work that other threads hand over to a loop, which is woken once for all that has come until it looks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._coming: collections.deque[Pending] = collections.deque()
        self._is_called = False

    def start(self, pending: Pending) -> None:
        """As `pending.start()`; what one thread hands over is started in its order."""
        if running_loop() is self._loop:
            pending.start()
            return
        self._coming.append(pending)
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon_threadsafe(self._start_all)

    def _start_all(self) -> None:
        # Before the first is taken: whoever finds it set has put his work where it is still going to be looked for.
        self._is_called = False
        while self._coming:
            self._coming.popleft().start()


class LoopThread:
    """An event loop in a thread of its own, for scripts that have none."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name='xmanager', daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, R]) -> concurrent.futures.Future[R]:
        """Runs a coroutine there; the future can be waited for from any other thread."""
        pending = Pending(lambda: coroutine, self.loop)
        pending.start()
        return pending.done

    def close(self) -> None:
        """Cancels what still runs, waits for its end, and ends the loop and its thread."""
        try:
            self.call(_cancel_all_others()).result()
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


def result_of(future: concurrent.futures.Future[R]) -> R:
    """Waits for the result in slices.

    A signal that comes between Python's last look for signals and the system's wait is seen only when the wait ends:
    Ctrl-C would have to be pressed twice.
    """
    while not future.done():
        concurrent.futures.wait([future], _SLICE)
    return future.result()


async def _cancel_all_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class SyncFuture(concurrent.futures.Future[Any]):
    """What `add` returns to a script without a loop: `.result()` waits, and it can be awaited later too."""

    def __init__(self, pending: Pending) -> None:
        super().__init__()
        self._pending = pending
        pending.done.add_done_callback(self._copy)

    def _copy(self, source: concurrent.futures.Future[Any]) -> None:
        if source.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
        elif error := source.exception():
            self.set_exception(error)
        else:
            self.set_result(source.result())

    def result(self, timeout: float | None = None) -> Any:
        try:
            return super().result(timeout)
        finally:
            self._pending.noted |= self.done()  # Not if it only timed out.

    def exception(self, timeout: float | None = None) -> BaseException | None:
        try:
            return super().exception(timeout)
        finally:
            self._pending.noted |= self.done()

    def cancel(self) -> bool:
        """Asks the work to end; the future is cancelled once it has."""
        if self.done():
            return self.cancelled()
        self._pending.cancel()
        return True

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self).__await__()


class AsyncFuture(asyncio.Future[Any]):
    """What `add` returns to a script with a loop: an asyncio future of that loop."""

    def __init__(self, pending: Pending, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._pending = pending
        pending.done.add_done_callback(self._arrived)

    def _arrived(self, source: concurrent.futures.Future[Any]) -> None:
        loop = self.get_loop()
        if running_loop() is loop:
            self._copy(source)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._copy, source)

    def _copy(self, source: concurrent.futures.Future[Any]) -> None:
        if self.done():
            return
        if source.cancelled():
            super().cancel()
        elif error := source.exception():
            self.set_exception(error)
            super().exception()  # Errors nobody awaited are raised when the context is left: no second report.
        else:
            self.set_result(source.result())

    def result(self) -> Any:
        self._pending.noted |= self.done()
        return super().result()

    def exception(self) -> BaseException | None:
        self._pending.noted |= self.done()
        return super().exception()

    def cancel(self, msg: Any = None) -> bool:
        self._pending.cancel()
        return super().cancel(msg)

    def __await__(self) -> Generator[Any, None, Any]:
        self._pending.noted = True
        return super().__await__()

    __iter__ = __await__


def future_for_caller(pending: Pending) -> Any:
    """A future that suits the calling thread: SyncFuture without a running loop, AsyncFuture with one."""
    loop = running_loop()
    return SyncFuture(pending) if loop is None else AsyncFuture(pending, loop)


async def await_in(loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[R]]) -> R:
    """Awaits `function()` in another loop than the running one (or in the running one, if it is the same)."""
    if asyncio.get_running_loop() is loop:
        return await function()

    async def call() -> R:
        return await function()

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), loop))


def run_in_asyncio_loop(f: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Makes an async function synchronous, also where a loop already runs (then it runs in another thread)."""

    @functools.wraps(f)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if running_loop() is None:
            return asyncio.run(f(*args, **kwargs))
        thread = LoopThread()
        try:
            return result_of(thread.call(f(*args, **kwargs)))
        finally:
            thread.close()

    return run
