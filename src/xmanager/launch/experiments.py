"""Creating experiments and finding them again."""

from __future__ import annotations

import functools
import getpass
import os
import platform
import sys
from collections.abc import Sequence

from xmanager.errors import UsageError
from xmanager.launch.experiment import RecordedExperiment
from xmanager.launch.settings import define_absl_flags
from xmanager.store import Home, NewExperiment, Store

define_absl_flags()


def create_experiment(experiment_title: str) -> RecordedExperiment:
    """Creates an experiment and records it; its context (`with`) is where units are added.

    Raises UsageError for a title that is not a text, StoreError if the home can't be written.
    """
    if not isinstance(experiment_title, str):
        raise UsageError(f'create_experiment({experiment_title!r}): the title must be a text.')
    define_absl_flags()
    store = _store(Home.locate())
    return RecordedExperiment(store, store.create_experiment(_facts(experiment_title)))


def get_experiment(experiment_id: int) -> RecordedExperiment:
    """An experiment of this home by its id, with its units; more can be added inside its context.

    Raises NotFoundError.
    """
    store = _store(Home.locate())
    return RecordedExperiment(store, store.experiment(experiment_id))


def list_experiments() -> Sequence[RecordedExperiment]:
    """All experiments of this home, newest first."""
    store = _store(Home.locate())
    return [RecordedExperiment(store, record) for record in store.experiments()]


@functools.cache
def _store(home: Home) -> Store:
    return Store.open(home)


def _facts(title: str) -> NewExperiment:
    script = getattr(sys.modules.get('__main__'), '__file__', None) or ''
    return NewExperiment(
        title=title,
        user=getpass.getuser(),
        host=platform.node(),
        script=os.path.abspath(script) if script else '',
        argv=tuple(sys.argv[1:]),
        cwd=os.getcwd(),
        python=sys.executable,
    )
