"""Where Slurm's commands run, and how the files are reached that its nodes see: what all such places can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from xmanager.backend import Deferred, Rejected, Task, Unit
from xmanager.errors import UnreachableError


class NoProgramError(UnreachableError):
    """Slurm's commands are not where they are looked for."""


RECORDS = ('begun', 'ends')
"""Folders of a batch in which its elements leave records, one file each, named ELEMENT.COMPONENT.RESTART."""


def is_whole(kind: str, content: bytes) -> bool:
    """Whether a record is not just being written: that of an end appears whole, a beginning line by line."""
    return content.endswith(b'\n') and (kind == 'ends' or b'\nat ' in content)


@attrs.frozen
class Answer:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


class Running(Protocol):
    """A command in the background."""

    def poll(self) -> Answer | None:
        """None while it runs. Raises UnreachableError if it could not be run."""

    def cancel(self) -> None:
        """Ends it, if it runs; nobody wants its answer."""


Records = Mapping[str, Mapping[str, bytes]]
"""Content of new records: by folder of a batch, and by name in it, such as `ends/0.0.0`."""


class Looking(Protocol):
    """A look for new records in the background."""

    def poll(self) -> Records | None:
        """None while it lasts. Raises UnreachableError if nothing could be seen."""


class Site(Protocol):
    """A place from which a cluster is used. All paths but a unit's own are those of the cluster.

    `env` adds to the environment of commands. All verbs raise UnreachableError if the place can't be reached.
    """

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        lock: int | None = None,
    ) -> Answer:
        """Runs a command to its end; it inherits the descriptor `lock`. UnreachableError if it takes too long."""

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Running:
        """Runs a command in the background."""

    def submit(
        self,
        files: Mapping[str, bytes],
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        lock: int | None = None,
    ) -> Answer:
        """Writes the files, then runs the command."""

    def folder(self, unit: Unit) -> str:
        """The unit's folder on the cluster."""

    def write(self, files: Mapping[str, bytes]) -> None:
        """Each file appears whole; folders are made for it."""

    def read(self, paths: Sequence[str]) -> Mapping[str, bytes]:
        """The content of those that exist."""

    def list(self, folders: Sequence[str]) -> Mapping[str, tuple[int, tuple[str, ...]]]:
        """Time of change (nanoseconds) and names of what is in them, for the folders that exist."""

    def look(self, folders: Sequence[str]) -> Looking:
        """Looks for records in folders of batches: all that are there at the first look, then what is new.

        The next look begins when this one has ended. A record may be told of twice.
        """

    def remove(self, folders: Sequence[str]) -> None:
        """Removes folders with all that is in them, each in one step as others see it."""

    def prepare(self, units: Sequence[Unit]) -> Mapping[str, Deferred | Rejected]:
        """Puts there what the units need. By key: those that can't be submitted now, or never."""

    def place(self, path: str) -> str:
        """Where a path of this machine is on the cluster."""

    def adapt(self, unit: Unit, task: Task) -> Task:
        """The task with the cluster's paths in its words."""

    def home(self) -> str:
        """The user's folder on the cluster."""

    def mirror(self, live: Mapping[str, Unit], ended: Mapping[str, Unit]) -> frozenset[str]:
        """Fetches logs, and the results of ended units, in the background; units by reference.

        Returns references of those ended units of which all is here.
        """

    def close(self) -> None:
        """Gives back what it holds of this process."""
