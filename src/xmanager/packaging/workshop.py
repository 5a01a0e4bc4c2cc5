"""Where packaging happens: its folders, its settings, and who is told of what is going on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from xmanager.backend import SHARED_VARIABLE

if TYPE_CHECKING:
    from xmanager.xm.packageables import Packageable

Tell = Callable[[str, str], None]
"""Called with the name of an executable and what is being done for it, in a few words; an empty text means done."""


def _nobody(name: str, step: str) -> None:
    pass


@attrs.frozen
class Workshop:
    """What a packager may use beside the packageable itself.

    `home` is the folder in which everything of the user lives (`$XM_HOME`). `environ` is the launcher's environment, in
    which every `--xm_name` in force stands as `XM_NAME`. In a `dry_run` nothing is written, built, fetched or sent:
    what would be is said in `Packaged.facts['plan']`. Images go to `output` (a folder, as OCI layouts) or are pushed
    below `push` (`registry/path`) where one is given, else to the engine of this machine.
    """

    home: Path
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    tell: Tell = _nobody
    dry_run: bool = False
    output: Path | None = None
    push: str = ''

    def where_it_runs(self, packageable: Packageable) -> Workshop:
        """This one; or, for what runs on a cluster as it is, one whose home the machines there see."""
        if getattr(packageable.executor_spec, 'backend', '') != 'slurm':
            return self
        return attrs.evolve(self, home=shared_home(self.home, self.environ))

    @property
    def snapshots(self) -> Path:
        """The folder of `xmanager.snapshot`."""
        return self.home / 'snapshots'

    @property
    def cache(self) -> Path:
        """What can be made again: environments, layers."""
        return self.home / 'cache'

    @property
    def images(self) -> Path:
        """OCI layouts that the machines of a cluster run, in a folder that they see."""
        return shared_home(self.home, self.environ) / 'images'


def shared_home(home: Path, environ: Mapping[str, str]) -> Path:
    """Where the machines of a cluster see what is kept for this home: the home itself, unless they don't see that.

    Homes that share a folder have one each in it: what one removes, another may need.
    """
    shared = environ.get(SHARED_VARIABLE)
    if not shared or home.absolute().is_relative_to(os.path.abspath(shared)):
        return home
    return Path(os.path.abspath(shared), place_in_shared(home))


def place_in_shared(home: Path) -> str:
    """The place of a home in a folder that it shares with others."""
    return f'homes/{hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:12]}'
