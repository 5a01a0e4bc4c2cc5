"""Whether a home's database is sound: for `xmanager doctor`, which must tell what is wrong, not fail."""

from __future__ import annotations

import attrs

from xmanager.errors import StoreError
from xmanager.store.address import FileAddress, ServerAddress, locate
from xmanager.store.home import Home
from xmanager.store.journal import journal_for, mode_of
from xmanager.store.opening import open_for_reading
from xmanager.store.sqlite import Notify, Patience, log_warning

_RESTORE = 'restore it from a copy, or move it away'
_ASK = 'start the server, or correct what names it; what runs goes on meanwhile'


@attrs.frozen
class Health:
    """What was found: `size` in bytes, `trouble` in one sentence (empty: none).

    `place` is a path or a URL without password; `server` is a server's name and version, `journal` how SQLite keeps
    its journal and why.
    """

    exists: bool
    place: str
    schema: str = ''
    size: int | None = None
    experiments: int = 0
    server: str = ''
    journal: str = ''
    trouble: str = ''
    advice: str = ''


def examine(home: Home, *, notify: Notify = log_warning) -> Health:
    """Opens the database as any reader does, and lets SQLite check it (`PRAGMA quick_check`); makes nothing.

    Raises UsageError if what shall name the database makes no sense.
    """
    address = locate(home)
    if isinstance(address, ServerAddress):
        return _examine_server(address)
    return _examine_file(home, address, notify)


def _examine_file(home: Home, address: FileAddress, notify: Notify) -> Health:
    if address.path != home.database:
        home = attrs.evolve(home, sqlite=address.path)
    place = str(address.path)
    try:
        if not address.path.exists():
            return Health(exists=False, place=place)
        size = address.path.stat().st_size
        journal = _journal_in_words(home) if size else ''
    except OSError as error:
        return Health(True, place, trouble=f'{place}: {error.strerror}', advice=_RESTORE)
    try:
        database = open_for_reading(home, Patience(), notify)
        try:
            with database.reading() as connection:
                (verdict,) = connection.execute('PRAGMA quick_check(1)').fetchone()
                (experiments,) = connection.execute('SELECT COUNT(*) FROM experiments').fetchone()
            schema = database.schema()
        finally:
            database.close()
    except StoreError as error:
        return Health(True, place, size=size, trouble=str(error), advice=_RESTORE)
    trouble = '' if verdict == 'ok' else f'{place} is damaged: {" ".join(verdict.split())}'
    return Health(
        exists=True,
        place=place,
        schema=schema,
        size=size,
        experiments=experiments,
        journal=journal,
        trouble=trouble,
        advice=_RESTORE if trouble else '',
    )


def _journal_in_words(home: Home) -> str:
    """Such as `journal wal`, and why if it isn't the usual one."""
    journal = journal_for(home.database)
    mode = mode_of(home.database) or journal.mode
    if journal.mode == 'wal':
        return f'journal {mode}'
    return f'journal {mode} (hosts share no memory on {journal.file_system})'


def _examine_server(address: ServerAddress) -> Health:
    from xmanager.store.server_opening import open_server

    place = str(address)
    try:
        database = open_server(address, Patience(), readonly=True)
        if database is None:
            return Health(exists=False, place=place, server=f'{address.kind} answers')
        try:
            with database.reading() as connection:
                counted = connection.execute('SELECT COUNT(*) FROM experiments')
                experiments = int(counted.scalar_one())
            server, schema = database.server_version(), database.schema()
        finally:
            database.close()
    except StoreError as error:
        return Health(True, place, trouble=str(error), advice=_ASK)
    return Health(True, place, schema, experiments=experiments, server=server)
