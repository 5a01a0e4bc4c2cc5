"""The store over PostgreSQL and over MariaDB does what every store must do."""

from __future__ import annotations

from typing import ClassVar

import pytest

for _part in (
    'store_contract',
    'store_leases_contract',
    'store_moves_contract',
    'store_units_contract',
):
    pytest.register_assert_rewrite(f'xmanager.testing.{_part}')

from tests.engines.servers import Server  # noqa: E402

from xmanager.store import Home, Store  # noqa: E402
from xmanager.testing.store_contract import SettableClock, StoreContract  # noqa: E402


class ServerStoreContract(StoreContract):
    server: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _empty_database(self, request: pytest.FixtureRequest) -> None:
        server: Server = request.getfixturevalue(self.server)
        self.address = server.empty_database('contract')

    def open_store(self, home: Home, clock: SettableClock) -> Store:
        return Store.open(home, clock=clock, address=self.address)


class TestPostgreSQLStore(ServerStoreContract):
    server = 'postgresql'


class TestMariaDBStore(ServerStoreContract):
    server = 'mariadb'
