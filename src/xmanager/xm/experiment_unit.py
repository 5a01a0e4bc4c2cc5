"""Units of an experiment: what a script holds in its hand after `experiment.add`."""

from __future__ import annotations

import abc
import contextvars
import functools
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, cast

from xmanager.xm.additions import check_addition
from xmanager.xm.apply_args import apply_args, validate_job
from xmanager.xm.generator_args import checked_generator_args
from xmanager.xm.job_operators import is_job_generator
from xmanager.xm.jobs import Job, JobGroup, JobType, LaunchedJob
from xmanager.xm.metadata import ContextAnnotations, MetadataContext
from xmanager.xm.roles import ExperimentUnitRole
from xmanager.xm.status import ExperimentUnitStatus

if TYPE_CHECKING:
    import asyncio

    from xmanager.xm.eager import Pending
    from xmanager.xm.experiment import Experiment


_current_unit: contextvars.ContextVar[ExperimentUnit] = contextvars.ContextVar('xm_unit')


def current_unit() -> ExperimentUnit | None:
    """The unit whose job generator is running here, or None."""
    return _current_unit.get(None)


def enter_unit(unit: ExperimentUnit) -> None:
    """Makes `unit` the current one for the rest of the running task."""
    _current_unit.set(unit)


class ExperimentUnit(abc.ABC):
    """One unit: jobs that start together, with arguments, a role and a status.

    Implementations of the launch API provide the abstract members.
    """

    def __init__(
        self,
        experiment: Experiment,
        number: int,
        args: Mapping[str, Any] | None,
        role: ExperimentUnitRole,
        identity: str = '',
    ) -> None:
        self.experiment = experiment
        self._number = number
        self._args = dict(args or {})
        self._role = role
        self._identity = identity
        self._context = MetadataContext(creator='', annotations=ContextAnnotations())
        self._nested: list[Pending] = []

    @property
    def experiment_id(self) -> int:
        return self.experiment.experiment_id

    @property
    def args(self) -> Mapping[str, Any]:
        """The hyperparameters of this unit, as given to `add`."""
        return self._args

    @property
    def role(self) -> ExperimentUnitRole:
        return self._role

    @property
    def identity(self) -> str:
        """The name under which this unit was added if absent, or ''."""
        return self._identity

    @property
    def context(self) -> MetadataContext:
        return self._context

    @property
    @abc.abstractmethod
    def experiment_unit_name(self) -> str:
        """`{experiment}_{unit}`; the part of a job's full name that all jobs of the unit share."""

    def get_full_job_name(self, job_name: str) -> str:
        """The name of a job over all experiments: `{experiment}_{unit}_{job}`."""
        return f'{self.experiment_unit_name}_{job_name}'

    def add(
        self, job: JobType, args: Mapping[str, Any] | None = None, *, identity: str = ''
    ) -> Awaitable[None]:
        """Adds jobs to this unit; for use by the unit's generator.

        Jobs added before the generator ends start together. Raises ValueError or TypeError at once for a bad job
        or bad arguments.
        """
        from xmanager.xm.eager import future_for_caller

        # A unit is added once; `identity` exists for symmetry with Experiment.add.
        check_addition(args, None, identity)
        validate_job(job)
        if is_job_generator(job):
            pending = self.experiment._schedule(
                functools.partial(self._nested_generator, job, checked_generator_args(job, args))
            )
        else:
            prepared = apply_args(cast(Job | JobGroup, job), args)
            self.experiment._prepare_job(prepared, self._role)
            pending = self.experiment._schedule(functools.partial(self._launch, prepared))
        self._nested.append(pending)
        return cast(Awaitable[None], future_for_caller(pending))

    async def _nested_generator(
        self, generator: Callable[..., Any], args: Mapping[str, Any]
    ) -> None:
        enter_unit(self)
        await generator(self, **args)

    async def _run_generator(
        self, generator: Callable[..., Any], args: Mapping[str, Any]
    ) -> BaseException | None:
        """Runs the unit's generator and all that it adds here, to the end; returns the first error."""
        import asyncio

        error: BaseException | None = None
        try:
            await self._nested_generator(generator, args)
        except BaseException as raised:
            error = raised
        while self._nested:
            pending = self._nested.pop(0)
            if isinstance(error, asyncio.CancelledError):
                pending.cancel()
            await pending.ended()
            error = error or pending.take_unseen_error()
        return error

    @property
    @abc.abstractmethod
    def launched_jobs(self) -> list[LaunchedJob]:
        """Jobs of this unit with their addresses and logs, as far as known."""

    @abc.abstractmethod
    async def _launch(self, job: JobType) -> None:
        """Takes a checked job or group with its arguments applied."""

    @abc.abstractmethod
    def stop(
        self,
        *,
        mark_as_failed: bool = False,
        mark_as_completed: bool = False,
        message: str | None = None,
    ) -> None:
        """Asks the unit to end. Repeat calls, and calls after its end, do nothing."""

    @abc.abstractmethod
    def get_status(self) -> ExperimentUnitStatus:
        """How the unit fares, as recorded at this moment."""

    @abc.abstractmethod
    async def _wait(self) -> None:
        """Returns when the unit has completed; raises one of the ExperimentUnitError family otherwise."""

    def wait_until_complete(self) -> Awaitable[ExperimentUnit]:
        """Awaits the end of the unit and returns it.

        Raises ExperimentUnitFailedError if a job failed, ExperimentUnitNotCompletedError if it was stopped or its
        end can't be known, ExperimentUnitError if it could not be created.
        """
        return self._wait_and_return()

    async def _wait_and_return(self) -> ExperimentUnit:
        await self.experiment._await_elsewhere(self._wait)
        return self


