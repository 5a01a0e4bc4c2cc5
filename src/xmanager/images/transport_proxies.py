"""The proxy through which a registry is reached: `HTTPS_PROXY` and `NO_PROXY`, as curl and Docker read them."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs

from xmanager.errors import PackagingError
from xmanager.images.transport_address import Origin, is_loopback

_PORT: Final = 8080


@attrs.frozen
class Proxy:
    """Its place, and the headers that open it; they may hold a password."""

    host: str
    port: int
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)


def proxy_for(origin: Origin, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy to an origin; None if it is reached directly, as are this machine and plain HTTP."""
    named = environ.get('https_proxy') or environ.get('HTTPS_PROXY') or ''
    if not named or origin.scheme != 'https' or is_loopback(origin.host):
        return None
    if _is_excepted(origin, environ.get('no_proxy') or environ.get('NO_PROXY') or ''):
        return None
    try:
        parts = urlsplit(named if '://' in named else f'http://{named}')
        host, port = parts.hostname, parts.port or _PORT
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme != 'http':
        # Not its value: it may hold a password.
        raise PackagingError('HTTPS_PROXY is no address of a proxy: expected http://HOST:PORT.')
    if parts.username is None:
        return Proxy(host, port)
    pair = f'{unquote(parts.username)}:{unquote(parts.password or "")}'.encode()
    login = f'Basic {base64.b64encode(pair).decode()}'
    return Proxy(host, port, {'Proxy-Authorization': login})


def _is_excepted(origin: Origin, exceptions: str) -> bool:
    """`registry.lan` stands for its subdomains too; `10.0.0.0/8` for a network, `*` for everything."""
    for one in filter(None, (part.strip().lower() for part in exceptions.split(','))):
        name, _, port = one.rpartition(':') if one.count(':') == 1 else (one, '', '')
        if port and port != str(origin.port):
            continue
        bare = name.removeprefix('*').removeprefix('.')
        if not bare or origin.host == bare or origin.host.endswith(f'.{bare}'):
            return True
        if _is_within(origin.host, bare):
            return True
    return False


def _is_within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
