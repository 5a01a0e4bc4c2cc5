"""What a dry run says of units for a cluster: the command that would submit them, and which of them are one array."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from xmanager.backends.slurm.options import options_of_unit
from xmanager.backends.slurm.preferences import Preferences
from xmanager.store.command_lines import quoted

if TYPE_CHECKING:
    from xmanager.backend import Task
    from xmanager.launch.planned_units import PlannedUnit


def submissions(
    units: Sequence[PlannedUnit], environ: Mapping[str, str] = os.environ
) -> list[tuple[str, list[str]]]:
    """The commands, as one would type them, each with the labels of the units that it would submit.

    Arrays are shown whole, though they are split where the cluster allows for fewer elements.
    """
    preferences = Preferences.of(environ)
    groups: dict[Hashable, list[PlannedUnit]] = {}
    for unit in units:
        if unit.backend == 'slurm' and unit.tasks:
            groups.setdefault(_alike(unit, preferences), []).append(unit)
    return [
        (_command(group, preferences), [unit.label for unit in group]) for group in groups.values()
    ]


def _alike(unit: PlannedUnit, preferences: Preferences) -> Hashable:
    """Equal for units that differ in what their job is given only."""
    task = unit.tasks[0]
    if len(unit.tasks) > 1 or task.options.get('replicas', 1) > 1:
        return unit.label
    return (
        _options(unit, preferences),
        *(task.options.get(name) for name in ('array_parallelism', 'login')),
        *(tuple(task.options.get('setup') or ()), tuple(sorted(set(task.secrets.values())))),
        _is_image(task),
    )


def _is_image(task: Task) -> bool:
    return task.executable.get('kind') == 'image'


def _options(unit: PlannedUnit, preferences: Preferences) -> tuple[tuple[str, ...], ...]:
    return options_of_unit(unit.tasks, preferences, unit.importance)


def _command(group: Sequence[PlannedUnit], preferences: Preferences) -> str:
    first = group[0]
    options = first.tasks[0].options
    words = ['sbatch']
    if len(group) > 1:
        most = options.get('array_parallelism')
        words.append(f'--array=0-{len(group) - 1}' + (f'%{most}' if most else ''))
    for index, of_task in enumerate(_options(first, preferences)):
        words += [*([':'] if index else []), *of_task]
    login = options.get('login')
    return quoted(['ssh', login, *words] if login else words)
