"""The store over SQLite does what every store must do."""

import pytest

for _part in (
    'store_contract',
    'store_leases_contract',
    'store_moves_contract',
    'store_units_contract',
):
    pytest.register_assert_rewrite(f'xmanager.testing.{_part}')

from xmanager.store import Home, Store  # noqa: E402
from xmanager.testing.store_contract import SettableClock, StoreContract  # noqa: E402


class TestSqliteStore(StoreContract):
    def open_store(self, home: Home, clock: SettableClock) -> Store:
        return Store.open(home, clock=clock)
