"""What a dry run prints: what would be packaged, and what would run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TextIO

from xmanager.launch import plan_fields
from xmanager.launch.plan_fields import Fields, plural
from xmanager.store.wording import arguments

if TYPE_CHECKING:
    from xmanager.launch.planned import PlannedExperiment
    from xmanager.launch.planned_units import PlannedUnit
    from xmanager.launch.planning import Planning

_SHOWN_UNITS: Final = 3


def show(planning: Planning, *, verbose: bool = False, out: TextIO | None = None) -> None:
    """Prints it to stdout, with bold names where that is a terminal. `verbose`: nothing is left out."""
    stream = sys.stdout if out is None else out
    text = Painter(stream.isatty() and not os.environ.get('NO_COLOR'))
    print('\n'.join(text.lines(planning, verbose)), file=stream, flush=True)


class Painter:
    """Lays out a plan."""

    def __init__(self, has_colours: bool) -> None:
        self._has_colours = has_colours

    def lines(self, planning: Planning, verbose: bool) -> Iterator[str]:
        for executable in planning.executables:
            kind = str(executable.facts.get('kind', ''))
            yield f'{self._bold(executable.name)}  {kind}'.rstrip()
            yield from self._fields(plan_fields.of_executable(executable, verbose), '  ')
            yield ''
        for experiment in planning.experiments:
            yield from self._experiment(experiment, verbose)
            yield ''
        yield 'dry run: nothing was packaged, recorded or started'

    def _experiment(self, experiment: PlannedExperiment, verbose: bool) -> Iterator[str]:
        units = experiment.units
        yield f'{self._bold(_one_line(experiment.title) or "experiment")}  {_counted(units)}'
        yield from self._submissions(units, verbose)
        shown = units if verbose else units[:_SHOWN_UNITS]
        for unit in shown:
            yield ''
            yield f'  {self._bold(f"unit {unit.label}")}  {_one_line(arguments(unit.args))}'.rstrip()
            yield from self._jobs(unit)
        if more := len(units) - len(shown):
            yield ''
            yield f'  … and {more:,} more'

    def _submissions(self, units: Sequence[PlannedUnit], verbose: bool) -> Iterator[str]:
        """What would be submitted to a cluster, many units by one command."""
        if not any(unit.backend == 'slurm' for unit in units):
            return
        from xmanager.launch import plan_slurm

        commands = plan_slurm.submissions(units)
        shown = commands if verbose else commands[:_SHOWN_UNITS]
        for command, labels in shown:
            yield f'  {command}  {self._dim(f"({_labels(labels)})")}'
        if more := len(commands) - len(shown):
            yield f'  … and {more:,} more'

    def _jobs(self, unit: PlannedUnit) -> Iterator[str]:
        if not unit.tasks:
            yield '    no jobs'
        of_several = len(unit.tasks) > 1
        for task in unit.tasks:
            if of_several:
                yield f'    {self._bold(task.name)}'
            fields = plan_fields.of_task(task, unit.demand.get(task.name, {}))
            yield from self._fields(fields, ' ' * (6 if of_several else 4))

    def _fields(self, fields: Fields, indent: str) -> Iterator[str]:
        width = max((len(name) for name, _ in fields), default=0)
        before = ''
        for name, value in fields:
            label = '' if name == before else name
            yield f'{indent}{self._dim(f"{label:{width}}")}  {_one_line(value)}'
            before = name

    def _bold(self, text: str) -> str:
        return f'\x1b[1m{text}\x1b[0m' if self._has_colours else text

    def _dim(self, text: str) -> str:
        return f'\x1b[2m{text}\x1b[0m' if self._has_colours and text.strip() else text


def _counted(units: Sequence[PlannedUnit]) -> str:
    auxiliary = sum(unit.label.startswith('a') for unit in units)
    parts = [plural(len(units) - auxiliary, 'work unit')]
    if auxiliary:
        parts.append(plural(auxiliary, 'auxiliary unit'))
    return ', '.join(parts)


def _labels(labels: Sequence[str]) -> str:
    """`unit 3`, `units 1, 2`, `units 1, 2, … 100`."""
    if len(labels) == 1:
        return f'unit {labels[0]}'
    shown = labels if len(labels) <= _SHOWN_UNITS else [*labels[:2], f'… {labels[-1]}']
    return f'units {", ".join(shown)}'


def _one_line(text: str) -> str:
    return ''.join(character if character.isprintable() else ' ' for character in text)
