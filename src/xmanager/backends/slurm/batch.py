"""The values between a unit and `sbatch`: what runs, what is asked of Slurm, and what is submitted in one call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from xmanager.backend import Unit

FORMAT = 1
"""Of the manifest and of the data beside it."""

LOST_FOLDER = 97
"""Exit code of a batch script whose node does not see the batch's folder."""


@attrs.frozen
class Kept:
    """The copy that is kept of a program, for when a node lacks the program itself or has another one in its place.

    `bytes` and `modified` (whole seconds since the epoch) are those of what was packaged.
    """

    copy: str
    bytes: int
    modified: int


@attrs.frozen
class Step:
    """One component of an element, as its nodes run it: all paths are the cluster's.

    `env` is what the user set and the marks that we add, `prepended` the places that go before those that a variable
    names already; `secrets` maps a variable to its name in the environment of `sbatch`. `setup` are lines for bash.
    `replicas` is the number of Slurm tasks; `srun` are the options of `srun`, for steps that it starts.
    """

    task: str
    folder: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    attempt: int
    timeout: float | None = None
    warn_before: float | None = None
    warn_signal: str = 'SIGUSR1'
    grace: float = 10.0
    setup: tuple[str, ...] = ()
    replicas: int = 1
    secrets: Mapping[str, str] = attrs.field(factory=dict)
    prepended: Mapping[str, str] = attrs.field(factory=dict)
    kept: Kept | None = None
    srun: tuple[str, ...] = ()
    container: Mapping[str, Any] | None = None

    @property
    def is_alone(self) -> bool:
        """One process that the batch script can start itself, without `srun`."""
        return self.replicas == 1


@attrs.frozen
class Request:
    """One unit as `render` gives it. `options` are those of `sbatch` for each step, without name, array and output.

    `parallelism` is how many elements of an array may run at once; None for any number.
    """

    unit: Unit
    options: tuple[tuple[str, ...], ...]
    steps: tuple[Step, ...]
    parallelism: int | None = None

    @property
    def experiment_folder(self) -> str:
        """The folder on the cluster in which the unit's folder lies."""
        return self.steps[0].folder.rsplit('/', 2)[0]


@attrs.frozen
class Batch:
    """What one call of `sbatch` submits: an array of units with one step each, or a single unit.

    `argv` is the whole command line, `files` (content by path) is to be written before it is run, and `secrets` names
    the variables that its environment must have.
    """

    id: str
    folder: str
    name: str
    requests: tuple[Request, ...]
    is_array: bool
    argv: tuple[str, ...] = attrs.field(repr=False)
    files: Mapping[str, bytes] = attrs.field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names that the environment of `sbatch` must have, for the elements to find them."""
        first = self.requests[0]  # The elements of an array are alike in this.
        return tuple(sorted({name for step in first.steps for name in step.secrets.values()}))

    def reference(self, job: int, element: int) -> str:
        """What a submitted unit is called: `4711_3@<batch id>` in an array, else `4711@<batch id>`."""
        return f'{job}_{element}@{self.id}' if self.is_array else f'{job}@{self.id}'


@attrs.frozen
class Element:
    """One unit of a batch as the manifest tells of it."""

    key: str
    tasks: tuple[str, ...]


@attrs.frozen
class Manifest:
    """What `batch.json` says: enough to find the units again without having submitted them."""

    id: str
    name: str
    is_array: bool
    elements: tuple[Element, ...]


def manifest(batch_id: str, name: str, is_array: bool, requests: Sequence[Request]) -> bytes:
    """The content of `batch.json`."""
    elements = [[one.unit.key, [step.task for step in one.steps]] for one in requests]
    told = {'format': FORMAT, 'id': batch_id, 'name': name, 'array': is_array, 'elements': elements}
    return json.dumps(told).encode()


def read_manifest(data: bytes) -> Manifest:
    """The manifest in `batch.json`. Raises ValueError for what none of ours is, or is of a later format."""
    try:
        told = json.loads(data)
        if told['format'] != FORMAT:
            raise ValueError(f'format {told["format"]!r} is not known; expected {FORMAT}')
        elements = tuple(Element(key, tuple(tasks)) for key, tasks in told['elements'])
        return Manifest(told['id'], told['name'], told['array'], elements)
    except (KeyError, TypeError) as error:
        raise ValueError(f'this is no manifest of a batch: {error!r}') from error
