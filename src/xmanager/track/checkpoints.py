"""Where a job keeps what it goes on from when it is tried again."""

import os
from pathlib import Path


def checkpoint_dir() -> Path:
    """The folder for checkpoints, which all attempts of this job share; made if it is not there.

    It is `checkpoints` in the job's output folder, and `checkpoints` in the current folder where XManager did not start
    this program. To save in one step and to go on from there:

        path = track.checkpoint_dir() / 'state.json'
        step = json.loads(path.read_text())['step'] if path.exists() else 0
        while step < 1000:
            step += 1
            beside = path.with_suffix('.new')
            beside.write_text(json.dumps({'step': step}))
            os.replace(beside, path)  # An attempt that dies here leaves the old file or the new one, never half.
    """
    folder = Path(os.environ.get('XM_OUTPUT_DIR') or os.getcwd()) / 'checkpoints'
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise RuntimeError(
            f'xmanager.track.checkpoint_dir(): {folder} is a file, and a folder of that name is needed. '
            'Write that file elsewhere.'
        ) from None
    return folder


def attempt() -> int:
    """How often this job was started, this time included: 1 at first, and where XManager did not start it."""
    given = os.environ.get('XM_ATTEMPT') or '1'
    if not given.isdecimal():
        raise RuntimeError(
            f'xmanager.track.attempt(): XM_ATTEMPT={given!r} must be a number; '
            'something changed what XManager had set.'
        )
    return int(given)
