"""Remembers where our folder is on a cluster: asked at the first contact, then the same for ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import attrs

from xmanager.backends.slurm.remote.channel import Place
from xmanager.snapshot.replacing import replace


class KnownPlace:
    """What the agent of a login said first. `wanted` is the folder that the user names, '' for the usual one.

    Units name it in what they run, and are looked for in it: it must not change with the environment there.
    """

    def __init__(self, login: str, wanted: str, home: Path) -> None:
        key = hashlib.sha256(f'{login}\0{wanted}'.encode()).hexdigest()[:32]
        self._file = home / 'cache' / 'logins' / f'{key}.json'
        self._login = login
        self._wanted = wanted
        self.place = self._recall()

    @property
    def root(self) -> str:
        """As an agent is to be told."""
        return self.place.root if self.place is not None else self._wanted

    def remember(self, place: Place) -> None:
        """Unless another process was quicker, which then counts."""
        self.place = self._recall()
        if self.place is None:
            self.place = place
            self._file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({'login': self._login, **attrs.asdict(place)})
            replace(self._file, text.encode())

    def _recall(self) -> Place | None:
        try:
            said = json.loads(self._file.read_bytes())
            return Place(said['home'], said['root'], said['user'], said['host'])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # A machine that went down may have left half of it: it is asked again.
