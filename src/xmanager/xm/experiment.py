"""The eager experiment: units are added by calls, launched at once, and waited for where the context ends."""

from __future__ import annotations

import abc
import contextvars
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from xmanager.xm.apply_args import apply_args, shown_args, validate_job
from xmanager.xm.errors import UsageError
from xmanager.xm.executables import Executable
from xmanager.xm.experiment_unit import ExperimentUnit, WorkUnit, enter_unit
from xmanager.xm.job_operators import is_job_generator
from xmanager.xm.jobs import Job, JobConfig, JobGroup, JobType
from xmanager.xm.metadata import ContextAnnotations, MetadataContext
from xmanager.xm.packageables import Packageable
from xmanager.xm.packaging_queue import PackagingQueue
from xmanager.xm.roles import AuxiliaryUnitJob, ExperimentUnitRole, WorkUnitRole

if TYPE_CHECKING:
    import asyncio

    from xmanager.xm.eager import CoroutineFactory, LoopThread, Pending

P = ParamSpec('P')
R = TypeVar('R')

logger = logging.getLogger(__name__)

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without the cost of importing inspect.

_current_experiment: contextvars.ContextVar[Experiment] = contextvars.ContextVar('xm_experiment')


class DebugInterrupt(BaseException):
    """Raised by a script to leave an experiment's context without waiting for anything."""


