"""Whether a home's database is sound: for `xmanager doctor`, which must tell what is wrong, not fail."""

from __future__ import annotations

import attrs

from xmanager.errors import StoreError
from xmanager.store.home import Home
from xmanager.store.opening import open_for_reading
from xmanager.store.sqlite import Notify, Patience, log_warning


@attrs.frozen
class Health:
    """What was found: `size` in bytes, `trouble` in one sentence (empty: none)."""

    exists: bool
    schema: str = ''
    size: int = 0
    experiments: int = 0
    trouble: str = ''


def examine(home: Home, *, notify: Notify = log_warning) -> Health:
    """Opens the database as any reader does, and lets SQLite check it (`PRAGMA quick_check`); makes nothing."""
    try:
        if not home.database.exists():
            return Health(exists=False)
        size = home.database.stat().st_size
    except OSError as error:
        return Health(exists=True, trouble=f'{home.database}: {error.strerror}')
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
        return Health(exists=True, size=size, trouble=str(error))
    trouble = '' if verdict == 'ok' else f'{home.database} is damaged: {" ".join(verdict.split())}'
    return Health(exists=True, schema=schema, size=size, experiments=experiments, trouble=trouble)
