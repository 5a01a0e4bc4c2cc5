"""What of `xm_local.DockerOptions` a cluster can do: its containers run as their user, on the network of their node."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from xmanager.errors import ExecutorError


class ContainerOptions(Protocol):
    """`xm_local.DockerOptions`, which belongs to another back end."""

    def as_json(self) -> dict[str, Any]:
        """The options as values of JSON. Raises ExecutorError for what makes no sense."""


def recorded(options: ContainerOptions) -> dict[str, Any]:
    """The options as `Task.options['docker']`. Raises ExecutorError for what no node can do."""
    given = options.as_json()
    for field, trouble in _TROUBLES.items():
        if sentence := trouble(given.get(field)):
            raise ExecutorError(f'Slurm(docker_options={options!r}): {field}: {sentence}')
    return given


def _of_ports(ports: Any) -> str:
    for inner, address, outer in ports or ():
        number = inner.partition('/')[0]
        if address or outer not in ('', number):
            return (
                f'a container on a cluster is on the network of its node, so its port {number} is port {number} there. '
                f'Write {{{number}: {number}}}, or leave it out.'
            )
    return ''


def _of_volumes(volumes: Any) -> str:
    for source, _, _ in volumes or ():
        if not os.path.isabs(source):
            return f'{source!r} is a volume of an engine, which nodes do not share. Name a path that all nodes see.'
    return ''


def _of_network(network: Any) -> str:
    if network in (None, '', 'host'):
        return ''
    return f"nodes have no network {network!r}. Leave it out: a container is on the network of its node ('host')."


def _of_user(user: Any) -> str:
    return 'a container on a cluster runs as you do. Leave it out.' if user else ''


def _of_interactive(interactive: Any) -> str:
    return (
        'a job of a cluster has no terminal. Leave it out, or run it by Local().'
        if interactive
        else ''
    )


def _of_hosts(hosts: Any) -> str:
    return 'nodes know the names that their site gives them. Leave it out.' if hosts else ''


_TROUBLES: Final[Mapping[str, Callable[[Any], str]]] = {
    'ports': _of_ports,
    'volumes': _of_volumes,
    'network': _of_network,
    'user': _of_user,
    'interactive': _of_interactive,
    'extra_hosts': _of_hosts,
}
