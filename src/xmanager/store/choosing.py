"""Opens the database that an address names, whichever kind it is."""

from __future__ import annotations

import attrs

from xmanager.store.address import Address, FileAddress
from xmanager.store.connection import Database
from xmanager.store.home import Home
from xmanager.store.opening import open_database, open_for_reading, open_nothing
from xmanager.store.sqlite import Notify, Patience
from xmanager.store.trouble import translated


def open_address(
    home: Home, address: Address, patience: Patience, notify: Notify, *, readonly: bool
) -> tuple[Home, Database]:
    """The database, and the home with the place of its file if that is elsewhere."""
    if isinstance(address, FileAddress):
        if address.path != home.database:
            home = attrs.evolve(home, sqlite=address.path)
        opener = open_for_reading if readonly else open_database
        return home, opener(home, patience, notify)
    if not readonly:
        with translated(home.database):
            home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    from xmanager.store.server_opening import open_server  # Loads SQLAlchemy: 0.2 s.

    database = open_server(address, patience, readonly=readonly)
    return home, open_nothing(home, patience, notify) if database is None else database
