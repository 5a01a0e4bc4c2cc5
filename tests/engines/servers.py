"""Real database servers in temporary folders: PostgreSQL and MariaDB as Debian packages them, on loopback ports.

Each takes less than a second to make and start, so that each worker of a test run has its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from xmanager.store import Home
from xmanager.store.address import ServerAddress, locate

if TYPE_CHECKING:
    import sqlalchemy as sa

PASSWORD: Final = 'hush/hush@+%'
_SECONDS: Final = 60.0
_TABLES: Final = ('requests', 'events', 'tasks', 'units', 'experiments')


class Server(ABC):
    """A server in a folder of its own, which a test may stop and start again: its port stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._engines: dict[str, sa.Engine] = {}

    @staticmethod
    @abstractmethod
    def lacks() -> str:
        """What is not installed; '' if all is."""

    @abstractmethod
    def make(self) -> None:
        """Makes it, and starts it."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def admin(self, database: str = '') -> str:
        """A URL for SQLAlchemy whose user may do anything."""

    @abstractmethod
    def url(self, database: str) -> str:
        """A URL for XM_DATABASE_URL, of an ordinary user with a password."""

    def empty_database(self, name: str) -> ServerAddress:
        """A database of this name without rows; its tables stay, for to make them takes most of the time."""
        if engine := self._engines.get(name):
            with engine.connect() as connection:
                for statement in self._statements_to_empty():
                    connection.exec_driver_sql(statement)
        else:
            import sqlalchemy as sa

            self.create_database(name)
            self._engines[name] = sa.create_engine(self.admin(name), isolation_level='AUTOCOMMIT')
        return address_of(f'{self.url(name)}{self._in_haste}')

    def let_go(self) -> None:
        """Closes the connections of `empty_database`."""
        for engine in self._engines.values():
            engine.dispose()

    def create_database(self, name: str) -> ServerAddress:
        """A new one, without tables, in which the ordinary user may do all."""
        execute(self.admin(), f'CREATE DATABASE {name}{self._owned}')
        return address_of(self.url(name))

    _owned = ''
    _in_haste = ''

    @abstractmethod
    def _statements_to_empty(self) -> list[str]: ...


class PostgreSQL(Server):
    """One cluster, whose superuser trusts the socket and whose `ada` needs her password."""

    _owned = ' OWNER ada'

    def admin(self, database: str = '') -> str:
        socket = f'host={self.folder}&port={self.port}'
        return f'postgresql+psycopg://postgres@/{database or "postgres"}?{socket}'

    def url(self, database: str) -> str:
        return f'postgresql://ada:{_quoted(PASSWORD)}@127.0.0.1:{self.port}/{database}'

    def _statements_to_empty(self) -> list[str]:
        # To truncate would be ten times as slow: it makes new files.
        return [
            *[f'DELETE FROM {table}' for table in _TABLES],
            *[f'ALTER SEQUENCE {table}_id_seq RESTART' for table in _TABLES if table != 'tasks'],
        ]

    @staticmethod
    def lacks() -> str:
        return '' if _postgresql_programs() else 'PostgreSQL (apt-get install postgresql)'

    def make(self) -> None:
        """Not fsynced: it lives as long as the test run."""
        if os.geteuid() == 0:
            shutil.chown(self.folder, 'postgres', 'postgres')
        self._run(
            'initdb', '-U', 'postgres', '--auth-local=trust', '--auth-host=scram-sha-256', '-N'
        )
        self.start()
        execute(self.admin(), f"CREATE ROLE ada LOGIN CREATEDB PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories='{self.folder}' "
            '-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=32MB'
        )
        self._run('pg_ctl', '-w', '-s', '-l', str(self.folder / 'log'), '-o', options, 'start')

    def stop(self) -> None:
        self._run('pg_ctl', '-w', '-s', '-m', 'fast', 'stop')

    def _run(self, program: str, *arguments: str) -> None:
        programs = _postgresql_programs()
        assert programs is not None
        # The server refuses to run as root.
        user: dict[str, Any] = {'user': 'postgres', 'group': 'postgres', 'extra_groups': []}
        subprocess.run(
            [str(programs / program), '-D', str(self.folder / 'data'), *arguments],
            check=True,
            cwd='/',
            stdout=subprocess.DEVNULL,
            **(user if os.geteuid() == 0 else {}),
        )


class MariaDB(Server):
    """One instance; `root` comes by the socket, `ada` by the network with her password."""

    # Python reads all certificates of the machine for each connection that might be encrypted: 50 ms.
    _in_haste = '?ssl_disabled=true'

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def admin(self, database: str = '') -> str:
        return (
            f'mysql+pymysql://root@localhost/{database or "mysql"}?unix_socket={self.folder}/socket'
        )

    def url(self, database: str) -> str:
        return f'mariadb://ada:{_quoted(PASSWORD)}@127.0.0.1:{self.port}/{database}'

    def _statements_to_empty(self) -> list[str]:
        return [
            *[f'DELETE FROM {table}' for table in _TABLES],
            *[f'ALTER TABLE {table} AUTO_INCREMENT = 1' for table in _TABLES if table != 'tasks'],
        ]

    @staticmethod
    def lacks() -> str:
        there = _program('mariadbd') and _program('mariadb-install-db')
        return '' if there else 'MariaDB (apt-get install mariadb-server)'

    def make(self) -> None:
        command = [
            _program('mariadb-install-db'),
            '--no-defaults',
            f'--datadir={self.folder / "data"}',
        ]
        options = ['--auth-root-authentication-method=normal', '--skip-test-db', *self._as_user()]
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        self.start()
        execute(
            self.admin(),
            f"CREATE USER ada@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
            "GRANT ALL ON *.* TO ada@'127.0.0.1'",
        )

    def start(self) -> None:
        with (self.folder / 'log').open('ab') as log:
            server = subprocess.Popen(
                [
                    _program('mariadbd'),
                    '--no-defaults',
                    f'--datadir={self.folder / "data"}',
                    f'--socket={self.folder / "socket"}',
                    '--bind-address=127.0.0.1',
                    f'--port={self.port}',
                    '--skip-name-resolve',
                    '--innodb-flush-log-at-trx-commit=0',
                    '--innodb-buffer-pool-size=32M',
                    '--innodb-log-file-size=8M',
                    *self._as_user(),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._process = server
        _wait_for_answer(self.port, server, self.folder / 'log')

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_SECONDS)
            self._process = None

    @staticmethod
    def _as_user() -> list[str]:
        return ['--user=root'] if os.geteuid() == 0 else []


SERVERS: Final[dict[str, type[Server]]] = {
    'postgresql': PostgreSQL,
    'mariadb': MariaDB,
}


def need(name: str) -> None:
    """Skips the test if this server isn't installed, unless XM_TEST_REQUIRE names it."""
    require(name, SERVERS[name].lacks())


