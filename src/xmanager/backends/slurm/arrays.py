"""From units to as few calls of `sbatch` as they need: alike units become arrays, in order. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterator, Sequence

import attrs

from xmanager.backends.slurm.batch import Batch, Request, Step, manifest
from xmanager.backends.slurm.node import data, script

_LONGEST_NAME = 60
_CONTAINER_SCRIPT = 'container.sh'


@attrs.frozen
class Bounds:
    """What the site allows: `MaxArraySize`, which is one more than the highest index, and how many to submit at once.

    1001 is Slurm's default.
    """

    max_array_size: int = 1001
    most: int | None = None

    @property
    def elements(self) -> int:
        """How many units one array may have."""
        return max(1, min(self.max_array_size, self.most or self.max_array_size))


def batches(requests: Sequence[Request], bounds: Bounds, new_id: Callable[[], str]) -> list[Batch]:
    """Each request is in one batch. The batches come in the order of their first requests, and these in their own."""
    groups: dict[Hashable, list[Request]] = {}
    for number, request in enumerate(requests):
        alike = _alike(request)
        groups.setdefault(number if alike is None else alike, []).append(request)
    return [_batch(part, new_id()) for group in groups.values() for part in _parts(group, bounds)]


def _alike(request: Request) -> tuple[Hashable, ...] | None:
    """Equal for the units that one array can hold; None for one that none can."""
    step = request.steps[0]
    if len(request.steps) > 1 or not step.is_alone:
        return None
    secrets = tuple(sorted(set(step.secrets.values())))
    has_container = step.container is not None
    return (
        *(request.experiment_folder, request.options, request.parallelism),
        *(step.setup, secrets, has_container),
    )


def _parts(group: Sequence[Request], bounds: Bounds) -> Iterator[Sequence[Request]]:
    # An array's throttle is its own: to keep to it in several they would have to wait for one another.
    for first in range(0, len(group), bounds.elements):
        yield group[first : first + bounds.elements]


def _batch(requests: Sequence[Request], batch_id: str) -> Batch:
    first = requests[0]
    folder = f'{first.experiment_folder}/slurm/{batch_id}'
    name = f'{_plain(first)}.{batch_id}'
    is_array = len(requests) > 1
    elements = [_started(request, folder) for request in requests]
    steps = elements[0]
    is_gang = not (len(steps) == 1 and first.steps[0].is_alone)
    shell = script.shell_for(any(step.setup for step in steps))
    files = {
        'batch.json': manifest(batch_id, name, is_array, requests),
        'batch.sh': script.gang(shell) if is_gang else script.alone(shell),
        'begun/.made': b'',
        'ends/.made': b'',
        **_shared_files(steps),
        **dict(data.files(elements)),
    }
    if is_gang:
        files['element.sh'] = script.element()
        files['titles'] = ''.join(f'{json.dumps(step.task)}\n' for step in steps).encode()
        words = [folder, str(len(steps))]
    else:
        words = ['array' if is_array else 'alone', folder, '0']
    return Batch(
        id=batch_id,
        folder=folder,
        name=name,
        requests=tuple(requests),
        is_array=is_array,
        argv=(*_sbatch(first, name, len(requests)), f'{folder}/batch.sh', *words),
        files={f'{folder}/{path}': content for path, content in files.items()},
    )


def _shared_files(steps: Sequence[Step]) -> dict[str, bytes]:
    files = {}
    for component, step in enumerate(steps):
        if step.setup:
            files[data.setup_name(component)] = data.setup_text(step)
        if step.container is not None:
            from xmanager.backends.slurm.node import containers

            files[_CONTAINER_SCRIPT] = containers.SCRIPT
    return files


def _sbatch(request: Request, name: str, elements: int) -> list[str]:
    """The command up to the script; the options of further components stand behind colons."""
    words = ['sbatch', '--parsable']
    # The log is written by the element: the nodes see its folder or nothing can be told of it anyway.
    ours = [f'--job-name={name}', '--output=/dev/null', '--chdir=/']
    if elements > 1:
        throttle = f'%{request.parallelism}' if request.parallelism else ''
        ours.append(f'--array=0-{elements - 1}{throttle}')
    for component, options in enumerate(request.options):
        words += [':'] if component else []
        words += [*ours, *options]
    return words


def _started(request: Request, folder: str) -> tuple[Step, ...]:
    """The steps with the words by which containers and srun are started."""
    is_het = len(request.steps) > 1
    return tuple(
        _started_step(step, folder, component if is_het else None)
        for component, step in enumerate(request.steps)
    )


def _started_step(step: Step, folder: str, group: int | None) -> Step:
    srun = () if group is None and step.is_alone else _srun(step, group)
    argv = step.argv
    if step.container is not None:
        argv = ('/bin/sh', f'{folder}/{_CONTAINER_SCRIPT}', *argv)
    # Most of an array's steps are as they were rendered: thousands of copies cost time.
    if srun == step.srun and argv is step.argv:
        return step
    return attrs.evolve(step, srun=srun, argv=argv)


def _srun(step: Step, group: int | None) -> tuple[str, ...]:
    words = [
        *('--export=ALL', '--input=none', '--chdir=/', f'--ntasks={step.replicas}'),
        # One replica that fails ends the job, for the others would wait for it.
        '--kill-on-bad-exit=1',
    ]
    if group is not None:
        words.append(f'--het-group={group}')
    if step.replicas > 1:
        words.append('--label')
    return tuple(words)


def _plain(request: Request) -> str:
    """A name that squeue shows and finds, of letters that nothing reads a meaning into."""
    told = request.steps[0].task if len(request.steps) == 1 else f'unit{request.unit.label}'
    plain = re.sub(r'[^A-Za-z0-9._-]', '_', f'{request.unit.experiment_id}_{told}')
    return plain[:_LONGEST_NAME]
