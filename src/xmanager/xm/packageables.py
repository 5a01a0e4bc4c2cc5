"""Packageables: an executable's specification, what it is for, and arguments it always gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from xmanager.xm import executables
from xmanager.xm.arguments import SequentialArgs, UserArgs, as_arguments
from xmanager.xm.environment import checked_env_vars
from xmanager.xm.executables import ExecutableSpec, ExecutorSpec

_NO_ENV_VARS: Mapping[str, Any] = {}


@attrs.define(slots=False)
class Packageable:
    """A request to package `executable_spec` for `executor_spec`; see `experiment.package`.

    `args` and `env_vars` come before those of every job that runs the executable.
    """

    executable_spec: ExecutableSpec
    executor_spec: ExecutorSpec
    args: SequentialArgs = attrs.field(factory=SequentialArgs, converter=as_arguments)
    env_vars: dict[str, Any] = attrs.field(factory=dict, converter=checked_env_vars)


def binary(
    executor_spec: ExecutorSpec,
    path: str,
    dependencies: Collection[executables.BinaryDependency] = (),
    *,
    args: UserArgs | None = None,
    env_vars: Mapping[str, Any] = _NO_ENV_VARS,
) -> Packageable:
    """A program that is built already; see `xm.Binary`."""
    spec = executables.Binary(path, dependencies)
    return Packageable(spec, executor_spec, args, env_vars)


def bazel_binary(
    executor_spec: ExecutorSpec,
    label: str,
    dependencies: Collection[executables.BinaryDependency] = (),
    bazel_args: Collection[str] = (),
    *,
    args: UserArgs | None = None,
    env_vars: Mapping[str, Any] = _NO_ENV_VARS,
) -> Packageable:
    """A program that Bazel builds; see `xm.BazelBinary`."""
    spec = executables.BazelBinary(label, dependencies, bazel_args)
    return Packageable(spec, executor_spec, args, env_vars)


def container(
    executor_spec: ExecutorSpec,
    image_path: str,
    *,
    args: UserArgs | None = None,
    env_vars: Mapping[str, Any] = _NO_ENV_VARS,
) -> Packageable:
    """An image that is built already; see `xm.Container`."""
    return Packageable(executables.Container(image_path), executor_spec, args, env_vars)


def bazel_container(
    executor_spec: ExecutorSpec,
    label: str,
    bazel_args: Collection[str] = (),
    *,
    args: UserArgs | None = None,
    env_vars: Mapping[str, Any] = _NO_ENV_VARS,
) -> Packageable:
    """An image that Bazel builds; see `xm.BazelContainer`."""
    spec = executables.BazelContainer(label, bazel_args)
    return Packageable(spec, executor_spec, args, env_vars)


def dockerfile_container(
    executor_spec: ExecutorSpec,
    path: str = '.',
    dockerfile: str | None = None,
    *,
    args: UserArgs | None = None,
    env_vars: Mapping[str, Any] = _NO_ENV_VARS,
) -> Packageable:
    """An image built from a Dockerfile; see `xm.Dockerfile`."""
    spec = executables.Dockerfile(path, dockerfile)
    return Packageable(spec, executor_spec, args, env_vars)


def python_container(
    executor_spec: ExecutorSpec,
    entrypoint: executables.ModuleName | executables.CommandList,
    path: str = '.',
    base_image: str | None = None,
    docker_instructions: list[str] | None = None,
    use_deep_module: bool = False,
    *,
    args: UserArgs | None = None,
    env_vars: Mapping[str, Any] = _NO_ENV_VARS,
) -> Packageable:
    """An image made of a directory of Python code; see `xm.PythonContainer`."""
    spec = executables.PythonContainer(
        entrypoint, path, base_image, docker_instructions, use_deep_module
    )
    return Packageable(spec, executor_spec, args, env_vars)


def python_package(
    executor_spec: ExecutorSpec,
    path: str = '.',
    *,
    entrypoint: executables.ModuleName | executables.CommandList,
    environment: str | None = None,
    args: UserArgs | None = None,
    env_vars: Mapping[str, Any] = _NO_ENV_VARS,
) -> Packageable:
    """A directory of Python code that runs without a container; see `xm.PythonPackage`."""
    spec = executables.PythonPackage(path=path, entrypoint=entrypoint, environment=environment)
    return Packageable(spec, executor_spec, args, env_vars)
