"""Where packaging happens: its folders, its settings, and who is told of what is going on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

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

    @property
    def snapshots(self) -> Path:
        """The folder of `xmanager.snapshot`."""
        return self.home / 'snapshots'

    @property
    def cache(self) -> Path:
        """What can be made again: environments, layers."""
        return self.home / 'cache'