def run_in_asyncio_loop(f: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Makes an async function synchronous: `@xm.run_in_asyncio_loop` over an async `main`.

    Works where a loop already runs too (a notebook): the function then runs on a loop in another thread.
    """
    from xmanager.xm.eager import run_in_asyncio_loop as wrap

    return wrap(f)


class Experiment(abc.ABC):
    """An experiment in the making. `with` (or `async with`) it, then `package` and `add`.

    The base holds all that is the same for every implementation: the loop, arguments, generators, roles, errors at
    the exit. Implementations provide the abstract members.
    """

    _packaging: PackagingQueue

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: LoopThread | None = None
        self._pending: list[Pending] = []
        self._added = 0
        self._tokens: list[contextvars.Token[Experiment]] = []
        self._context = MetadataContext(creator='', annotations=ContextAnnotations())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._packaging = PackagingQueue(cls._package)

    # What implementations provide.

    @property
    @abc.abstractmethod
    def experiment_id(self) -> int:
        """Small and sequential; known once the experiment's context was entered."""

    @property
    @abc.abstractmethod
    def work_units(self) -> Mapping[int, WorkUnit]:
        """The work units by id."""

    @classmethod
    @abc.abstractmethod
    def _package(cls, packageables: Sequence[Packageable]) -> list[Executable]:
        """Packages all of them, in parallel where it can; the order is kept."""

    @abc.abstractmethod
    async def _create_unit(
        self,
        job: JobType | None,
        args: Mapping[str, Any],
        role: ExperimentUnitRole,
        identity: str,
    ) -> tuple[ExperimentUnit, bool]:
        """Makes a unit of a checked job (None: a generator will add its jobs) and gives it the next number.

        Returns the existing unit and False if `identity` is not empty and taken. Numbers follow the order of calls.
        """

    async def _generator_ended(self, unit: ExperimentUnit, error: BaseException | None) -> None:
        """Told when a unit's generator has returned or raised; all jobs that it added are known by then."""

    def _check_job(self, job: JobType) -> None:
        """Raises if a job with its arguments applied can never run. Called by `add`, before anything is kept."""

    def _entered(self) -> None:
        """Called when the context is entered, before anything is added."""

    async def _finish(self, error: BaseException | None) -> list[Exception]:
        """Waits for what must be waited for; returns the errors to raise. `error` left the script's block."""
        return []

    def _interrupt(self) -> None:
        """Called from any thread at the first Ctrl-C while `_finish` waits."""

    def _left(self) -> None:
        """Called last, whatever happened."""

    # The context.

    def __enter__(self) -> Self:
        if sys._getframe(1).f_code.co_flags & _CO_COROUTINE:
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
        self._loop = loop
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
        assert self._thread is not None
        interrupted: KeyboardInterrupt | None = None
        leaving = self._thread.call(self._leave(exc))
        if isinstance(exc, KeyboardInterrupt):
            self._interrupt()
        try:
            while True:
                try:
                    leaving.result()
                    break
                except KeyboardInterrupt as error:
                    if interrupted or isinstance(exc, KeyboardInterrupt):
                        raise
                    interrupted = error
                    self._interrupt()
        finally:
            self._close()
        if interrupted:
            raise interrupted

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import asyncio

        interrupted: asyncio.CancelledError | None = None
        leaving = asyncio.ensure_future(self._leave(exc))
        if isinstance(exc, KeyboardInterrupt | asyncio.CancelledError):
            self._interrupt()
        try:
            while True:
                try:
                    await asyncio.shield(leaving)
                    break
                except asyncio.CancelledError as error:
                    if interrupted or isinstance(exc, asyncio.CancelledError):
                        leaving.cancel()
                        raise
                    interrupted = error
                    self._interrupt()
        finally:
            self._close()
        if interrupted:
            raise interrupted

    def _close(self) -> None:
        self._left()
        for token in self._tokens:
            _current_experiment.reset(token)
        self._tokens.clear()
        if self._thread is not None:
            self._thread.close()
            self._thread = None
        self._loop = None
        self._pending.clear()

    async def _leave(self, exc: BaseException | None) -> None:
        if isinstance(exc, DebugInterrupt):
            return
        errors = await self._await_pending()
        errors += await self._finish(exc)
        if exc is None and self._added == 0:
            logger.warning('No work units were added to experiment %s.', self.experiment_id)
        if exc is not None:  # The script's own error goes on its way; ours must not hide it.
            _log(errors)
        elif errors:
            _log(errors[1:])
            raise errors[0]

    async def _await_pending(self) -> list[Exception]:
        """Waits for all that was added, also meanwhile; returns the errors that the script has not seen."""
        import asyncio

        errors: list[Exception] = []
        while self._pending:
            pending = self._pending.pop(0)
            await asyncio.wait([asyncio.wrap_future(pending.done)])
            if pending.done.cancelled():
                logger.warning('An addition to experiment %s was cancelled.', self.experiment_id)
            elif (error := pending.done.exception()) and not pending.noted:
                if not isinstance(error, Exception):
                    raise error
                if not any(error is known for known in errors):
                    errors.append(error)
        return errors

    # Packaging.

    @classmethod
    def package(cls, packageables: Sequence[Packageable] = ()) -> list[Executable]:
        """Packages all of them, and what `package_async` has queued, in parallel; returns them in order."""
        return cls._packaging.package(packageables)

    @classmethod
    def package_async(cls, packageable: Packageable) -> Awaitable[Executable]:
        """Queues one for the next `package()` call; await the result after that call."""
        return cls._packaging.queue(packageable)

    # Adding.

    def add(
        self,
        job: JobType | AuxiliaryUnitJob,
        args: Mapping[str, Any] | None = None,
        *,
        role: ExperimentUnitRole | None = None,
        identity: str = '',
    ) -> Any:
        """Adds a unit and launches it; returns an awaitable future of the unit (`.result()` works in sync code).

        `args` override the job's: `args` and `env_vars` for a Job, names of jobs for a group, keyword arguments
        for a generator. `identity`, if given, adds only if no unit of that identity exists. Raises at once, with
        nothing added, for bad arguments and for what can never run.
        """
        self._require_open()
        if isinstance(job, AuxiliaryUnitJob):
            job, role = job.job, role or job.role
        role = role or WorkUnitRole()
        validate_job(job)
        if is_job_generator(job):
            create = self._generator_unit(cast(Callable[..., Any], job), args, role, identity)
        elif isinstance(job, JobConfig):
            create = self._job_unit(job, dict(args or {}), role, identity)
        else:
            prepared = apply_args(cast(Job | JobGroup, job), args)
            self._check_job(prepared)
            create = self._job_unit(prepared, shown_args(job, args), role, identity)
        if isinstance(role, WorkUnitRole):
            self._added += 1
        return self._schedule(create)

    def _job_unit(
        self, job: JobType, args: Mapping[str, Any], role: ExperimentUnitRole, identity: str
    ) -> CoroutineFactory:
        async def create() -> ExperimentUnit:
            unit, _ = await self._create_unit(job, args, role, identity)
            return unit

        return create

    def _generator_unit(
        self,
        generator: Callable[..., Any],
        args: Mapping[str, Any] | None,
        role: ExperimentUnitRole,
        identity: str,
    ) -> CoroutineFactory:
        async def create() -> ExperimentUnit:
            unit, _ = await self._create_unit(None, dict(args or {}), role, identity)
            enter_unit(unit)
            try:
                await generator(unit, **(args or {}))
                while unit._nested:
                    await unit._nested.pop(0)
            except BaseException as error:
                await self._generator_ended(unit, error)
                raise
            await self._generator_ended(unit, None)
            return unit

        return create

    def _schedule(self, create: CoroutineFactory) -> Any:
        from xmanager.xm.eager import Pending, future_for_caller, running_loop

        loop = self._require_open()
        pending = Pending(create)
        self._pending.append(pending)
        if running_loop() is loop:
            pending.start(loop)
        else:
            loop.call_soon_threadsafe(pending.start, loop)
        return future_for_caller(pending)

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

    # Looking back.

    @property
    def work_unit_count(self) -> int:
        """How many work units the experiment has, those just being added included."""
        return self._added

    @property
    def context(self) -> MetadataContext:
        """Free annotations of the experiment."""
        return self._context


def _log(errors: Sequence[Exception]) -> None:
    for error in errors:
        logger.error('%s: %s', type(error).__name__, error)


def refuse_job_config(job: object) -> UsageError:
    """The error of an implementation that has no use for a JobConfig."""
    return UsageError(
        f'{type(job).__name__} is a JobConfig of another implementation of the launch API. '
        'Add an xm.Job, an xm.JobGroup or a job generator.'
    )
