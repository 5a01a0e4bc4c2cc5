"""What can be run and where: executables, the specifications they are built from, executors."""

from __future__ import annotations

import abc
import os
import re
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import attrs

from xmanager.xm.launch_script import resolve_launch_path


def name_from_path(path: str) -> str:
    """A job's default name: the base name of a path, image or label, as an identifier."""
    return re.sub(r'\W', '_', os.path.basename(path.rstrip(os.sep)))


class ExecutableSpec(abc.ABC):
    """How an executable is to be built or found; packaging turns it into an `xm.Executable`."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name of the executable, by which its job is called unless told otherwise."""


@attrs.define(slots=False)
class Executable(abc.ABC):
    """A thing that an executor can run as it is. `experiment.package` makes them."""

    name: str


class ExecutorSpec:
    """Which kind of executor an executable is packaged for."""


class Executor(abc.ABC):
    """Where and with what resources a job runs: a plain value, written by users.

    The verbs (submit, observe, stop) belong to the back end that `backend` names: an entry point
    in the group `xmanager.backends`. An implementation of the API that brings no such back end
    launches its executors by itself, by convention in a class method `launch(unit, job_group)`.
    """

    backend: ClassVar[str] = ''

    @classmethod
    @abc.abstractmethod
    def Spec(cls) -> ExecutorSpec:
        """The specification to package for; here `Local.Spec` is the class `LocalSpec` itself."""


class BinaryDependency:
    """Something that a binary finds beside it when it runs: `xm.FileDependency` or `xm.FolderDependency`."""


class ModuleName(NamedTuple):
    """An entry point: `python -m module_name`, followed by the job's arguments."""

    module_name: str


class CommandList(NamedTuple):
    """An entry point: lines of shell in their order, which get the job's arguments as `"$@"`.

    The last line is followed by them, unless it ends with `$@` or `"$@"` already.
    """

    commands: list[str]


def _as_list(values: Iterable[Any]) -> list[Any]:
    if isinstance(values, str):
        raise ValueError(f'{values!r} is given where a list is expected. Write [{values!r}].')
    return list(values)


def _check_entrypoint(spec: object, attribute: object, entrypoint: Any) -> None:
    if not isinstance(entrypoint, ModuleName | CommandList):
        raise TypeError(
            f"{type(spec).__name__}(entrypoint={entrypoint!r}): expected xm.ModuleName('package.module') "
            "or xm.CommandList(['command', …])."
        )


def _check_destination(dependency: Any, attribute: object, destination: str) -> None:
    parts = destination.split('/')
    if destination and (not all(parts) or {'.', '..'} & set(parts) or '\0' in destination):
        raise ValueError(
            f'{type(dependency).__name__}(destination={destination!r}): expected a place beside the binary, '
            "such as 'data' or 'data/words.txt'."
        )


@attrs.frozen(slots=False)
class FileDependency(BinaryDependency):
    """A file that a binary finds beside it: under its own name, or as `destination` (`'data/words.txt'`).

    `path` is relative to the launch script.
    """

    path: str = attrs.field(converter=resolve_launch_path)
    destination: str = attrs.field(default='', validator=_check_destination)


@attrs.frozen(slots=False)
class FolderDependency(BinaryDependency):
    """A folder, with all that is in it, that a binary finds beside it: under its own name, or as `destination`.

    `path` is relative to the launch script.
    """

    path: str = attrs.field(converter=resolve_launch_path)
    destination: str = attrs.field(default='', validator=_check_destination)


@attrs.frozen(slots=False)
class Binary(ExecutableSpec):
    """A program that is built already. `path` is relative to the launch script.

    With `dependencies` it runs from a folder that holds a copy of it and of them.
    """

    path: str
    dependencies: list[BinaryDependency] = attrs.field(factory=list, converter=_as_list)

    @property
    def name(self) -> str:
        return name_from_path(self.path)


@attrs.frozen(slots=False)
class Container(ExecutableSpec):
    """An image that is built already: `registry/name:tag`, `name@digest`, or a `.tar` file."""

    image_path: str

    @property
    def name(self) -> str:
        return name_from_path(self.image_path)


@attrs.frozen(slots=False)
class Dockerfile(ExecutableSpec):
    """An image to be built from a Dockerfile.

    Both paths are relative to the launch script. `dockerfile` is `Dockerfile` in `path` by default.
    """

    path: str = attrs.field(default='.', converter=resolve_launch_path)
    dockerfile: str = attrs.field(
        default=None, converter=attrs.converters.optional(resolve_launch_path)
    )

    def __attrs_post_init__(self) -> None:
        if not self.dockerfile:
            object.__setattr__(self, 'dockerfile', os.path.join(self.path, 'Dockerfile'))

    @property
    def name(self) -> str:
        return name_from_path(self.path)


@attrs.frozen(slots=False)
class PythonContainer(ExecutableSpec):
    """An image to be made of a directory of Python code.

    `path` is relative to the launch script. `docker_instructions` replaces the default lines
    (copy the code, install `requirements.txt`) between `FROM base_image` and the entry point.
    `use_deep_module` keeps `path` out of the module's name: `a.b` is then run from the directory
    that holds `a`.
    """

    entrypoint: ModuleName | CommandList = attrs.field(validator=_check_entrypoint)
    path: str = attrs.field(default='.', converter=resolve_launch_path)
    base_image: str | None = None
    docker_instructions: list[str] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_as_list)
    )
    use_deep_module: bool = False

    @property
    def name(self) -> str:
        return name_from_path(self.path)


@attrs.frozen(slots=False)
class PythonPackage(ExecutableSpec):
    """A directory of Python code that runs without a container, as it was when it was packaged.

    `path` and `environment` are relative to the launch script. `environment` is a lock file (`uv.lock`, `pylock.toml`
    or `requirements.txt`) from which the environment is made that it runs in, once for all who name the same; None
    means the interpreter of the launcher. It starts in (the kept copy of) `path`, which is importable.
    """

    path: str = attrs.field(default='.', converter=resolve_launch_path)
    entrypoint: ModuleName | CommandList = attrs.field(kw_only=True, validator=_check_entrypoint)
    environment: str | None = attrs.field(
        default=None, converter=attrs.converters.optional(resolve_launch_path)
    )

    @property
    def name(self) -> str:
        return name_from_path(self.path)


@attrs.frozen(slots=False)
class BazelContainer(ExecutableSpec):
    """A Bazel target that builds an image as a `.tar` file."""

    label: str
    bazel_args: list[str] = attrs.field(factory=list, converter=_as_list)

    @property
    def name(self) -> str:
        return name_from_path(self.label)


@attrs.frozen(slots=False)
class BazelBinary(ExecutableSpec):
    """A Bazel target that builds a program which runs without further files."""

    label: str
    dependencies: list[BinaryDependency] = attrs.field(factory=list, converter=_as_list)
    bazel_args: list[str] = attrs.field(factory=list, converter=_as_list)

    @property
    def name(self) -> str:
        return name_from_path(self.label)
