"""Whether the machines of a cluster see what was packaged: by the executor's specification, which may be another's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xmanager.backend import SHARED_VARIABLE, Task
from xmanager.errors import ExecutorError


def check(tasks: Sequence[Task], home: Path, shared: str) -> None:
    """Raises ExecutorError for what packaging has kept where no node of a cluster finds it.

    `home` is this machine's, `shared` the folder that the nodes see, '' for the home itself.
    """
    for task in tasks:
        if 'plan' in task.executable:  # A dry run: nothing is kept anywhere.
            continue
        if task.executable.get('kind') == 'image' and not _travels(task.executable):
            raise ExecutorError(
                f'Slurm() cannot run the image of job {task.name}: it is not in a folder that the nodes see. '
                'Package it for xm_local.Slurm.Spec().'
            )
        if not shared or task.options.get('login'):  # By ssh, code is taken along.
            continue
        hidden = next((path for path in _kept(task) if _is_hidden(path, home, shared)), '')
        if hidden:
            raise ExecutorError(
                f'Slurm() cannot run job {task.name}: {hidden} is not in the folder that the nodes see '
                f'({SHARED_VARIABLE}={shared}). Package it for xm_local.Slurm.Spec().'
            )


def _travels(facts: Mapping[str, Any]) -> bool:
    """It is written in a folder for the nodes, which fetch nothing from a registry."""
    return bool(facts.get('layout'))


def _kept(task: Task) -> Iterator[str]:
    """The paths of what packaging has made, of what runs itself too."""
    facts = task.executable
    yield from (str(facts.get(name) or '') for name in ('tree', 'copy', 'layout'))
    yield str((facts.get('environment') or {}).get('folder', ''))
    yield from task.argv[:1]


def _is_hidden(path: str, home: Path, shared: str) -> bool:
    """Below the home, which the nodes don't see. What lies elsewhere they may see, for all that is known here."""
    place = Path(path)
    return (
        bool(path)
        and place.is_relative_to(home)
        and not place.is_relative_to(os.path.abspath(shared))
    )