class WorkUnitCompletedAwaitable:
    """Awaits the end of a work unit, and tells which one it is: `.work_unit`.

    It can be given to `asyncio.wait`, `as_completed`, `gather` and `wait_for`, which hand back this very object, so
    `.work_unit` is there on what is done. Nothing runs before it is first used.
    """

    # asyncio's mark of a future: it is used as it is, not wrapped.
    _asyncio_future_blocking = False

    def __init__(self, work_unit: WorkUnit, awaitable: Callable[[], Any]) -> None:
        self.work_unit = work_unit
        self._awaitable = awaitable
        self._task: asyncio.Future[WorkUnit] | None = None
        self._wrapped: dict[Any, Any] = {}

    def _started(self) -> asyncio.Future[WorkUnit]:
        if self._task is None:
            import asyncio

            self._task = asyncio.ensure_future(self._awaitable())
        return self._task

    def __await__(self) -> Generator[Any, None, WorkUnit]:
        return self._started().__await__()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._started().get_loop()

    def done(self) -> bool:
        return self._started().done()

    def cancelled(self) -> bool:
        return self._started().cancelled()

    def cancel(self, msg: str | None = None) -> bool:
        return self._started().cancel(msg)

    def result(self) -> WorkUnit:
        return self._started().result()

    def exception(self) -> BaseException | None:
        return self._started().exception()

    def _make_cancelled_error(self) -> BaseException:
        import asyncio

        return asyncio.CancelledError()  # What asyncio.gather asks its futures for.

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        wrapped = self._wrapped[callback] = lambda _: callback(self)
        self._started().add_done_callback(wrapped, context=context)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        wrapped = self._wrapped.pop(callback, None)
        return self._started().remove_done_callback(wrapped) if wrapped else 0


class WorkUnit(ExperimentUnit):
    """A unit that does the experiment's work."""

    @property
    def work_unit_id(self) -> int:
        """Counts from 1 in the order in which the units were added."""
        return self._number

    def __repr__(self) -> str:
        return f'WorkUnit(experiment_id={self.experiment_id}, work_unit_id={self._number})'

    @property
    def experiment_unit_name(self) -> str:
        return f'{self.experiment_id}_{self._number}'

    def wait_until_complete(self) -> WorkUnitCompletedAwaitable:
        """As for every unit; the awaitable also has `.work_unit`."""
        return WorkUnitCompletedAwaitable(self, self._wait_and_return)


class AuxiliaryUnit(ExperimentUnit):
    """A unit that serves the work units."""

    @property
    def auxiliary_unit_id(self) -> int:
        """Counts from 1 in the order in which the auxiliary units were added."""
        return self._number

    def __repr__(self) -> str:
        return (
            f'AuxiliaryUnit(experiment_id={self.experiment_id}, auxiliary_unit_id={self._number})'
        )

    @property
    def experiment_unit_name(self) -> str:
        return f'{self.experiment_id}_auxiliary'
