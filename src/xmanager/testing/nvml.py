"""A stand-in for NVML: the functions of `pynvml` that XManager calls, which tell what a JSON file says.

For tests of launch scripts on machines without a GPU, and of what happens beside strangers:

    XM_NVML_MODULE=xmanager.testing.nvml XM_NVML_DOUBLE=gpus.json python launcher.py

The file is read at every question, by every process, so a test changes what is seen by writing it anew (`put`):

    {"devices": [{"uuid": "GPU-1a2b", "name": "NVIDIA A100", "memory": 85899345920,
                  "processes": [{"pid": 71, "memory": 1000}]}]}

All fields of a device but `uuid` may be left out; a process's `memory` may be null. `"error": "DRIVER_NOT_LOADED"` (the
name of any `NVML_ERROR_…` below) fails all calls, in a device those about it, and `"processes_error"` the question what
runs on it. A file that isn't there is a host without NVML's library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

FILE: Final = 'XM_NVML_DOUBLE'

# Numbers of nvmlReturn_t in nvml.h.
NVML_ERROR_UNINITIALIZED: Final = 1
NVML_ERROR_INVALID_ARGUMENT: Final = 2
NVML_ERROR_NOT_SUPPORTED: Final = 3
NVML_ERROR_NO_PERMISSION: Final = 4
NVML_ERROR_DRIVER_NOT_LOADED: Final = 9
NVML_ERROR_LIBRARY_NOT_FOUND: Final = 12
NVML_ERROR_FUNCTION_NOT_FOUND: Final = 13
NVML_ERROR_GPU_IS_LOST: Final = 15
NVML_ERROR_RESET_REQUIRED: Final = 16
NVML_ERROR_LIB_RM_VERSION_MISMATCH: Final = 18
NVML_ERROR_UNKNOWN: Final = 999

_sessions = 0  # NVML counts how often it was initialised.


class NVMLError(Exception):
    """`value` is one of the `NVML_ERROR_…`."""

    def __init__(self, value: int) -> None:
        super().__init__(f'NVML error {value}')
        self.value = value


@attrs.frozen
class Handle:
    """A device, which is looked up again at every question."""

    index: int


@attrs.frozen
class MemoryInfo:
    """Bytes of a device; only the total is played."""

    total: int


@attrs.frozen
class ProcessInfo:
    """A process that computes on a device."""

    pid: int
    usedGpuMemory: int | None  # the name is pynvml's


def put(path: Path, devices: Sequence[Mapping[str, Any]] = (), *, error: str = '') -> None:
    """Writes what shall be seen from now on, in one step."""
    document = {'devices': list(devices), **({'error': error} if error else {})}
    beside = path.with_name(f'.{path.name}.{os.getpid()}')
    beside.write_text(json.dumps(document))
    os.replace(beside, path)


def nvmlInit() -> None:
    global _sessions  # noqa: PLW0603  # it is the library that holds sessions
    _read()
    _sessions += 1


def nvmlShutdown() -> None:
    global _sessions  # noqa: PLW0603
    _check_session()
    _sessions -= 1


def nvmlDeviceGetCount() -> int:
    _check_session()
    return len(_read())


def nvmlDeviceGetHandleByIndex(index: int) -> Handle:
    handle = Handle(index)
    _device(handle)
    return handle


def nvmlDeviceGetUUID(handle: Handle) -> str:
    return str(_device(handle)['uuid'])


def nvmlDeviceGetName(handle: Handle) -> str:
    return str(_device(handle).get('name', 'NVIDIA GPU'))


def nvmlDeviceGetMemoryInfo(handle: Handle) -> MemoryInfo:
    memory = _device(handle).get('memory')
    if memory is None:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return MemoryInfo(int(memory))


def nvmlDeviceGetComputeRunningProcesses(handle: Handle) -> list[ProcessInfo]:
    device = _device(handle)
    _raise_what_is_named(device.get('processes_error'))
    return [ProcessInfo(p['pid'], p.get('memory')) for p in device.get('processes', ())]


def _device(handle: Handle) -> Mapping[str, Any]:
    _check_session()
    devices = _read()
    if not 0 <= handle.index < len(devices):
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    _raise_what_is_named(devices[handle.index].get('error'))
    return devices[handle.index]


def _check_session() -> None:
    if not _sessions:
        raise NVMLError(NVML_ERROR_UNINITIALIZED)


def _read() -> Sequence[Mapping[str, Any]]:
    try:
        text = Path(os.environ[FILE]).read_text(encoding='utf-8')
    except (KeyError, FileNotFoundError):
        raise NVMLError(NVML_ERROR_LIBRARY_NOT_FOUND) from None
    document = json.loads(text)
    _raise_what_is_named(document.get('error'))
    devices: Sequence[Mapping[str, Any]] = document.get('devices', ())
    return devices


def _raise_what_is_named(error: str | None) -> None:
    if error:
        raise NVMLError(globals()[f'NVML_ERROR_{error}'])
