"""What the store asks of a database: the face that SQLite and the servers share. All speak the same plain SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows an UPDATE or DELETE found."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> Sequence[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """An open transaction. Parameters are named (`:id`) in every statement."""

    def execute(self, sql: str, parameters: Mapping[str, Any] = ..., /) -> Rows: ...

    def executemany(self, sql: str, parameters: Sequence[Mapping[str, Any]], /) -> object: ...

    def insert(self, sql: str, parameters: Mapping[str, Any], /) -> int:
        """Inserts one row into a table whose key is `id`; returns the id that the database gave it."""

    def now(self) -> float:
        """The database's clock, in seconds since the epoch: the one that all its clients share."""


class Database(Protocol):
    """A database that threads may share. Its own errors and the system's leave it as StoreError."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held by each transaction, so that there is one at a time in this process; re-entrant."""

    @property
    def name(self) -> str:
        """How it is called in messages: a path, or a URL without password."""

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that writes: all or nothing."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction in which every query sees the same moment."""

    def change_token(self) -> object:
        """Equal to an earlier one only if nothing was committed since, by whomever."""

    def foreign_stamp(self) -> object:
        """As `change_token`, but blind to what was committed through this very connection. Costs µs on SQLite."""

    def setting(self, name: str) -> str: ...

    def close(self) -> None: ...
