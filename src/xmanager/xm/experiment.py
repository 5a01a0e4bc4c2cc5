"""The eager experiment: units are added by calls and launched at once."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from xmanager.errors import UsageError
from xmanager.xm.additions import check_addition, check_nesting
from xmanager.xm.apply_args import apply_args, shown_args, validate_job
from xmanager.xm.executables import Executable
from xmanager.xm.experiment_context import ExperimentContext
from xmanager.xm.experiment_unit import ExperimentUnit, WorkUnit
from xmanager.xm.generator_args import checked_generator_args
from xmanager.xm.job_operators import is_job_generator
from xmanager.xm.jobs import Job, JobConfig, JobGroup, JobType
from xmanager.xm.metadata import ContextAnnotations, MetadataContext
from xmanager.xm.packageables import Packageable
from xmanager.xm.packaging_queue import PackagingQueue
from xmanager.xm.roles import AuxiliaryUnitJob, ExperimentUnitRole, WorkUnitRole

if TYPE_CHECKING:
    from xmanager.xm.eager import CoroutineFactory

P = ParamSpec('P')
R = TypeVar('R')


def run_in_asyncio_loop(f: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Makes an async function synchronous: `@xm.run_in_asyncio_loop` over an async `main`.

    Works where a loop already runs too (a notebook): the function then runs on a loop in another thread.
    """
    from xmanager.xm.eager import run_in_asyncio_loop as wrap

    return wrap(f)


class Experiment(ExperimentContext):
    """An experiment in the making. `with` (or `async with`) it, then `package` and `add`.

    The base holds all that is the same for every implementation: arguments, generators, roles, packaging.
    Implementations provide the abstract members.
    """

    _packaging: PackagingQueue

    def __init__(self) -> None:
        super().__init__()
        self._added = 0
        self._context = MetadataContext(creator='', annotations=ContextAnnotations())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._packaging = PackagingQueue(cls._package)

    # What implementations provide, beside the hooks of the context.

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
        job: Any,
        args: Mapping[str, Any],
        role: ExperimentUnitRole,
        identity: str,
    ) -> tuple[ExperimentUnit, bool]:
        """Makes a unit of a prepared job (None: a generator will add its jobs) and gives it the next number.

        Returns the existing unit and False if `identity` is not empty and taken. Numbers follow the order of calls.
        """

    async def _generator_ended(self, unit: ExperimentUnit, error: BaseException | None) -> None:
        """Told when a unit's generator has returned or raised; all jobs that it added are known by then."""

    def _prepare_job(self, job: JobType, role: ExperimentUnitRole) -> Any:
        """Called by `add`, before anything is kept: raises if a job with its arguments applied can never run.

        `job` is a copy that nobody else has. What is returned, such as the job itself, is given to `_create_unit`.
        """
        return job

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
        from xmanager.xm.eager import future_for_caller

        self._require_open()
        check_addition(args, role, identity)
        if isinstance(job, AuxiliaryUnitJob):
            role = role or job.role
            job = job.job
        role = role or WorkUnitRole()
        validate_job(job)
        if is_job_generator(job):
            checked = checked_generator_args(job, args)
            create = self._generator_unit(job, checked, role, identity)
        elif isinstance(job, JobConfig):
            prepared = self._prepare_job(job, role)
            create = self._job_unit(prepared, dict(args or {}), role, identity)
        else:
            own_args = shown_args(job, None)
            check_nesting(own_args, 'add(job): its arguments')
            prepared = self._prepare_job(apply_args(cast(Job | JobGroup, job), args), role)
            shown = own_args if args is None else shown_args(job, args)
            create = self._job_unit(prepared, shown, role, identity)
            self._wait_for_room()
        self._count_work(role, 1)
        return future_for_caller(self._schedule(create))

    def _count_work(self, role: ExperimentUnitRole, change: int) -> None:
        if isinstance(role, WorkUnitRole):
            self._added += change

    def _job_unit(
        self, job: Any, args: Mapping[str, Any], role: ExperimentUnitRole, identity: str
    ) -> CoroutineFactory:
        async def create() -> ExperimentUnit:
            unit, is_new = await self._create_unit(job, args, role, identity)
            self._count_work(role, 0 if is_new else -1)
            return unit

        return create

    def _generator_unit(
        self,
        generator: Callable[..., Any],
        args: Mapping[str, Any],
        role: ExperimentUnitRole,
        identity: str,
    ) -> CoroutineFactory:
        async def create() -> ExperimentUnit:
            unit, is_new = await self._create_unit(None, args, role, identity)
            self._count_work(role, 0 if is_new else -1)
            error = await self._interruptible(lambda: unit._run_generator(generator, args))
            await self._generator_ended(unit, error)
            if error is not None:
                raise error
            return unit

        return create

    # Looking back.

    @property
    def work_unit_count(self) -> int:
        """How many work units the experiment has, those just being added included."""
        return self._added

    @property
    def context(self) -> MetadataContext:
        """Free annotations of the experiment."""
        return self._context


def refuse_job_config(job: object) -> UsageError:
    """The error of an implementation that has no use for a JobConfig."""
    return UsageError(
        f'{type(job).__name__} is a JobConfig of another implementation of the launch API. '
        'Add an xm.Job, an xm.JobGroup or a job generator.'
    )
