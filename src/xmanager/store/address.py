"""Which database the records of a home are kept in: its SQLite file, unless the environment names another one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from xmanager.errors import UsageError
from xmanager.store.home import Home

URL_VARIABLE: Final = 'XM_DATABASE_URL'
CONFIG_VARIABLE: Final = 'XM_DB_YAML_CONFIG_PATH'

POSTGRESQL: Final = 'postgresql'
MYSQL: Final = 'mysql'

# The driver, and what it takes to install it, of each kind of server. MariaDB is spoken to as MySQL.
_DRIVERS: Final = {POSTGRESQL: 'psycopg', MYSQL: 'pymysql'}
_KINDS: Final = {
    'postgresql': POSTGRESQL,
    'postgres': POSTGRESQL,
    'mysql': MYSQL,
    'mariadb': MYSQL,
}
_FORMS: Final = (
    'postgresql://USER@HOST/NAME, mysql://USER@HOST/NAME, mariadb://USER@HOST/NAME '
    'or sqlite:////ABSOLUTE/PATH'
)
_CONFIG_KEYS: Final = frozenset({'sql_connector', 'sql_connection_settings'})
_CONNECTION_KEYS: Final = frozenset(
    {'backend', 'driver', 'username', 'password', 'host', 'port', 'db_name'}
)


@attrs.frozen
class ServerAddress:
    """A database of a server. `source` is what it was read from. The password is in no representation of it."""

    kind: str
    host: str
    name: str
    source: str
    port: int | None = None
    username: str = ''
    password: str = attrs.field(default='', repr=False)
    options: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)

    @property
    def driver(self) -> str:
        return _DRIVERS[self.kind]

    def __str__(self) -> str:
        """The URL without the password and without options, which may hold one."""
        user = f'{self.username}@' if self.username else ''
        port = f':{self.port}' if self.port else ''
        return f'{self.kind}://{user}{self.host}{port}/{self.name}'


@attrs.frozen
class FileAddress:
    """An SQLite file."""

    path: Path


Address = ServerAddress | FileAddress


def locate(
    home: Home,
    environ: Mapping[str, str] = os.environ,
    launch_directory: Callable[[], str] = os.getcwd,
) -> Address:
    """What `XM_DATABASE_URL` or the file at `XM_DB_YAML_CONFIG_PATH` names, else the file of the home.

    Raises UsageError, in a sentence that shows no password.
    """
    url, config = environ.get(URL_VARIABLE), environ.get(CONFIG_VARIABLE)
    if url and config:
        raise UsageError(
            f'{URL_VARIABLE} and --xm_db_yaml_config_path={config} ({CONFIG_VARIABLE}) both name a database. '
            'Leave one of them away.'
        )
    if url:
        return _from_url(url, home)
    if config:
        return _from_config(config_path(config, launch_directory), home)
    return FileAddress(home.database)


def config_path(text: str, launch_directory: Callable[[], str] = os.getcwd) -> Path:
    """The file that `--xm_db_yaml_config_path` means: relative to the launch script, else to where we are.

    Raises UsageError if it is in neither place.
    """
    path = Path(text).expanduser()
    places = [path] if path.is_absolute() else [Path(launch_directory(), path), Path.cwd() / path]
    for place in places:
        if place.is_file():
            return place
    looked = ' or '.join(dict.fromkeys(str(place) for place in places))
    raise UsageError(
        f'--xm_db_yaml_config_path={text}: there is no file {looked}. Correct the path, or leave the flag '
        f'(and {CONFIG_VARIABLE}) away to use the SQLite file of the home.'
    )


# URLs


def _from_url(url: str, home: Home) -> Address:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise _wrong_url('its host or port cannot be read') from None
    backend, _, driver = parts.scheme.partition('+')
    if backend == 'sqlite':
        return _file_from_url(parts, home)
    kind = _KINDS.get(backend)
    if kind is None:
        raise _wrong_url(f'it begins with {parts.scheme}:' if parts.scheme else 'it is no URL')
    if driver and driver != _DRIVERS[kind]:
        raise _wrong_url(f'the driver {driver} is not supported (leave +{driver} away)')
    name = unquote(parts.path.lstrip('/'))
    if not name or not parts.hostname:
        raise _wrong_url('it names no ' + ('host' if name else 'database'))
    return ServerAddress(
        kind=kind,
        host=parts.hostname,
        port=port,
        name=name,
        source=URL_VARIABLE,
        username=unquote(parts.username or ''),
        password=unquote(parts.password or ''),
        options=tuple(parse_qsl(parts.query)),
    )


def _file_from_url(parts: SplitResult, home: Home) -> FileAddress:
    path = unquote(parts.path).removeprefix('/')
    if not path and not parts.netloc:
        return FileAddress(home.database)
    if parts.netloc or not path.startswith('/'):
        raise _wrong_url('an SQLite file needs an absolute path, with four slashes before it')
    return FileAddress(Path(path))


def _wrong_url(what: str) -> UsageError:
    return UsageError(f'{URL_VARIABLE}: {what}. Expected {_FORMS}.')


# The YAML file


def _from_config(path: Path, home: Home) -> Address:
    from xmanager.store import flat_yaml

    try:
        text = path.read_text(encoding='utf-8')
        config = flat_yaml.read(text)
    except OSError as error:
        raise UsageError(
            f'{path} cannot be read ({error.strerror}). Make it readable, or leave --xm_db_yaml_config_path away.'
        ) from error
    except ValueError as error:
        # Not from it: a traceback shall show nothing of what the file says.
        raise _wrong_config(path, str(error)) from None
    connector = config.get('sql_connector', '')
    given = config.get('sql_connection_settings', {}) or {}
    if isinstance(given, str) or not isinstance(connector, str):
        raise _wrong_config(path, 'sql_connection_settings must have keys of its own below it')
    if unknown := sorted((config.keys() - _CONFIG_KEYS) | (given.keys() - _CONNECTION_KEYS)):
        raise _wrong_config(path, f'it says {unknown[0]}, which means nothing here')
    if connector == 'sqlite':
        return _file_from_config(path, given, home)
    if connector == 'generic':
        return _server_from_config(path, given)
    if connector == 'cloudsql':
        raise UsageError(
            f'{path}: sql_connector: cloudsql is not supported. Run the Cloud SQL Auth Proxy beside xmanager, and '
            'say sql_connector: generic with the host and port at which the proxy listens.'
        )
    raise _wrong_config(
        path, f'sql_connector is {connector!r}; expected sqlite, generic or cloudsql'
    )


def _file_from_config(path: Path, given: Mapping[str, str], home: Home) -> FileAddress:
    if given.get('backend', '') not in ('', 'sqlite'):
        raise _wrong_config(path, f'sqlite with the backend {given["backend"]!r} makes no sense')
    name = given.get('db_name', '')
    return FileAddress(path.absolute().parent / Path(name).expanduser() if name else home.database)


def _server_from_config(path: Path, given: Mapping[str, str]) -> ServerAddress:
    kind = _KINDS.get(given.get('backend', ''))
    if kind is None:
        raise _wrong_config(
            path,
            f'backend is {given.get("backend", "")!r}; expected postgresql, mysql or mariadb',
        )
    if given.get('driver', '') not in ('', _DRIVERS[kind]):
        raise _wrong_config(
            path, f'driver is {given["driver"]!r}; leave it away, or say {_DRIVERS[kind]}'
        )
    port = given.get('port', '')
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise _wrong_config(path, f'port is {port!r}; expected a number such as 5432')
    for key in ('host', 'db_name'):
        if not given.get(key):
            raise _wrong_config(path, f'it gives no {key}')
    return ServerAddress(
        kind=kind,
        host=given['host'],
        port=int(port) if port else None,
        name=given['db_name'],
        source=str(path),
        username=given.get('username', ''),
        password=given.get('password', ''),
    )


def _wrong_config(path: Path, what: str) -> UsageError:
    return UsageError(f'{path}: {what}. See docs/how-to/databases.md for the form of this file.')
