"""Plays one seed, alone or beside others."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
from tests.chaos.commands import Tell
from tests.chaos.model import make_plan
from tests.chaos.stage import Result, Stage


def play(seed: int, folder: Path, tell: Tell = lambda line: None) -> Result:
    """Plays one seed in an empty folder."""
    return Stage(make_plan(seed), folder, tell).play()


def play_on_slurm(seed: int, folder: Path, tell: Tell = lambda line: None) -> Result:
    """Plays one seed in an empty folder, on a cluster of its own."""
    from tests.chaos.slurm_stage import play_on
    from tests.engines.slurm import cluster

    with cluster() as made:
        return play_on(made, seed, folder, tell)


def play_aside(seed: int, how: Callable[[int, Path, Tell], Result] = play) -> Result:
    """Plays one seed in a folder that is kept only if something is wrong; `course` in it tells what was done."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # So that whatever runs is ended first.
    folder = Path(tempfile.mkdtemp(prefix=f'chaos-{seed}-'))
    course: list[str] = []
    result = how(seed, folder, course.append)
    if not result.wrong:
        shutil.rmtree(folder)
        return result
    (folder / 'course').write_text('\n'.join([*course, *result.wrong, '']))
    return attrs.evolve(result, wrong=[*result.wrong, f'left in {folder}'])
