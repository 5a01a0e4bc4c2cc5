"""The loop behind an experiment: one async core that serves sync and async scripts alike."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec('P')
R = TypeVar('R')

CoroutineFactory = Callable[[], Coroutine[Any, Any, Any]]


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread, or None."""
    return asyncio._get_running_loop()


class LoopThread:
    """An event loop in a thread of its own, for scripts that have none."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name='xmanager', daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, R]) -> concurrent.futures.Future[R]:
        """Runs a coroutine there; the future can be waited for from any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def close(self) -> None:
        """Ends the loop and its thread; tasks that still run are cancelled."""
        self.loop.call_soon_threadsafe(self._cancel_and_stop)
        self._thread.join()
        self.loop.close()

    def _cancel_and_stop(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.call_soon(self.loop.stop)


class Pending:
    """One piece of work of the eager core, and whether the script has taken note of how it ended."""

    def __init__(self, coroutine: CoroutineFactory) -> None:
        self.coroutine = coroutine
        self.context = contextvars.copy_context()
        self.done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.noted = False
        self.task: asyncio.Task[Any] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the work; must be called in the loop's thread."""
        self.task = self.context.run(loop.create_task, self.coroutine())
        self.task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.done.cancel()
            self.done.set_running_or_notify_cancel()
        elif error := task.exception():
            self.done.set_exception(error)
        else:
            self.done.set_result(task.result())

    def cancel(self) -> None:
        if self.task is not None:
            self.task.get_loop().call_soon_threadsafe(self.task.cancel)


class SyncFuture(concurrent.futures.Future[Any]):
    """What `add` returns to a script without a loop: `.result()` waits, and it can be awaited later too."""

    def __init__(self, pending: Pending) -> None:
        super().__init__()
        self._pending = pending
        pending.done.add_done_callback(self._copy)

    def _copy(self, source: concurrent.futures.Future[Any]) -> None:
        if self.cancelled():
            return
        if source.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
        elif error := source.exception():
            self.set_exception(error)
        else:
            self.set_result(source.result())

    def result(self, timeout: float | None = None) -> Any:
        self._pending.noted = True
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._pending.noted = True
        return super().exception(timeout)

    def cancel(self) -> bool:
        self._pending.cancel()
        return super().cancel()

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
        self._pending.noted = True
        return super().result()

    def exception(self) -> BaseException | None:
        self._pending.noted = True
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
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            context = contextvars.copy_context()
            return executor.submit(context.run, asyncio.run, f(*args, **kwargs)).result()

    return run
