"""What this host has: CPUs, memory and GPUs, as far as this process may use them."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from xmanager.backends.local.gpus import Gpus, count_devices
from xmanager.errors import ExecutorError

SETTING = 'XM_LOCAL_RESOURCES'
_ROOT = Path('/')
_UNITS = {
    '': 1,
    'b': 1,
    **{f'{prefix}b': 1000 ** (i + 1) for i, prefix in enumerate('kmgtp')},
    **{f'{prefix}ib': 1024 ** (i + 1) for i, prefix in enumerate('kmgtp')},
}


@attrs.frozen
class Machine:
    """`cpus` may be a fraction (a cgroup's quota), `ram` is bytes, `gpus` are names of devices.

    A device is called by its NVML index, so that all experiments of the host call it the same, or as
    CUDA_VISIBLE_DEVICES does where NVML doesn't know it (a MIG instance, say). `uuids` holds what CUDA must be told
    instead of a name: there are some if a device can't be used, for CUDA counts only those that can.
    """

    cpus: float
    ram: float
    gpus: tuple[str, ...] = ()
    uuids: Mapping[str, str] = attrs.field(factory=dict)

    def visible(self, devices: Iterable[str]) -> str:
        """CUDA_VISIBLE_DEVICES for a job that was granted these, in the order of PCI buses."""
        return ','.join(self.uuids.get(device, device) for device in devices)


def detect(environ: Mapping[str, str], root: Path = _ROOT) -> Machine:
    """The host as this process may use it; the setting XM_LOCAL_RESOURCES overrides what is found.

    `root` is where /proc, /sys and /dev are. Raises ExecutorError for a setting that can't be read.
    """
    override = parse_setting(environ.get(SETTING, ''))
    groups = _cgroups(root)
    cpus = override.get('cpu') or _cpus(groups)
    ram = override.get('ram') or _ram(root, groups)
    gpus, uuids = _gpus(environ, root)
    if 'local_gpu' in override:
        count = int(override['local_gpu'])
        gpus = gpus[:count] if count <= len(gpus) else tuple(str(index) for index in range(count))
    return Machine(cpus, ram, gpus, uuids)


def parse_setting(text: str) -> dict[str, float]:
    """Reads e.g. `'local_gpu=4,cpu=8,ram=16GiB'`. Raises ExecutorError with one sentence."""
    amounts: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(','))):
        name, _, amount = (word.strip().lower() for word in part.partition('='))
        if name not in ('cpu', 'ram', 'local_gpu'):
            raise ExecutorError(_bad(text, f'{name!r} is not one of cpu, ram, local_gpu'))
        if name in amounts:
            raise ExecutorError(_bad(text, f'{name} stands there twice'))
        match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([a-z]*)', amount)
        if match is None or (match[2] not in _UNITS if name == 'ram' else match[2]):
            raise ExecutorError(_bad(text, f'{amount!r} is no amount of {name}'))
        amounts[name] = float(match[1]) * _UNITS[match[2]]
        if name == 'local_gpu' and amounts[name] != int(amounts[name]):
            raise ExecutorError(_bad(text, 'local_gpu is a whole number'))
        if name != 'local_gpu' and not amounts[name]:
            raise ExecutorError(_bad(text, f'{name} must be more than 0'))
    return amounts


def _bad(text: str, why: str) -> str:
    return f"{SETTING}={text!r}: {why}. Write, for example, 'local_gpu=4,cpu=8,ram=16GiB'."


def _cpus(groups: list[Path]) -> float:
    allowed = float(len(os.sched_getaffinity(0)))
    return min([allowed, *(quota for group in groups if (quota := _quota(group)) is not None)])


def _quota(group: Path) -> float | None:
    """CPUs that a cgroup may use: `cpu.max` of v2, `cpu.cfs_quota_us` of v1; None for no limit."""
    match _words(group / 'cpu.max'):
        case [quota, period] if quota.isdecimal() and period.isdecimal():
            return int(quota) / int(period)
    match _words(group / 'cpu.cfs_quota_us'), _words(group / 'cpu.cfs_period_us'):
        case [quota], [period] if quota.isdecimal() and period.isdecimal():
            return int(quota) / int(period)
    return None


def _ram(root: Path, groups: list[Path]) -> float:
    words = _words(root / 'proc/meminfo')
    total = float(words[words.index('MemTotal:') + 1]) * 1024 if 'MemTotal:' in words else math.inf
    limits = [total]
    for group in groups:
        for name in ('memory.max', 'memory.limit_in_bytes'):
            match _words(group / name):
                case [limit] if limit.isdecimal():
                    limits.append(float(limit))
    return min(limits)


def _cgroups(root: Path) -> list[Path]:
    """Folders of all cgroups that this process is in, with their parents: each may set a limit.

    A line of /proc/self/cgroup is `id:controllers:path`; version 2 has no controllers (cgroups(7)).
    """
    found = []
    for line in _text(root / 'proc/self/cgroup').splitlines():
        _, controllers, path = line.split(':', 2) if line.count(':') >= 2 else ('', '', '')
        mounts = [root / 'sys/fs/cgroup' / controllers] if controllers else []
        mounts += [root / 'sys/fs/cgroup' / name for name in controllers.split(',') if name]
        for mount in mounts or [root / 'sys/fs/cgroup', root / 'sys/fs/cgroup/unified']:
            group = mount / path.strip('/')
            while group != mount:
                found.append(group)
                group = group.parent
            found.append(mount)
    return found


def _gpus(environ: Mapping[str, str], root: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names of the devices that may be used, and the UUIDs by which CUDA must be told of them, if it must."""
    with contextlib.closing(Gpus(environ, root)) as nvml:
        seen = nvml.survey()
    visible = environ.get('CUDA_VISIBLE_DEVICES')
    if seen is None:
        names = [str(index) for index in range(count_devices(root))]
        return _visible(visible, names, {}), {}
    usable = [gpu for gpu in seen if gpu.usable]
    by_uuid = {gpu.uuid: str(gpu.index) for gpu in usable}
    told = {name: uuid for uuid, name in by_uuid.items()} if len(usable) < len(seen) else {}
    return _visible(visible, list(by_uuid.values()), by_uuid), told


def _visible(
    visible: str | None, names: Sequence[str], uuids: Mapping[str, str]
) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES leaves of the devices `names`, by name; it may call them by number or by UUID."""
    if visible is None or not names:
        return tuple(names)
    found: dict[str, None] = {}
    for word in (word.strip() for word in visible.split(',')):
        name = _resolve(word, names, uuids)
        # CUDA stops at the first word that is no device: '-1' and '' hide all.
        if name is None:
            break
        found[name] = None
    return tuple(found)


def _resolve(word: str, names: Sequence[str], uuids: Mapping[str, str]) -> str | None:
    """The name of the device that CUDA finds under a word; a UUID may be shortened as long as it is unique."""
    if word.isdecimal():
        return names[int(word)] if int(word) < len(names) else None
    if not word or word.startswith('-'):
        return None
    if word.startswith('MIG-') or not uuids:
        return word
    matching = [name for uuid, name in uuids.items() if uuid.startswith(word)]
    return matching[0] if len(matching) == 1 else None


def _words(file: Path) -> list[str]:
    return _text(file).split()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return ''
