"""Makes sure that an experiment has a supervisor, and tells it that there is something to do."""

from __future__ import annotations

import os
import subprocess
import sys

from xmanager.store import Home
from xmanager.store.presence import Presence

# What belongs to the job in which a launcher may itself be running, not to what it launches.
_OF_A_JOB = (
    'XM_KEY',
    'XM_EXPERIMENT_ID',
    'XM_WORK_UNIT_ID',
    'XM_JOB_NAME',
    'XM_OUTPUT_DIR',
    'XM_ATTEMPT',
)


def wake(home: Home, experiment_id: int) -> None:
    """Wakes the experiment's supervisor, or starts one. Call it after the write that it shall see.

    The supervisor runs with this process's interpreter and environment, in a session of its own: it outlives us.
    """
    folder = home.experiment_folder(experiment_id)
    presence = Presence(folder)
    if presence.is_supervised():
        presence.wake()
        return
    environ = {name: value for name, value in os.environ.items() if name not in _OF_A_JOB}
    environ['XM_HOME'] = str(home.path)
    with (folder / 'supervisor.log').open('ab') as log:
        subprocess.Popen(
            [sys.executable, '-P', '-m', 'xmanager.supervise', str(experiment_id)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environ,
            start_new_session=True,
        )
