"""What `xmanager doctor` says of GPUs: which there are, what runs on them, and what can't be seen."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from xmanager.backend import Capacity
from xmanager.backends.local.gpus import Gpu, Gpus, Trouble
from xmanager.launch.findings import MISSING, OK, WARN, Finding

_RESOURCE: Final = 'local_gpu'
_PROBE_SECONDS: Final = 5.0


def inspect_gpus(capacity: Capacity, environ: Mapping[str, str]) -> Finding:
    """By NVML; where it isn't there, by what `nvidia-smi` lists."""
    with contextlib.closing(Gpus(environ)) as nvml:
        seen = nvml.survey()
        trouble = nvml.trouble
    names = [gpu.name for gpu in seen] if seen else _ask_smi(environ)
    count = int(capacity.amounts.get(_RESOURCE, 0))
    facts = {'usable': count, 'names': names, 'devices': [attrs.asdict(g) for g in seen or ()]}
    if not count:
        return _none_to_use(names, trouble, facts)
    if seen:
        return _as_seen(capacity, seen, facts)
    detail = f'{count}: {", ".join(names) or "as --xm_local_resources says"}'
    if trouble is not None:
        detail = f'{count}{": " if names else ""}{", ".join(names)}; what runs on them can not be seen: {trouble.what}'
        return Finding('gpus', WARN, detail, trouble.advice, facts)
    return Finding('gpus', OK, detail, facts=facts)


def _none_to_use(names: Sequence[str], trouble: Trouble | None, facts: dict[str, Any]) -> Finding:
    if names:
        detail = f'none to use, though there are {len(names)}: {", ".join(names)}'
        return Finding(
            'gpus', WARN, detail, 'see CUDA_VISIBLE_DEVICES and --xm_local_resources', facts
        )
    if trouble is not None:
        return Finding('gpus', WARN, f'none to use: {trouble.what}', trouble.advice, facts)
    advice = 'if there is one: install its driver, until nvidia-smi lists it'
    return Finding('gpus', MISSING, 'none found', advice, facts)


def _as_seen(capacity: Capacity, seen: Sequence[Gpu], facts: dict[str, Any]) -> Finding:
    by_name = {str(gpu.index): gpu for gpu in seen}
    devices = capacity.devices.get(_RESOURCE, ())
    told = [by_name[name].name if name in by_name else name for name in devices]
    parts = [f'{len(devices)}: {", ".join(told)}']
    busy = [_busy(gpu) for gpu in seen if gpu.processes]
    if busy:
        parts.append(f'processes run on {", ".join(busy)}')
    troubled = [(gpu, gpu.trouble) for gpu in seen if gpu.trouble]
    parts += [_troubled(gpu, trouble) for gpu, trouble in troubled]
    advice = next((trouble.advice for _, trouble in troubled if trouble.advice), '')
    return Finding('gpus', WARN if troubled else OK, '; '.join(parts), advice, facts)


def _busy(gpu: Gpu) -> str:
    return f'{gpu.index} (pid {", ".join(str(process.pid) for process in gpu.processes or ())})'


def _troubled(gpu: Gpu, trouble: Trouble) -> str:
    if gpu.usable:
        return f'what runs on {gpu.index} can not be seen: {trouble.what}'
    return f'{gpu.index} can not be used: {trouble.what}'


def _ask_smi(environ: Mapping[str, str]) -> list[str]:
    """The names that nvidia-smi lists; none if it isn't there, fails or takes too long."""
    path = shutil.which('nvidia-smi', path=environ.get('PATH'))
    if path is None:
        return []
    try:
        done = subprocess.run(
            [path, '--query-gpu=name', '--format=csv,noheader'],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [line.strip() for line in lines if line.strip()]
