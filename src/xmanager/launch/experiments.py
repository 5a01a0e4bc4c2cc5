"""Creating experiments and finding them again."""

from __future__ import annotations

import functools
import getpass
import os
import platform
import sys
from collections.abc import Sequence
from typing import cast

from xmanager.errors import UsageError
from xmanager.launch import planning, settings
from xmanager.launch.experiment import RecordedExperiment
from xmanager.launch.settings import define_absl_flags
from xmanager.store import Home, NewExperiment, Store
from xmanager.store.address import Address, locate
from xmanager.xm.launch_script import launch_directory

define_absl_flags()


def create_experiment(experiment_title: str) -> RecordedExperiment:
    """Creates an experiment and records it; its context (`with`) is where units are added.

    In a dry run nothing is recorded, and what is added is only looked at; see `planned.PlannedExperiment`.

    Raises UsageError for a title that is not a text and for settings that name no database, StoreError if the
    database can't be written.
    """
    if not isinstance(experiment_title, str):
        raise UsageError(f'create_experiment({experiment_title!r}): the title must be a text.')
    define_absl_flags()
    plan = planning.current()
    if plan is not None:
        from xmanager.launch.planned import PlannedExperiment

        # Typed as what a launch gets: that is what scripts are written for.
        return cast(RecordedExperiment, PlannedExperiment(plan, experiment_title))
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
    environ = dict(os.environ)
    settings.export(environ)
    home = Home.locate()
    return _open(home, locate(home, environ, launch_directory))


@functools.cache
def _open(home: Home, address: Address) -> Store:
    return Store.open(home, address=address)


def _facts(title: str) -> NewExperiment:
    script = getattr(sys.modules.get('__main__'), '__file__', None) or ''
    return NewExperiment(
        title=title,
        user=getpass.getuser(),
        host=platform.node(),
        script=os.path.abspath(script) if script else '',
        argv=settings.without_secrets(sys.argv[1:]),
        cwd=os.getcwd(),
        python=sys.executable,
    )
