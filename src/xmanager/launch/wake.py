"""Makes sure that an experiment has a supervisor, and tells it that there is something to do."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from xmanager.backend import KEY_VARIABLE, WITHIN_VARIABLE
from xmanager.errors import StoreError
from xmanager.launch import kept_settings
from xmanager.ledger import place
from xmanager.store import Home, Store
from xmanager.store.address import CONFIG_VARIABLE, config_path
from xmanager.store.presence import Presence

# What belongs to the job in which a launcher may itself be running, not to what it launches.
_OF_A_JOB = (
    'XM_EXPERIMENT_ID',
    'XM_WORK_UNIT_ID',
    'XM_JOB_NAME',
    'XM_OUTPUT_DIR',
    'XM_ATTEMPT',
)

_TRIES = 5  # Supervisors that may end in a row before the launcher gives up.

_started: dict[Path, subprocess.Popen[bytes]] = {}


class Guard:
    """Sees to it that somebody supervises, while somebody waits: a supervisor may be killed at any time."""

    def __init__(self, home: Home, experiment_id: int) -> None:
        self._home = home
        self._experiment_id = experiment_id
        self._folder = home.experiment_folder(experiment_id)
        self._started = 0

    def look(self) -> None:
        """Starts a supervisor if there is none. Raises StoreError if each one ends at once."""
        presence = Presence(self._folder)
        if presence.is_supervised():
            self._started = 0
            if presence.comes_on_demand():  # It would leave, if nobody called.
                presence.wake()
            return
        if _is_starting(self._folder):
            return
        if not self._folder.exists() and not self._home.database.exists():
            return  # The records are on a server, the folder and the supervisor perhaps on another machine.
        self._started += 1
        if self._started > _TRIES:
            raise StoreError(
                f'The supervisor of experiment {self._experiment_id} has ended {_TRIES} times while units wait for '
                f'it. {self._folder / "supervisor.log"} says why; `xmanager supervise {self._experiment_id}` tries '
                'again.'
            )
        wake(self._home, self._experiment_id)


def wake(home: Home, experiment_id: int) -> None:
    """Wakes the experiment's supervisor, or starts one. Call it after the write that it shall see.

    The supervisor runs with this process's interpreter and environment, in a session of its own: it outlives us.
    Raises StoreError for an experiment whose folder is not in this home.
    """
    folder = home.experiment_folder(experiment_id)
    if not folder.is_dir():
        raise StoreError(
            f'Experiment {experiment_id} was launched on another machine or from another home: there is no {folder}. '
            'What was asked is recorded, and its supervisor does it if there is one; else run the command there.'
        )
    presence = Presence(folder)
    if presence.is_supervised():
        presence.wake()
    elif not _is_starting(folder):  # Else it will read what was written.
        _started[folder] = _start_supervisor(home, experiment_id)


def is_supervised_elsewhere(store: Store, experiment_id: int) -> bool:
    """Whether a supervisor on another host says that it is alive: not all file systems let its lock be seen here."""
    holder = store.holder(experiment_id)
    host = holder.name.split(' ')[1:2]  # After the machine, before the folder of the home.
    return holder.is_live and host not in ([], [platform.node()])


def _is_starting(folder: Path) -> bool:
    """Whether a supervisor that this process has started is on its way to its first look at the store.

    One that has held the lock and holds it no more has looked for the last time, though it may not be gone yet.
    """
    started = _started.get(folder)
    if started is None or started.poll() is not None:
        return False
    return not Presence(folder).has_supervised(started.pid)


def _start_supervisor(home: Home, experiment_id: int) -> subprocess.Popen[bytes]:
    folder = home.experiment_folder(experiment_id)
    environ = kept_settings.environment(home, experiment_id, os.environ)
    environ = {name: value for name, value in environ.items() if name not in _OF_A_JOB}
    environ['XM_HOME'] = str(home.path)
    if paths := environ.get('PYTHONPATH'):  # Relative ones are relative to our folder, not to its.
        environ['PYTHONPATH'] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
    if config := environ.get(CONFIG_VARIABLE):  # Likewise.
        from xmanager.xm.launch_script import launch_directory

        environ[CONFIG_VARIABLE] = str(config_path(config, launch_directory).absolute())
    if environ.get(place.SETTING):  # Likewise.
        environ[place.SETTING] = str(place.locate(environ))
    # The unit in which the launcher runs waits for what it launches: its CPUs are lent to them.
    within = [environ.get(WITHIN_VARIABLE), environ.get(KEY_VARIABLE)]
    environ[WITHIN_VARIABLE] = ','.join(filter(None, within))
    # Of no unit: it must not end with the job that launched it.
    environ[KEY_VARIABLE] = 'supervisor'
    with (folder / 'supervisor.log').open('ab') as log:
        return subprocess.Popen(
            [sys.executable, '-P', '-m', 'xmanager.supervise', str(experiment_id)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environ,
            start_new_session=True,
        )
