"""How SQLite keeps its journal: a log in memory that processes share, or a file where hosts share only the disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import attrs

from xmanager.store.file_system import file_system_of, is_of_the_network
from xmanager.store.sqlite import connect
from xmanager.store.trouble import is_busy

_MAGIC: Final = b'SQLite format 3\0'


@attrs.frozen
class Journal:
    """`mode` and `synchronous` as SQLite's pragmas call them; `file_system` is why."""

    mode: str
    synchronous: str
    file_system: str


def journal_for(database: Path) -> Journal:
    """The one that suits the disk on which the database's folder is."""
    kind = file_system_of(database.parent)
    if is_of_the_network(kind):
        # Without the log a power cut between two writes can damage the file unless each is waited for.
        return Journal('delete', 'FULL', kind)
    return Journal('wal', 'NORMAL', kind)


def mode_of(database: Path) -> str:
    """The mode that the file was left in (https://sqlite.org/fileformat.html, bytes 18 and 19); '' if it is none."""
    if not database.is_file():
        return ''
    with database.open('rb') as file:
        header = file.read(20)
    if not header.startswith(_MAGIC) or len(header) < 20:
        return ''
    return 'wal' if header[18] == 2 else 'delete'


def fit(database: Path, journal: Journal) -> None:
    """Turns a database that was moved from one kind of disk to the other; raises sqlite3.Error if it is in use."""
    if mode_of(database) in ('', journal.mode):
        return
    with closing(connect(database)) as connection:
        # Alone with the file, SQLite reads a log without the memory that it would share.
        connection.execute('PRAGMA locking_mode = EXCLUSIVE')
        try:
            connection.execute(f'PRAGMA journal_mode = {journal.mode}').fetchall()
        except sqlite3.OperationalError as error:
            # Slower, but as safe: whoever opens it next may turn it.
            if not (is_busy(error) and journal.mode == 'wal'):
                raise
