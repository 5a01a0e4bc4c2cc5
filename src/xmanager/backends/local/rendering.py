"""From a unit to the commands of its tasks. Pure."""

from __future__ import annotations

import json
import os

import attrs

from xmanager.backend import KEY_VARIABLE, Task, Unit
from xmanager.backends.local import requirements
from xmanager.backends.local.container_spec import render_container
from xmanager.backends.local.processes import JOB_VARIABLE
from xmanager.backends.local.spawn import Command


@attrs.frozen
class Launch:
    """What `submit` starts: the unit and the commands of its tasks."""

    unit: Unit
    commands: tuple[Command, ...]


def render_task(unit: Unit, task: Task, visible_gpus: str, boot: str, home: str = '') -> Command:
    """The command of a task, with the variables that tell a job where it is. `home` is the user's folder."""
    folder = unit.task_folder(task)
    marks = {
        'XM_EXPERIMENT_ID': str(unit.experiment_id),
        'XM_WORK_UNIT_ID': unit.label,
        JOB_VARIABLE: task.name,
        'XM_OUTPUT_DIR': f'{folder}/out',
        'XM_ATTEMPT': str(unit.attempt),
        'XM_JOB_ADDRESSES': json.dumps(addresses_of(unit)),
        KEY_VARIABLE: unit.key,
        'PYTHONUNBUFFERED': '1',
    }
    container = render_container(unit, task, visible_gpus, marks, home) if task.image else None
    # A job that says nothing of GPUs sees all of them: scripts written before there was a queue rely on it.
    if requirements.GPU in task.requirements:
        marks['CUDA_VISIBLE_DEVICES'] = visible_gpus
    return Command(
        name=task.name,
        folder=folder,
        attempt=unit.attempt,
        key=unit.key,
        argv=task.argv,
        cwd=task.cwd if task.image else os.path.abspath(task.cwd),
        env=task.env,
        secrets=task.secrets,
        marks=marks,
        boot=boot,
        container=container,
        executable=task.executable,
    )


def addresses_of(unit: Unit) -> dict[str, list[str]]:
    """Where each job of a unit is reached by the others: on this machine, or by its name in the containers' network."""
    containers = [task for task in unit.tasks if task.image]
    named = {task.name for task in containers if len(containers) > 1 and not _has_network(task)}
    return {
        task.name: [(task.full_name or task.name) if task.name in named else '127.0.0.1']
        for task in unit.tasks
    }


def _has_network(task: Task) -> bool:
    return bool((task.options.get('docker') or {}).get('network'))
