"""What users write on how a container of theirs runs: `xm_local.DockerOptions`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from xmanager.errors import ExecutorError

Ports = Mapping[int | str, Any]
"""Docker's own form: a port of the container (`80` or `'80/udp'`) to a port of the host, a list or an address."""

_PORT = re.compile(r'(\d+)(?:/(tcp|udp|sctp))?\Z')
_SIZE = re.compile(r'(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\Z', re.IGNORECASE)
_FACTORS = {'': 1, 'k': 1 << 10, 'm': 1 << 20, 'g': 1 << 30, 't': 1 << 40}
_VOLUME = re.compile(r'[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z')
_USER = re.compile(r'[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+)?\Z')
_NETWORK = re.compile(r'(?:container:)?[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z')
_HOST = re.compile(r'[^\s:]+\Z')


@attrs.define(slots=False)
class DockerOptions:
    """How a container runs: `ports` of the container to the host's, `volumes` of the host to paths in the container.

    A volume is a path of the host, or the name of a volume of the engine; `':ro'` after the path in the container makes
    it read-only. `mount_gcs_path` mounts `~/gcs` at `/gcs` where it exists; `interactive` runs the container with a
    terminal, to which `docker attach` connects yours. `shm_size` is the size of `/dev/shm` in bytes, or as `'1g'`;
    `user` is whom it runs as, `'1000:1000'` or by name; `network` one of the engine (`'host'`, `'none'`, a name)
    instead of the group's own; `extra_hosts` are names of hosts to their addresses.
    """

    ports: Ports | None = None
    volumes: dict[str, str] | None = None
    mount_gcs_path: bool = True
    interactive: bool = False
    shm_size: int | str | None = None
    user: str | int | None = None
    network: str | None = None
    extra_hosts: Mapping[str, str] | None = None

    def __attrs_post_init__(self) -> None:
        self.as_json()

    def as_json(self) -> dict[str, Any]:
        """The options as `Task.options['docker']`. Raises ExecutorError in one sentence for what makes no sense."""
        return {
            'ports': [list(port) for port in _ports(self.ports)],
            'volumes': [list(volume) for volume in _volumes(self.volumes)],
            'mount_gcs_path': bool(self.mount_gcs_path),
            'interactive': bool(self.interactive),
            'shm_size': _size(self.shm_size),
            'user': _user(self.user),
            'network': _network(self.network),
            'extra_hosts': [f'{name}:{address}' for name, address in _hosts(self.extra_hosts)],
        }


def _ports(ports: Any) -> Iterator[tuple[str, str, str]]:
    """Port of the container with its protocol, address and port of the host ('' for any)."""
    for inner, outer in _mapping('ports', ports, '{8080: 80}'):
        found = _PORT.match(str(inner))
        if found is None or isinstance(inner, bool) or not 0 < int(found[1]) < 65536:
            raise _wrong(
                'ports', ports, f"{inner!r} is no port of a container. Write 80 or '80/udp'."
            )
        for one in outer if isinstance(outer, list) else [outer]:
            address, port = one if isinstance(one, tuple) and len(one) == 2 else ('', one)
            if port is not None and not _is_port(port):
                raise _wrong(
                    'ports',
                    ports,
                    f'{one!r} is no port of this host. Write 8080 or (address, 8080).',
                )
            yield f'{found[1]}/{found[2] or "tcp"}', str(address), '' if port is None else str(port)


def _is_port(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return str(value).isdecimal() and 0 < int(value) < 65536


def _volumes(volumes: Any) -> Iterator[tuple[str, str, bool]]:
    """Path of the host or name of a volume, path in the container, whether it is read-only."""
    for outer, inner in _mapping('volumes', volumes, "{'/data': '/data'}"):
        if not isinstance(outer, str | os.PathLike) or not isinstance(inner, str | os.PathLike):
            raise _wrong('volumes', volumes, f'{outer!r}: {inner!r} is no pair of paths.')
        path, mode = _mode(os.fspath(inner))
        if not path.startswith('/') or '\0' in path:
            raise _wrong(
                'volumes', volumes, f'{path!r} is no path in a container: it must begin with /.'
            )
        yield _source(os.fspath(outer), volumes), path, mode == 'ro'


def _mode(inner: str) -> tuple[str, str]:
    path, _, mode = inner.rpartition(':')
    return (path, mode) if path and mode in ('ro', 'rw') else (inner, 'rw')


def _source(outer: str, volumes: Any) -> str:
    """An absolute path, or the name of a volume as it is."""
    if outer.startswith('~') or '/' in outer or outer in ('.', '..'):
        return os.path.abspath(os.path.expanduser(outer))
    if _VOLUME.match(outer):
        return outer
    raise _wrong(
        'volumes', volumes, f'{outer!r} is neither a path of this host nor the name of a volume.'
    )


def _size(size: Any) -> int | None:
    if size is None:
        return None
    found = _SIZE.match(str(size).strip())
    if isinstance(size, bool) or found is None:
        raise _wrong('shm_size', size, "expected bytes, or a size such as '1g'.")
    total = int(float(found[1]) * _FACTORS[found[2].lower()])
    if total <= 0:
        raise _wrong('shm_size', size, 'expected more than nothing.')
    return total


def _user(user: Any) -> str:
    if user is None:
        return ''
    if isinstance(user, bool) or not isinstance(user, int | str) or not _USER.match(str(user)):
        raise _wrong('user', user, "expected a user as '1000', '1000:1000' or by name.")
    return str(user)


def _network(network: Any) -> str:
    if network is None:
        return ''
    if not isinstance(network, str) or not _NETWORK.match(network):
        raise _wrong('network', network, "expected 'host', 'none' or the name of a network.")
    return network


def _hosts(hosts: Any) -> Iterator[tuple[str, str]]:
    for name, address in _mapping('extra_hosts', hosts, "{'database': '10.0.0.5'}"):
        if not isinstance(name, str) or not _HOST.match(name) or not str(address).strip():
            raise _wrong('extra_hosts', hosts, f'{name!r}: {address!r} is no name with an address.')
        yield name, str(address)


def _mapping(name: str, value: Any, example: str) -> Iterator[tuple[Any, Any]]:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise _wrong(name, value, f'expected a dict such as {example}.')
    yield from value.items()


def _wrong(name: str, value: Any, what: str) -> ExecutorError:
    return ExecutorError(f'DockerOptions({name}={value!r}): {what}')
