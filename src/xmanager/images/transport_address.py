"""Whom a URL leads to: scheme, host and port, and whether that is this machine."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

import attrs

from xmanager.errors import PackagingError

SCHEMES: Final = {'http': 80, 'https': 443}


@attrs.frozen
class Origin:
    """Where a URL leads: what may be sent to one origin is none of another's business."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Raises PackagingError for what is no URL of HTTP."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _no_url(url) from None
        if parts.scheme not in SCHEMES or not parts.hostname or not url.isascii():
            raise _no_url(url)
        if not url.isprintable() or ' ' in url or parts.username is not None:
            raise _no_url(url)
        return cls(parts.scheme, parts.hostname, port or SCHEMES[parts.scheme])

    @property
    def address(self) -> str:
        """`HOST` or `HOST:PORT`, as it stands in the name of an image."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        return host if self.port == SCHEMES[self.scheme] else f'{host}:{self.port}'


def is_loopback(host: str) -> bool:
    """Whether it is this machine, to which nobody listens in."""
    name = host.strip('[]').lower()
    if name == 'localhost':
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _no_url(url: str) -> PackagingError:
    return PackagingError(
        f'{url[:200]!r} is no URL of a registry: expected http(s)://HOST[:PORT]/….'
    )
