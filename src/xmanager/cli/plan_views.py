"""What `xmanager package --json` prints, secrets masked. Pure; docs/reference/json.md tells each field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from xmanager.cli import views
from xmanager.cli.views import View
from xmanager.store import masking

if TYPE_CHECKING:
    from xmanager.backend import Task
    from xmanager.launch.planned import PlannedExperiment
    from xmanager.launch.planned_units import PlannedUnit
    from xmanager.launch.planning import Planning
    from xmanager.packaging import Packaged


def planning(plan: Planning) -> View:
    """The whole document; experiments only of a dry run."""
    executables = [executable(one, plan.dry_run) for one in plan.executables]
    if not plan.dry_run:
        return views.document(executables=executables)
    experiments = [experiment(one) for one in plan.experiments]
    return views.document(executables=executables, planned_experiments=experiments)


def executable(packaged: Packaged, is_planned: bool) -> View:
    """What was packaged, or in a dry run what would be done for it."""
    facts = packaged.facts
    view = {
        'name': packaged.name,
        'kind': str(facts.get('kind', '')),
        'facts': _facts(facts),
    }
    if is_planned:
        from xmanager.packaging.plan import Plan

        return view | {'plan': plain_plan(attrs.asdict(Plan.of(facts)))}
    return view | {'made': made(facts)}


def made(facts: Mapping[str, Any]) -> str:
    """What a packaged executable is known by: where its image is, else the snapshot or the file that it is."""
    where = facts.get('made')
    if isinstance(where, Mapping):
        if 'reference' in where:
            return str(where['reference'])
        return f'{where.get("layout", "")}@{where.get("digest", "")}'
    names = ('image', 'snapshot', 'path', 'digest')
    return next((str(facts[name]) for name in names if facts.get(name)), '')


def plain_plan(plan: Mapping[str, Any]) -> View:
    """Commands and notes have their secrets masked; what is not planned is null or empty."""
    commands = [list(masking.mask_argv(argv)) for argv in plan['commands']]
    notes = [masking.mask_text(note) for note in plan['notes']]
    view: View = views.plain({**plan, 'commands': commands, 'notes': notes})
    return view


def experiment(planned: PlannedExperiment) -> View:
    """All units that would be added."""
    return {'title': planned.title, 'units': [unit(one) for one in planned.units]}


def unit(planned: PlannedUnit) -> View:
    """A unit with its jobs as the back end would get them."""
    return {
        'unit': planned.label,
        'kind': 'auxiliary' if planned.label.startswith('a') else 'work',
        'identity': planned.identity,
        'args': views.plain(masking.mask_values(planned.args)),
        'backend': planned.backend,
        'jobs': [job(planned, task) for task in planned.tasks],
    }


def job(planned: PlannedUnit, task: Task) -> View:
    """One job; `takes` is what it would hold of the machine while it runs."""
    return {
        'name': task.name,
        'argv': list(masking.mask_argv(task.argv)),
        'env': masking.mask_env(task.env, task.secrets),
        'cwd': task.cwd,
        'image': task.image,
        'requirements': dict(task.requirements),
        'takes': dict(planned.demand.get(task.name, {})),
        'options': views.plain(masking.mask_values(task.options)),
        'executable': _facts(task.executable),
    }


def _facts(facts: Mapping[str, Any]) -> Any:
    """What is recorded of a packaged executable; a plan stands beside it."""
    recorded = {name: value for name, value in facts.items() if name != 'plan'}
    return views.plain(masking.mask_values(recorded))
