"""Steps and requests with the fewest words, for tests that care about one of their fields."""

from pathlib import Path

import attrs

from xmanager.backend import Task, Unit
from xmanager.backends.slurm.batch import Request, Step


def a_step(folder='/shared/experiments/1/1', task='train', **fields) -> Step:
    facts = {'argv': ('/bin/true',), 'cwd': '/', 'env': {}, 'attempt': 1, **fields}
    return Step(task=task, folder=f'{folder}/{task}', **facts)


def a_unit(number=1, tasks=('train',), attempt=1, experiment=1) -> Unit:
    return Unit(
        experiment_id=experiment,
        label=str(number),
        attempt=attempt,
        key=f'home.{experiment}.{number}.{attempt}',
        folder=Path(f'/home/experiments/{experiment}/{number}'),
        tasks=tuple(Task(name, name, ('/bin/true',), '/') for name in tasks),
    )


def a_request(*steps, number=1, root='/shared', options=(), parallelism=None, **fields) -> Request:
    """A request of these steps, or of one with these fields."""
    folder = f'{root}/experiments/1/{number}'
    steps = steps or (a_step(folder, **fields),)
    names = tuple(step.task for step in steps)
    return Request(
        unit=a_unit(number, names, steps[0].attempt),
        options=tuple(tuple(options) for _ in steps),
        steps=tuple(attrs.evolve(step, folder=f'{folder}/{step.task}') for step in steps),
        parallelism=parallelism,
    )
