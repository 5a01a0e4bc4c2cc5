"""The store over SQLite does what every store must do."""

import pytest

pytest.register_assert_rewrite('xmanager.testing.store_contract')

from xmanager.store import Home, Store  # noqa: E402
from xmanager.testing.store_contract import SettableClock, StoreContract  # noqa: E402


class TestSqliteStore(StoreContract):
    def open_store(self, home: Home, clock: SettableClock) -> Store:
        return Store.open(home, clock=clock)
