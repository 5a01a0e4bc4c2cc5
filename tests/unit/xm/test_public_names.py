"""The names that launch scripts import."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import xmanager
from xmanager import xm

NAMES = [
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
    'GB',
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
    'KB',
    'KiB',
    'LaunchedJob',
    'MB',
    'MetadataContext',
    'MiB',
    'ModuleName',
    'NotFoundError',
    'PB',
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
    'TB',
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


def test_all_lists_exactly_the_public_names():
    assert sorted(xm.__all__) == sorted(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_a_public_name_exists(name):
    assert getattr(xm, name) is not None


@pytest.mark.parametrize(
    ('name', 'hint'), [('PythonDocker', 'xm.PythonContainer'), ('Package', 'experiment.package')]
)
def test_a_name_that_only_the_old_readme_had_is_answered_with_what_exists(name, hint):
    with pytest.raises(AttributeError, match=hint):
        getattr(xm, name)


def test_an_unknown_name_is_a_plain_attribute_error():
    module: Any = xm
    with pytest.raises(AttributeError, match='nonsense'):
        _ = module.nonsense


PACKAGE_SIGNATURES = {
    'binary': 'executor_spec path dependencies | args env_vars',
    'bazel_binary': 'executor_spec label dependencies bazel_args | args env_vars',
    'container': 'executor_spec image_path | args env_vars',
    'bazel_container': 'executor_spec label bazel_args | args env_vars',
    'dockerfile_container': 'executor_spec path dockerfile | args env_vars',
    'python_container': 'executor_spec entrypoint path base_image docker_instructions '
    'use_deep_module | args env_vars',
}


@pytest.mark.parametrize('name', PACKAGE_SIGNATURES)
def test_a_packaging_function_takes_what_scripts_pass_in_the_order_they_pass_it(name):
    parameters = inspect.signature(getattr(xm, name)).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    expected_positional, expected_keyword = PACKAGE_SIGNATURES[name].split(' | ')
    assert (positional, keyword) == (expected_positional.split(), expected_keyword.split())


def test_importing_xm_loads_no_event_loop_and_nothing_but_attrs():
    program = 'import sys; from xmanager import xm; print(*sys.modules)'
    source = str(Path(xmanager.__file__).parents[1])
    loaded = subprocess.run(
        [sys.executable, '-c', f'import sys; sys.path.insert(0, {source!r}); {program}'],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    roots = {name.partition('.')[0] for name in loaded} - set(sys.stdlib_module_names)
    assert 'asyncio' not in loaded
    assert not roots & {'absl', 'sqlalchemy', 'click', 'rich', 'docker', 'google', 'kubernetes'}
    assert {'attr', 'attrs', 'xmanager'} <= roots


def test_units_are_bytes_and_processors():
    assert (xm.B, xm.KB, xm.MB, xm.GB, xm.TB, xm.PB) == (1, 1e3, 1e6, 1e9, 1e12, 1e15)
    assert [xm.KiB, xm.MiB, xm.GiB, xm.TiB, xm.PiB] == [1024**power for power in range(1, 6)]
    assert xm.vCPU == 1
