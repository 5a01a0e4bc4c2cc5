"""The leases of this host's ledger: each unit has one for as long as a process of it lives."""

from __future__ import annotations

import os
from collections.abc import Mapping

from xmanager.ledger import locks, place
from xmanager.ledger.place import Place


class Leases:
    """Holds leases and tells who has one, in the ledger that `environ` names, which may be removed at any time."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._place: Place | None = None
        self._holders = -1

    @property
    def place(self) -> Place:
        """Where all experiments of this host share out what it has."""
        if self._place is None:
            self._place = place.prepare(place.locate(self._environ))
        return self._place

    def hold(self, key: str) -> int:
        """A descriptor that holds the lease of a unit for whoever has it open."""
        try:
            return locks.hold(self.place.holders, key)
        except FileNotFoundError:  # The ledger was removed: those who are alive meet in a new one.
            self._place = None
            return locks.hold(self.place.holders, key)

    def is_held(self, key: str) -> bool:
        """Some process of the unit lives, wherever it went; but for those that closed what they inherited."""
        if self._holders >= 0 and not os.fstat(self._holders).st_nlink:  # The ledger was removed.
            os.close(self._holders)
            self._holders, self._place = -1, None
        if self._holders < 0:
            self._holders = os.open(self.place.holders, os.O_RDONLY | os.O_CLOEXEC)
        return locks.is_held(self._holders, key)

    def close(self) -> None:
        """Closes what it has open; asked again, it opens it again."""
        if self._holders >= 0:
            os.close(self._holders)
            self._holders = -1
