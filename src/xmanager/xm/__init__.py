"""The launch API: what a launch script says.

Descriptions only. `xm_local` (or another implementation) provides the experiment that runs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmanager.errors import (
    ExperimentUnitError,
    ExperimentUnitFailedError,
    ExperimentUnitNotCompletedError,
    InvalidTpuTopologyError,
    NotFoundError,
    ReloadError,
)
from xmanager.xm import job_operators as job_operators
from xmanager.xm.amounts import ResourceDict, ResourceQuantity
from xmanager.xm.arguments import SequentialArgs, ShellSafeArg, UserArgs, merge_args
from xmanager.xm.environment import Secret
from xmanager.xm.executables import (
    BazelBinary,
    BazelContainer,
    Binary,
    BinaryDependency,
    CommandList,
    Container,
    Dockerfile,
    Executable,
    ExecutableSpec,
    Executor,
    ExecutorSpec,
    FileDependency,
    FolderDependency,
    ModuleName,
    PythonContainer,
    PythonPackage,
)
from xmanager.xm.experiment import Experiment, run_in_asyncio_loop
from xmanager.xm.experiment_context import DebugInterrupt
from xmanager.xm.experiment_unit import (
    AuxiliaryUnit,
    ExperimentUnit,
    WorkUnit,
    WorkUnitCompletedAwaitable,
)
from xmanager.xm.jobs import (
    Constraint,
    Job,
    JobConfig,
    JobGeneratorType,
    JobGroup,
    JobType,
    LaunchedJob,
    get_args_for_all_jobs,
)
from xmanager.xm.labels import framework_label
from xmanager.xm.metadata import ContextAnnotations, MetadataContext
from xmanager.xm.packageables import (
    Packageable,
    bazel_binary,
    bazel_container,
    binary,
    container,
    dockerfile_container,
    python_container,
    python_package,
)
from xmanager.xm.resource_types import (
    AcceleratorType,
    Architecture,
    GpuType,
    ResourceType,
    ServiceTier,
    TpuType,
)
from xmanager.xm.resources import JobRequirements
from xmanager.xm.roles import (
    AuxiliaryUnitJob,
    AuxiliaryUnitRole,
    ExperimentUnitRole,
    Importance,
    WorkUnitRole,
)
from xmanager.xm.status import ExperimentUnitStatus
from xmanager.xm.topology import Topology
from xmanager.xm.units import GB, KB, MB, PB, TB, B, GiB, KiB, MiB, PiB, TiB, vCPU

__all__ = [
    'GB',
    'KB',
    'MB',
    'PB',
    'TB',
    'AcceleratorType',
    'Architecture',
    'AuxiliaryUnit',
    'AuxiliaryUnitJob',
    'AuxiliaryUnitRole',
    'B',
    'BazelBinary',
    'BazelContainer',
    'Binary',
    'BinaryDependency',
    'CommandList',
    'Constraint',
    'Container',
    'ContextAnnotations',
    'DebugInterrupt',
    'Dockerfile',
    'Executable',
    'ExecutableSpec',
    'Executor',
    'ExecutorSpec',
    'Experiment',
    'ExperimentUnit',
    'ExperimentUnitError',
    'ExperimentUnitFailedError',
    'ExperimentUnitNotCompletedError',
    'ExperimentUnitRole',
    'ExperimentUnitStatus',
    'FileDependency',
    'FolderDependency',
    'GiB',
    'GpuType',
    'Importance',
    'InvalidTpuTopologyError',
    'Job',
    'JobConfig',
    'JobGeneratorType',
    'JobGroup',
    'JobRequirements',
    'JobType',
    'KiB',
    'LaunchedJob',
    'MetadataContext',
    'MiB',
    'ModuleName',
    'NotFoundError',
    'Packageable',
    'PiB',
    'PythonContainer',
    'PythonPackage',
    'ReloadError',
    'ResourceDict',
    'ResourceQuantity',
    'ResourceType',
    'Secret',
    'SequentialArgs',
    'ServiceTier',
    'ShellSafeArg',
    'TiB',
    'Topology',
    'TpuType',
    'UserArgs',
    'WorkUnit',
    'WorkUnitCompletedAwaitable',
    'WorkUnitRole',
    'bazel_binary',
    'bazel_container',
    'binary',
    'container',
    'dockerfile_container',
    'framework_label',
    'get_args_for_all_jobs',
    'job_operators',
    'merge_args',
    'python_container',
    'python_package',
    'run_in_asyncio_loop',
    'vCPU',
]

_INSTEAD = {
    'PythonDocker': 'Use xm.PythonContainer, or xm.python_container(…), which packages it.',
    'Package': 'Use experiment.package([xm.python_container(…), …]).',
}


if not TYPE_CHECKING:  # or a type checker would take every misspelt name for an object

    def __getattr__(name: str) -> object:
        hint = f' {_INSTEAD[name]}' if name in _INSTEAD else ''
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}.{hint}')
