"""What a launch says of its host and its cluster, kept with the experiment for whoever supervises it later."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

from xmanager.backend import SHARED_VARIABLE
from xmanager.errors import UsageError
from xmanager.ledger import place
from xmanager.store import Home, Store

# Whoever starts a supervisor may say something else …
_KEPT: Final = (
    'XM_LOCAL_RESOURCES',
    place.SETTING,
    'XM_LOCAL_GPUS_IGNORE_OTHERS',
)
_KEPT_PREFIX: Final = 'XM_SLURM_'
# … but to which cluster units were submitted, and where their files are, is as it was at the launch.
_FIXED: Final = (SHARED_VARIABLE, 'SLURM_CONF', 'SLURM_CLUSTERS')

_OURS: Final = frozenset({'', 'local'})  # Back ends that need no folder which others see.


def keep(store: Store, experiment_id: int, environ: MutableMapping[str, str]) -> None:
    """Keeps what `environ` says; what was kept of an earlier launch is replaced.

    But for the folder that the nodes see: it stays what it was, also in `environ`. Raises UsageError if another one is
    asked for once there are units for which it matters.
    """
    _stay(store, experiment_id, environ)
    kept = {name: environ[name] for name in sorted(environ) if _is_kept(name) and environ[name]}
    if place.SETTING in kept:  # A relative path is relative to where this launch was given.
        kept[place.SETTING] = str(place.locate(kept))
    if kept != _read(store.home, experiment_id):
        file = _file(store.home, experiment_id)
        beside = file.with_name(f'.{file.name}.{os.getpid()}')
        beside.write_text(json.dumps(kept))
        os.replace(beside, file)


def environment(home: Home, experiment_id: int, environ: Mapping[str, str]) -> dict[str, str]:
    """What a supervisor is told, where `environ` is the environment of who starts it."""
    kept = _read(home, experiment_id)
    if kept is None:
        return dict(environ)
    others = {name: value for name, value in environ.items() if name not in _FIXED}
    return {**kept, **others}


def _read(home: Home, experiment_id: int) -> dict[str, str] | None:
    """What was kept; None if no launch has kept anything."""
    try:
        kept = json.loads(_file(home, experiment_id).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return {name: str(value) for name, value in kept.items() if _is_kept(name)}


def _stay(store: Store, experiment_id: int, environ: MutableMapping[str, str]) -> None:
    earlier = _read(store.home, experiment_id) or {}
    was, now = earlier.get(SHARED_VARIABLE, ''), environ.get(SHARED_VARIABLE, '')
    if was == now or store.backends(experiment_id, 0)[0] <= _OURS:
        return
    if now:
        raise UsageError(
            f'--xm_shared={now}: experiment {experiment_id} has units whose files are in {was or store.home.path}. '
            'Leave the flag and XM_SHARED out, or create another experiment.'
        )
    environ[SHARED_VARIABLE] = was


def _is_kept(name: str) -> bool:
    return name in (*_KEPT, *_FIXED) or name.startswith(_KEPT_PREFIX)


def _file(home: Home, experiment_id: int) -> Path:
    return home.experiment_folder(experiment_id) / 'settings.json'
