"""From a task that runs in an image to what its keeper asks the engine for. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from xmanager.backend import KEY_VARIABLE, Task, Unit
from xmanager.backends.local import requirements

_LONGEST_NAME = 60
_LEAST_CPU = 10_000_000  # The engine's own bound, a hundredth of one.
_OWN_NAMESPACE = ('', 'host', 'none', 'bridge', 'default')


def render_container(
    unit: Unit, task: Task, gpus: str, marks: Mapping[str, str], home: str
) -> dict[str, Any]:
    """What `container.json` says (`xmanager.containers.body.Spec`). `home` is the user's folder, for `~/gcs`."""
    options = task.options.get('docker') or {}
    env = {**task.env, **{name: v for name, v in marks.items() if name != KEY_VARIABLE}}
    labels = {**_labels(unit), 'xmanager.job': task.name}
    create: dict[str, Any] = {
        'Image': task.image,
        'Env': [f'{name}={value}' for name, value in env.items()],
        'Labels': labels,
        'AttachStdout': True,
        'AttachStderr': True,
        'HostConfig': _host(unit, task, options),
    }
    if task.argv:
        create['Cmd'] = list(task.argv)
    if task.cwd:
        create['WorkingDir'] = task.cwd
    if options.get('user'):
        create['User'] = options['user']
    if options.get('interactive'):
        create |= {'Tty': True, 'OpenStdin': True, 'AttachStdin': False}
    if options.get('ports'):
        create['ExposedPorts'] = {inner: {} for inner, _, _ in options['ports']}
    network = options.get('network') or ''
    if network not in _OWN_NAMESPACE and not network.startswith('container:'):
        endpoint = {'Aliases': [task.full_name]} if task.full_name else {}
        create['NetworkingConfig'] = {'EndpointsConfig': {network: endpoint}}
    return {
        'engine': str(task.executable.get('engine', '')),
        'key': unit.key,
        'name': container_name(unit, task),
        'create': create,
        'secrets': sorted(task.secrets),
        'gpus': [gpu for gpu in gpus.split(',') if gpu] if _wants_gpus(task) else [],
        'optional_mounts': _gcs(options, home),
        'network': None if network else _group_network(unit, task),
    }


def container_name(unit: Unit, task: Task) -> str:
    """The same for the same job of the same attempt, and no other's: `xm-12-3-train-1f0c…`."""
    digest = hashlib.sha256(f'{unit.key}\0{task.name}'.encode()).hexdigest()[:12]
    plain = re.sub(r'[^A-Za-z0-9_.-]', '_', f'xm-{unit.experiment_id}-{unit.label}-{task.name}')
    return f'{plain[:_LONGEST_NAME]}-{digest}'


def _labels(unit: Unit) -> dict[str, str]:
    return {
        'xmanager.key': unit.key,
        # Of the store: a folder may be another home tomorrow, or is one on another machine.
        'xmanager.home_id': unit.key.partition('.')[0],
        # $XM_HOME/experiments/<experiment>/<unit>
        'xmanager.home': str(unit.folder.parent.parent.parent),
        'xmanager.experiment': str(unit.experiment_id),
        'xmanager.unit': unit.label,
        'xmanager.attempt': str(unit.attempt),
    }


def _host(unit: Unit, task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    out = f'{unit.task_folder(task)}/out'
    mounts = [{'Type': 'bind', 'Source': out, 'Target': out}]
    for source, target, is_read_only in options.get('volumes', ()):
        kind = 'bind' if source.startswith('/') else 'volume'
        mount = {'Type': kind, 'Source': source, 'Target': target, 'ReadOnly': is_read_only}
        mounts.append(mount)
    host: dict[str, Any] = {'Mounts': mounts}
    stated = task.requirements
    if stated.get(requirements.CPU):
        host['NanoCpus'] = max(_LEAST_CPU, round(stated[requirements.CPU] * 1e9))
    if stated.get(requirements.RAM):
        # As much again in swap is what an engine gives unless told; the limit is meant as it is stated.
        host['Memory'] = host['MemorySwap'] = int(stated[requirements.RAM])
    if options.get('shm_size'):
        host['ShmSize'] = options['shm_size']
    if options.get('network'):
        host['NetworkMode'] = options['network']
    if options.get('extra_hosts'):
        host['ExtraHosts'] = list(options['extra_hosts'])
    if options.get('ports'):
        host['PortBindings'] = _bindings(options['ports'])
    return host


def _bindings(ports: list[list[str]]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for inner, address, outer in ports:
        bindings.setdefault(inner, []).append({'HostIp': address, 'HostPort': outer})
    return bindings


def _gcs(options: Mapping[str, Any], home: str) -> list[dict[str, Any]]:
    if not home or not options.get('mount_gcs_path', True):
        return []
    return [{'Type': 'bind', 'Source': f'{home}/gcs', 'Target': '/gcs'}]


def _wants_gpus(task: Task) -> bool:
    return bool(task.requirements.get(requirements.GPU))


def _group_network(unit: Unit, task: Task) -> dict[str, Any] | None:
    """The network of a unit of several containers, in which each has its full name."""
    if sum(1 for other in unit.tasks if other.image) < 2:
        return None
    digest = hashlib.sha256(unit.key.encode()).hexdigest()[:12]
    return {
        'name': f'xm-{unit.experiment_id}-{unit.label}-{digest}',
        'labels': _labels(unit),
        'aliases': [task.full_name or task.name],
    }
