"""Turns what a server and its driver raise into one sentence: what is wrong, where, what to do. No password in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from xmanager.errors import StoreError
from xmanager.store.address import ServerAddress

# SQLSTATE of PostgreSQL (https://www.postgresql.org/docs/current/errcodes-appendix.html) or number of MariaDB and MySQL
# (https://mariadb.com/kb/en/mariadb-error-code-reference/).
_LOCKED: Final = frozenset({'55P03', '40001', '40P01', 1205, 1213})
_FORBIDDEN: Final = frozenset({'42501', '25006', 1142, 1044, 1290, 1836})
_UNKNOWN_DATABASE: Final = frozenset({'3D000', 1049})
_WRONG_PASSWORD: Final = frozenset({'28P01', '28000', 1045, 1698})
# What PostgreSQL refuses before there is a connection comes as text alone, in the server's language.
_NO_DATABASE: Final = re.compile(r'FATAL: +database ".*" does not exist')
_NO_PASSWORD: Final = re.compile(r'password authentication failed|no password supplied')
_FULL: Final = frozenset({'53100', 1021, 1114})
_NO_TABLE: Final = frozenset({'42P01', 1146})


@contextmanager
def translated(address: ServerAddress) -> Iterator[None]:
    """Raises StoreError in place of what SQLAlchemy and the drivers raise."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise StoreError(_sentence(address, error)) from error


def missing_driver(address: ServerAddress) -> StoreError:
    return StoreError(
        f"{address} needs the package {address.driver}: pip install 'xmanager[{address.kind}]'"
    )


def is_no_fault_of_ours(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether the rights, the server or other clients are in the way, whatever the statement was."""
    return _is_away(error) or _code(error) in _LOCKED | _FORBIDDEN | _FULL


def lacks_a_table(error: sa.exc.SQLAlchemyError) -> bool:
    return _code(error) in _NO_TABLE


def _sentence(address: ServerAddress, error: sa.exc.SQLAlchemyError) -> str:
    code = _code(error)
    if code in _LOCKED:
        return f'{address}: the rows are locked by another process; try again when it is done'
    if code in _FORBIDDEN:
        return f'{address}: {detail_of(error)}. Ask its owner for the rights (see docs/how-to/databases.md)'
    if code in _UNKNOWN_DATABASE or _NO_DATABASE.search(str(error)):
        return f'{address}: there is no such database. Create it, or correct {address.source}'
    if code in _WRONG_PASSWORD or _NO_PASSWORD.search(str(error)):
        return f'{address} refuses the user or the password; correct {address.source}'
    if code in _FULL:
        return f'no space is left for {address}; its administrator must make some'
    if _is_away(error):
        return (
            f'{address} does not answer ({detail_of(error)}); see that the server runs and that it is the one meant by '
            f'{address.source}'
        )
    return f'{address}: {detail_of(error)}'


def _is_away(error: sa.exc.SQLAlchemyError) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and (
        error.connection_invalidated
        or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
    )


def _code(error: sa.exc.SQLAlchemyError) -> str | int | None:
    origin: Any = getattr(error, 'orig', None)
    first = origin.args[0] if origin is not None and origin.args else None
    if isinstance(first, int):
        return first
    state: str | None = getattr(origin, 'sqlstate', None)
    return state


def detail_of(error: sa.exc.SQLAlchemyError) -> str:
    """What the driver said, in a line: no statement, no advice of its own."""
    origin = getattr(error, 'orig', None)
    if origin is None:
        return ' '.join(str(error).split())
    if len(origin.args) > 1:  # MariaDB, MySQL: a number and a sentence.
        return str(origin.args[1])
    lines = str(origin).strip().splitlines()
    return re.sub(r'\s+', ' ', lines[0]) if lines else type(origin).__name__