def require(name: str, lacking: str) -> None:
    """Skips the test for what this machine lacks, if anything, unless XM_TEST_REQUIRE names the engine."""
    if lacking and name in os.environ.get('XM_TEST_REQUIRE', '').split(','):
        pytest.fail(f'XM_TEST_REQUIRE names {name}, but this machine lacks {lacking}')
    if lacking:
        pytest.skip(f'needs {lacking}')


@contextlib.contextmanager
def running(name: str) -> Iterator[Server]:
    """A server of one's own, which is gone afterwards with all it held."""
    need(name)
    server = _made(name)
    try:
        yield server
    finally:
        _unmake(server)


def _made(name: str) -> Server:
    memory = Path('/dev/shm')
    folder = Path(tempfile.mkdtemp(prefix=f'xm-{name}-', dir=memory if memory.is_dir() else None))
    server = SERVERS[name](folder)
    try:
        server.make()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return server


def _unmake(server: Server) -> None:
    server.let_go()
    # A test may have stopped it.
    with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
        server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope='session')
def postgresql() -> Iterator[Server]:
    with running('postgresql') as server:
        yield server


@pytest.fixture(scope='session')
def mariadb() -> Iterator[Server]:
    with running('mariadb') as server:
        yield server


def address_of(url: str) -> ServerAddress:
    """What a URL in XM_DATABASE_URL would mean."""
    address = locate(Home(Path('/nowhere')), {'XM_DATABASE_URL': url})
    assert isinstance(address, ServerAddress)
    return address


def execute(url: str, *statements: str) -> None:
    """Runs statements, each in a transaction of its own."""
    import sqlalchemy as sa  # Late: all tests import this file, by conftest.py.

    engine = sa.create_engine(url, isolation_level='AUTOCOMMIT', poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace('%', '%%'))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port: int = listener.getsockname()[1]
        return port


def _program(name: str) -> str:
    """Its path, also of one that ordinary users don't find; '' if it isn't installed."""
    return shutil.which(name, path=f'{os.environ["PATH"]}:/usr/sbin') or ''


def _postgresql_programs() -> Path | None:
    """Debian keeps them apart by version; the newest will do."""
    found = sorted(Path('/usr/lib/postgresql').glob('*/bin/initdb'))
    return found[-1].parent if found else None


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(('127.0.0.1', port), 0.5) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False


def _wait_for_answer(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while not _answers(port):
        if time.monotonic() > deadline or server.poll() is not None:
            raise AssertionError(f'no server came up\n{log.read_text(errors="replace")[-2000:]}')
        time.sleep(0.02)


def _quoted(password: str) -> str:
    from urllib.parse import quote

    return quote(password, safe='')
