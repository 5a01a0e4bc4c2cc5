"""Fakes of Apptainer, Singularity, Podman and enroot as programs on PATH, which refuse what the real ones refuse.

They run the program on the host itself, in the environment that a container would have. What they were asked is kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).parents[3]


def install(folder: Path, *names: str) -> Path:
    """Puts the engines of these names into a folder for PATH, which is returned; `calls` reads what they were asked."""
    (folder / 'bin').mkdir(parents=True)
    (folder / 'state').mkdir()
    for name in names:
        program = folder / 'bin' / name
        program.write_text(
            f'#!{sys.executable}\n'
            'import sys\n'
            f'sys.path.insert(0, {str(_ROOT)!r})\n'
            f'from tests.fakes.containers.engines import main\n'
            f'main({name!r}, {str(folder / "state")!r})\n'
        )
        program.chmod(0o755)
    return folder / 'bin'


def calls(folder: Path, *begin: str) -> list[Sequence[str]]:
    """The arguments of each call that began with these words, the engine's name first."""
    log = folder / 'state' / 'calls'
    lines = log.read_text().splitlines() if log.exists() else []
    every = [json.loads(line) for line in lines]
    return [words for words in every if words[: len(begin)] == list(begin)]
