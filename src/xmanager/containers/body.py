"""From what is recorded of a container to the request that creates it. Pure; loaded by keepers, so light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SECRET_PREFIX = 'XM_SECRET_'
"""A keeper gets the value of the secret for a container's variable V in its own variable XM_SECRET_V."""

Spec = Mapping[str, Any]
"""What `container.json` says: `engine` (URL), `name`, `create` (the body of POST /containers/create but for what is
added here), `secrets` (names of variables), `gpus` (names of devices), `optional_mounts`, and `network`: None, or the
`name`, `labels` and `aliases` of a network of the unit's own."""


def create_body(
    spec: Spec,
    kind: str,
    environ: Mapping[str, str],
    *,
    mounts: Sequence[Mapping[str, Any]] = (),
    limits: Mapping[str, int] | None = None,
    init: bool = True,
) -> dict[str, Any]:
    """The body for an engine of this kind.

    `environ` has the secrets, `mounts` are those of the optional ones that are there, `limits` the hard limits of this
    process. Podman's service would set a million open files, and fail where it may not.
    """
    create = spec['create']
    host = dict(create['HostConfig'])
    secrets = [f'{name}={environ[SECRET_PREFIX + name]}' for name in spec['secrets']]
    host['Mounts'] = [*host.get('Mounts', []), *mounts]
    host['LogConfig'] = log_config(kind)
    if kind == 'podman' and limits:
        host['Ulimits'] = [{'Name': n, 'Soft': m, 'Hard': m} for n, m in limits.items()]
    if init:
        host['Init'] = True
    if spec['gpus']:
        host['DeviceRequests'] = [_gpus(spec['gpus'], kind)]
    body = {**create, 'Env': [*create['Env'], *secrets], 'HostConfig': host}
    network = spec['network']
    if network is not None:
        host['NetworkMode'] = network['name']
        endpoint = {'Aliases': network['aliases']}
        body['NetworkingConfig'] = {'EndpointsConfig': {network['name']: endpoint}}
    return body


def log_config(kind: str) -> dict[str, Any]:
    """How the engine itself keeps output, for a keeper that comes after another: every byte, never rotated.

    Docker's `json-file` puts U+FFFD where a byte is no UTF-8; `local` keeps bytes.
    """
    if kind == 'podman':
        return {'Type': 'k8s-file', 'Config': {}}
    unlimited = {'max-size': '1024t', 'max-file': '1', 'compress': 'false'}
    return {'Type': 'local', 'Config': unlimited}


def _gpus(devices: list[str], kind: str) -> dict[str, Any]:
    if kind == 'podman':
        # The Container Device Interface: the names are those that `nvidia-ctk cdi generate` gives.
        return {'Driver': 'cdi', 'DeviceIDs': [f'nvidia.com/gpu={device}' for device in devices]}
    return {'Driver': 'nvidia', 'DeviceIDs': list(devices), 'Capabilities': [['gpu']]}
