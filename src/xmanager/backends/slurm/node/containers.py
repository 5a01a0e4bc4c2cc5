"""What a node is told of a task that runs in an image: the words of `container.sh`. Pure."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from xmanager.backend import Task
from xmanager.errors import ExecutorError

ENGINES: Final = ('apptainer', 'singularity', 'podman', 'enroot')
ENGINE_VARIABLE: Final = 'XM_SLURM_CONTAINERS'
OPTIONS_VARIABLE: Final = 'XM_SLURM_CONTAINER_OPTIONS'
FILE: Final = 'container.sh'
_PARTS: Final = (FILE, 'container_apptainer.sh', 'container_podman.sh', 'container_enroot.sh')
SCRIPT: Final = b'\n'.join(
    [*(Path(__file__).with_name(part).read_bytes() for part in _PARTS), b'run_image "$@"\n']
)
"""The program that runs the words of a task on a node."""

_PREFIX: Final = 'XM_ENV_'
_LONGEST_NAME: Final = 60


def engine_of(settings: Mapping[str, str]) -> str:
    """The engine that is to be used, or `any`: the first that a node has. Raises ExecutorError for an unknown one."""
    name = settings.get(ENGINE_VARIABLE, '').strip().lower()
    if name == 'pyxis':
        # It has Slurm's srun call enroot, which can be called without it.
        return 'enroot'
    if name and name not in ENGINES:
        raise ExecutorError(
            f'{ENGINE_VARIABLE}={name!r} is no engine for containers. Expected one of {", ".join(ENGINES)} or pyxis, '
            'or nothing for what a node has.'
        )
    return name or 'any'


def options_of(settings: Mapping[str, str]) -> list[str]:
    """More options for the engine, as a shell would read them. Raises ExecutorError."""
    text = settings.get(OPTIONS_VARIABLE, '')
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ExecutorError(
            f'{OPTIONS_VARIABLE}={text!r}: {error}. Close what is quoted.'
        ) from None
    if any('\0' in word for word in words):
        raise ExecutorError(f'{OPTIONS_VARIABLE}={text!r} holds a NUL byte. Leave it out.')
    return words


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of a task under names that mean nothing to the engine that starts it."""
    return {f'{_PREFIX}{name}': value for name, value in env.items()}


def words(
    task: Task,
    *,
    name: str,
    folder: str,
    layout: str,
    names: Iterable[str],
    settings: Mapping[str, str],
) -> tuple[str, ...]:
    """The arguments of `container.sh`.

    `name` tells this attempt of the task from all others; `folder` is the task's on the cluster, `layout` where its
    image lies there. `names` are variables that the node sets beside those of `Task.env`. Raises ExecutorError.
    """
    if not layout:
        raise ExecutorError(
            f'job {task.name}: its image {task.image} lies in no folder that nodes see. '
            'Package it for xm_local.Slurm.Spec().'
        )
    given = task.executable
    docker: Mapping[str, Any] = task.options.get('docker') or {}
    command = [*given.get('entrypoint', ()), *(task.argv or given.get('command', ()))]
    if not command:
        raise ExecutorError(
            f'job {task.name}: the image says of no program that it is to be run. '
            'Give it an ENTRYPOINT or a CMD, or arguments to the job.'
        )
    scalars = {
        'engine': engine_of(settings),
        'name': container_name(task, name),
        'layout': layout,
        'image': task.image.removeprefix('sha256:'),
        'workdir': task.cwd or str(given.get('working_dir', '/')),
        'gpus': '1' if wants_gpus(task) else '0',
        'shm': str(docker.get('shm_size') or 0),
    }
    return (
        *(word for pair in scalars.items() for word in pair),
        *_binds(folder, docker),
        *(word for variable in task.env for word in ('env', variable)),
        *(word for variable in sorted(set(names) - set(task.env)) for word in ('pass', variable)),
        *(word for option in options_of(settings) for word in ('option', option)),
        '--',
        *command,
    )


def wants_gpus(task: Task) -> bool:
    """Whether it asked for devices that its container must see."""
    return any(
        amount and resource not in ('cpu', 'ram', 'memory', 'disk')
        for resource, amount in task.requirements.items()
    )


def container_name(task: Task, name: str) -> str:
    """Letters, digits and `_.-`: the same for the same attempt of a task, and no other's."""
    digest = hashlib.sha256(f'{name}\0{task.name}'.encode()).hexdigest()[:12]
    plain = re.sub(r'[^A-Za-z0-9_.-]', '_', f'xm-{task.name}')
    return f'{plain[:_LONGEST_NAME]}-{digest}'


def _binds(folder: str, docker: Mapping[str, Any]) -> Iterator[str]:
    if docker.get('mount_gcs_path', True):
        yield 'gcs'
    yield from ('bind', f'{folder}/out', f'{folder}/out')
    for source, target, is_read_only in docker.get('volumes', ()):
        yield from ('bind-ro' if is_read_only else 'bind', source, target)
