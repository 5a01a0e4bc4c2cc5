"""What a dry run says of one executable and of one job, as names and values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from xmanager.backend import Task
from xmanager.packaging import Packaged
from xmanager.packaging.plan import Plan, PlannedImage, PlannedLayer, PlannedSnapshot
from xmanager.store import masking
from xmanager.store.command_lines import assignments, quoted
from xmanager.store.wording import amounts, size

_DIGITS: Final = 12  # Of a digest: enough to tell one from another.

Fields = list[tuple[str, str]]


# What would be packaged.


def of_executable(executable: Packaged, verbose: bool) -> Fields:
    """What would be done to have it. `verbose`: each path that is left out, not only a few by rule."""
    plan = Plan.of(executable.facts)
    fields: Fields = []
    if plan.snapshot is not None:
        fields += _snapshot_fields(plan.snapshot, verbose)
    for file in plan.files:
        kept = _known(file.kept, 'a copy is kept', 'checked when it starts')
        if file.kept and file.exists:
            kept = 'kept already'
        fields.append(('file', _joined(_short(file.path), size(file.bytes), kept)))
    if environment := plan.environment:
        lock = _short(environment.lock) if environment.lock else "the launcher's"
        python = f'Python {environment.python}' if environment.python else ''
        made = _known(environment.exists, 'made already', 'would be made')
        fields.append(('environment', _joined(lock, python, made if environment.lock else '')))
    if plan.image is not None:
        fields.append(('image', _image(plan.image)))
    fields += [('layer', _layer(layer)) for layer in plan.layers]
    fields += [('runs', quoted(masking.mask_argv(argv))) for argv in plan.commands]
    fields += [('note', masking.mask_text(note)) for note in plan.notes]
    if not fields and 'path' in executable.facts:
        fields.append(
            ('file', _joined(_short(str(executable.facts['path'])), _bytes(executable.facts)))
        )
    return fields


def _snapshot_fields(snapshot: PlannedSnapshot, verbose: bool) -> Fields:
    files = '' if snapshot.files is None else plural(snapshot.files, 'file')
    kept = _known(snapshot.exists, 'kept already', 'would be kept')
    digest = snapshot.digest[:_DIGITS]
    fields = [('code', _joined(_short(snapshot.path), files, size(snapshot.bytes), kept))]
    if digest:
        fields.append(('snapshot', digest))
    if verbose:
        return fields + [('left out', f'{one.path}  ({one.rule})') for one in snapshot.omitted]
    by_rule = Counter(one.rule for one in snapshot.omitted)
    return fields + [('left out', _omitted(rule, snapshot)) for rule in by_rule]


def _omitted(rule: str, snapshot: PlannedSnapshot) -> str:
    """`.venv/, data/ and 3 more  (.gitignore)`."""
    paths = [one.path for one in snapshot.omitted if one.rule == rule]
    shown = paths if len(paths) <= 3 else paths[:2]
    more = f' and {len(paths) - len(shown)} more' if len(paths) > len(shown) else ''
    return f'{", ".join(shown)}{more}  ({rule})'


_ACTIONS: Final[Mapping[str, str]] = {
    'pull': 'would be pulled',
    'build': 'would be built',
    'load': 'would be loaded into the engine',
    'push': 'would be pushed',
    'write': 'would be written',
    'none': 'is there',
}


def _image(image: PlannedImage) -> str:
    name = image.name
    if name.startswith('sha256:'):
        name = name[: len('sha256:') + _DIGITS]
    done = _ACTIONS.get(image.action, image.action)
    if image.exists and image.action not in ('push', 'write'):
        done = 'is there'
    return _joined(name, done, image.engine)


def _layer(layer: PlannedLayer) -> str:
    made = _known(layer.exists, 'is there', 'would be made')
    return _joined(layer.what, size(layer.bytes), made)


# What would run.


def of_task(task: Task, demand: Mapping[str, float]) -> Fields:
    """How a job would run, secrets masked, and what it would take of the machine."""
    fields: Fields = []
    argv = quoted(masking.mask_argv(task.argv))
    if task.executable.get('kind') == 'image':
        name = task.image or _planned_name(task.executable)
        fields.append(('image', _image(PlannedImage(name=name))))
        fields.append(('arguments', argv or 'none'))
    else:
        fields.append(('command', argv))
    shown = masking.mask_env(task.env, task.secrets)
    fields += [('env', assignment) for assignment in assignments(shown)]
    if task.cwd:
        fields.append(('cwd', task.cwd))
    # What is stated and what is taken differ where nothing is stated: a job without a word takes one CPU.
    stated = {**demand, **task.requirements}
    if stated:
        fields.append(('needs', amounts(stated)))
    return fields


def _planned_name(facts: Mapping[str, Any]) -> str:
    """Of an image that is there or would be pulled, its own; what would be made is called by the executable."""
    image = Plan.of(facts).image
    is_its_own = image is not None and image.action in ('pull', 'none') and image.name
    return image.name if image is not None and is_its_own else str(facts.get('name', ''))


# Words.


def _bytes(facts: Mapping[str, Any]) -> str:
    amount = facts.get('bytes')
    return size(amount) if isinstance(amount, int | float) else ''


def _known(whether: bool | None, yes: str, no: str) -> str:
    return '' if whether is None else yes if whether else no


def _joined(*parts: str) -> str:
    return ', '.join(part for part in parts if part)


def plural(count: int, noun: str) -> str:
    """`1 unit`, `1,200 units`."""
    return f'{count:,} {noun}' if count == 1 else f'{count:,} {noun}s'


def _short(path: str) -> str:
    """The path as one would type it here."""
    relative = os.path.relpath(path) if path else ''
    return path if relative.startswith('..') or not path else str(Path('.', relative))
