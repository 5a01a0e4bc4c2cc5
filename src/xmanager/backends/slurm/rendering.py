"""From a unit to what its nodes are told and what Slurm is asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xmanager.backend import DEFAULT_GRACE, KEY_VARIABLE, Task, Unit
from xmanager.backends.slurm.batch import Kept, Request, Step
from xmanager.backends.slurm.options import options_of_unit
from xmanager.backends.slurm.preferences import Preferences
from xmanager.backends.slurm.site import Site

ADDRESSES_VARIABLE = 'XM_JOB_ADDRESSES'
"""Environment variable with the hosts of each job of a unit: `{"learner": ["n1"], "actor": ["n2", "n3"]}`."""

# Those that only the node can fill in.
_OF_THE_NODE = ('XM_ATTEMPT', ADDRESSES_VARIABLE, 'XM_REPLICA', 'XM_REPLICAS')
# Of another job, which submits: sbatch would take some for its options, and the new job others for its own.
_OF_A_JOB = ('SLURM_', 'SLURMD_', 'SRUN_')
_KEPT = ('SLURM_CONF', 'SLURM_CLUSTERS', 'SLURM_TIME_FORMAT')


def render(
    unit: Unit, site: Site, preferences: Preferences, settings: Mapping[str, str]
) -> Request:
    """The unit as it is to be submitted from `site`. `settings` is the launcher's environment."""
    tasks = [site.adapt(unit, task) for task in unit.tasks]
    folder = site.folder(unit)
    return Request(
        unit=unit,
        options=options_of_unit(tasks, preferences, unit.importance),
        steps=tuple(_step(unit, task, f'{folder}/{task.name}', settings) for task in tasks),
        parallelism=tasks[0].options.get('array_parallelism'),
    )


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What sbatch, and by it the job, gets of the environment of who submits: nothing of the Slurm job it may be in."""
    return {
        name: value
        for name, value in environ.items()
        if name in _KEPT or not name.startswith(_OF_A_JOB)
    }


def _step(unit: Unit, task: Task, folder: str, settings: Mapping[str, str]) -> Step:
    options = task.options
    marks = {
        'XM_EXPERIMENT_ID': str(unit.experiment_id),
        'XM_WORK_UNIT_ID': unit.label,
        'XM_JOB_NAME': task.name,
        'XM_OUTPUT_DIR': f'{folder}/out',
        KEY_VARIABLE: unit.key,
        'PYTHONUNBUFFERED': '1',
    }
    # The folder in which it starts tells it where it is.
    env = {name: value for name, value in task.env.items() if name != 'PWD'}
    argv, cwd = task.argv, task.cwd or '/'
    container: dict[str, str] | None = None
    if task.image:
        from xmanager.backends.slurm.node import containers

        names = [*marks, *_OF_THE_NODE, *task.secrets]
        argv = _contained(unit, task, folder, settings, names)
        env, cwd, container = dict(containers.environment(task.env)), folder, {}
    grace = options.get('grace')
    return Step(
        task=task.name,
        folder=folder,
        argv=argv,
        cwd=cwd,
        env={**env, **marks},
        attempt=unit.attempt,
        timeout=options.get('timeout'),
        warn_before=options.get('warn_before'),
        warn_signal=options.get('warn_signal') or 'SIGUSR1',
        grace=DEFAULT_GRACE if grace is None else grace,
        setup=tuple(options.get('setup') or ()),
        replicas=options.get('replicas') or 1,
        secrets=task.secrets,
        prepended=task.executable.get('prepended', {}),
        kept=_kept(task),
        container=container,
    )


def _contained(
    unit: Unit,
    task: Task,
    folder: str,
    settings: Mapping[str, str],
    names: Iterable[str],
) -> tuple[str, ...]:
    from xmanager.backends.slurm.node import containers

    return containers.words(
        task,
        name=f'{unit.key}.{task.name}',
        folder=folder,
        layout=task.executable.get('layout', ''),
        names=names,
        settings=settings,
    )


def _kept(task: Task) -> Kept | None:
    facts = task.executable
    copy = facts.get('copy', '')
    if facts.get('kind') != 'binary' or not copy or task.argv[:1] != (facts['path'],):
        return None
    return Kept(copy, facts['bytes'], int(facts['modified']))
