"""Where everything of one user lives: the home directory and the places in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs


@attrs.frozen
class Home:
    """A directory with the database and a folder for each experiment. Nothing is made by looking at it.

    `sqlite` is set if the database's file is elsewhere.
    """

    path: Path
    sqlite: Path | None = None

    @staticmethod
    def locate(environ: Mapping[str, str] = os.environ) -> Home:
        """`$XM_HOME`, else `~/.xmanager`; absolute."""
        return Home(Path(environ.get('XM_HOME') or '~/.xmanager').expanduser().absolute())

    @property
    def database(self) -> Path:
        return self.sqlite or self.path / 'xmanager.db'

    @property
    def lock(self) -> Path:
        """Locked by whoever makes or migrates the database."""
        return self.database.with_name(f'{self.database.name}.lock')

    @property
    def experiments_folder(self) -> Path:
        return self.path / 'experiments'

    def experiment_folder(self, experiment_id: int) -> Path:
        return self.experiments_folder / str(experiment_id)

    def unit_folder(self, experiment_id: int, label: str) -> Path:
        return self.experiment_folder(experiment_id) / label
