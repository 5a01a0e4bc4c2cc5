"""Creating experiments and finding them again."""

from __future__ import annotations

import functools
import getpass
import os
import platform
import sys
from collections.abc import Sequence

from xmanager.errors import UsageError
from xmanager.launch import settings
from xmanager.launch.experiment import RecordedExperiment
from xmanager.launch.settings import define_absl_flags
from xmanager.store import Home, NewExperiment, Store

define_absl_flags()


def create_experiment(experiment_title: str) -> RecordedExperiment:
    """Creates an experiment and records it; its context (`with`) is where units are added.

    Raises UsageError for a title that is not a text and for a database that is not supported, StoreError if the
    home can't be written.
    """
    if not isinstance(experiment_title, str):
        raise UsageError(f'create_experiment({experiment_title!r}): the title must be a text.')
    define_absl_flags()
    store = _store()
    return RecordedExperiment(store, store.create_experiment(_facts(experiment_title)))


def get_experiment(experiment_id: int) -> RecordedExperiment:
    """An experiment of this home by its id, with its units; more can be added inside its context.

    Raises NotFoundError, and UsageError for what is no id.
    """
    given: object = experiment_id
    if not isinstance(given, int) or isinstance(given, bool):
        raise UsageError(
            f'get_experiment({given!r}): of type {type(given).__name__}. '
            'Expected the number of an experiment, such as 12; `xmanager list` shows them.'
        )
    define_absl_flags()
    store = _store()
    return RecordedExperiment(store, store.experiment(experiment_id))


def list_experiments() -> Sequence[RecordedExperiment]:
    """All experiments of this home, newest first."""
    define_absl_flags()
    store = _store()
    return [RecordedExperiment(store, record) for record in store.experiments()]


def _store() -> Store:
    if config := settings.get('db_yaml_config_path'):
        raise UsageError(
            f'--xm_db_yaml_config_path={config}: no database but the SQLite file of the home is supported as yet; '
            'leave the flag (or XM_DB_YAML_CONFIG_PATH) away, and set XM_HOME to choose the home.'
        )
    return _open(Home.locate())


@functools.cache
def _open(home: Home) -> Store:
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
