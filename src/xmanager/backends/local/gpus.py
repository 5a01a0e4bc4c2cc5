"""NVIDIA's GPUs as NVML tells of them: the one place that talks to its library."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from xmanager.errors import ExecutorError

T = TypeVar('T')

IGNORE_OTHERS: Final = 'XM_LOCAL_GPUS_IGNORE_OTHERS'
# For tests: the module that is asked instead of nvidia-ml-py's, such as xmanager.testing.nvml.
MODULE: Final = 'XM_NVML_MODULE'
_PYNVML: Final = 'pynvml'
_ROOT: Final = Path('/')
_TRUE: Final = frozenset({'1', 'true', 'yes', 'on', 't', 'y'})
_FALSE: Final = frozenset({'', '0', 'false', 'no', 'off', 'f', 'n'})

# What NVML's errors mean here, and what to do: by nvmlReturn_t of nvml.h.
_MEANINGS: Final[Mapping[int, tuple[str, str]]] = {
    3: ('its driver does not tell', ''),
    4: (
        'this user is not allowed to ask',
        'ask the administrator, or see who may use /dev/nvidia*',
    ),
    9: ("the driver's kernel module is not loaded", 'sudo modprobe nvidia'),
    12: (
        "the driver's library libnvidia-ml.so.1 is not there",
        "install the driver; in a container, start it with NVIDIA's runtime",
    ),
    13: (
        'the driver is too old for the installed nvidia-ml-py',
        'bring the driver up to date, or install the nvidia-ml-py of its time',
    ),
    15: ('it is lost, the driver no longer reaches it', 'see the kernel log for Xid; reboot'),
    16: ('it must be reset before it can be used', 'sudo nvidia-smi --gpu-reset, or reboot'),
    18: (
        "the driver's library and its kernel module are of different versions",
        'reboot, so that the new kernel module is loaded',
    ),
}
_DEAD: Final = frozenset({15, 16})
# NVML_VALUE_NOT_AVAILABLE, as unsigned long long: what a process uses isn't known to the driver.
_UNKNOWN_MEMORY: Final = 2**64 - 1


@attrs.frozen
class Trouble:
    """Why something could not be asked, and what to do about it (may be empty)."""

    what: str
    advice: str = ''


@attrs.frozen
class GpuProcess:
    """A process that computes on a GPU. `memory` is bytes of the device, None where the driver doesn't tell."""

    pid: int
    memory: int | None = None


@attrs.frozen
class Gpu:
    """One device under its NVML index, which counts by PCI bus. `memory` is bytes.

    `usable` is False when no program can use it: it is lost, or not ours to use. `processes` is None, and `trouble`
    says why, when it can't be seen what runs on it.
    """

    index: int
    uuid: str = ''
    name: str = ''
    memory: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    usable: bool = True
    trouble: Trouble | None = None


class Gpus:
    """A session with NVML, begun by the first question and ended by `close`; a later question begins another.

    NVML is loaded only if this host has a device of NVIDIA's. Where `root`, with another /dev, isn't this host's,
    nobody is asked.
    """

    def __init__(self, environ: Mapping[str, str], root: Path = _ROOT) -> None:
        self.trouble: Trouble | None = None
        """Why NVML as a whole did not answer `survey`; None if it did, and where there is no device to ask about."""
        self._root = root
        self._module = environ.get(MODULE, '')
        self._nvml: Any = None  # nvidia-ml-py has no types
        self._tried = False

    def survey(self) -> tuple[Gpu, ...] | None:
        """All devices and what runs on them; None if NVML did not answer, for the reason in `trouble`.

        A device that can't be asked is told of as such, and hides no other.
        """
        self._begin()
        if self._nvml is None:
            return None
        try:
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            self.trouble = _meaning(error)
            return None
        self.trouble = None
        return tuple(self._gpu(index) for index in range(count))

    def close(self) -> None:
        """Ends the session, if one was begun."""
        nvml, self._nvml, self._tried = self._nvml, None, False
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError as error:
                self.trouble = _meaning(error)

    def _begin(self) -> None:
        if self._tried:
            return
        self._tried = True
        if not self._module and not (self._root == _ROOT and has_devices(self._root)):
            return
        try:
            nvml = importlib.import_module(self._module or _PYNVML)
        except ModuleNotFoundError:
            self.trouble = Trouble(
                'the Python package nvidia-ml-py is not installed', "pip install 'xmanager[gpu]'"
            )
            return
        except ImportError as error:
            self.trouble = Trouble(
                f'{self._module or _PYNVML} can not be imported: {error}',
                "pip install --force-reinstall 'xmanager[gpu]'",
            )
            return
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self.trouble = _meaning(error)
            return
        self._nvml = nvml

    def _gpu(self, index: int) -> Gpu:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        except nvml.NVMLError as error:
            return Gpu(index, usable=False, trouble=_meaning(error))
        name = self._answer(lambda: _text(nvml.nvmlDeviceGetName(handle)))
        memory = self._answer(lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).total))
        gpu = Gpu(index, uuid, name or '', memory)
        try:
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except nvml.NVMLError as error:
            usable = error.value not in _DEAD
            return attrs.evolve(gpu, usable=usable, trouble=_meaning(error))
        return attrs.evolve(gpu, processes=tuple(_process(process) for process in processes))

    def _answer(self, question: Callable[[], T]) -> T | None:
        """None for what this device has no answer to, such as the memory of one that shares the host's."""
        try:
            return question()
        except self._nvml.NVMLError:
            return None


class Strangers:
    """Which of some devices are not to be given out because a process runs on them, or because they are lost.

    Tells nothing where XM_LOCAL_GPUS_IGNORE_OTHERS is set; raises ExecutorError if that can't be read.
    """

    def __init__(self, environ: Mapping[str, str], devices: Sequence[str]) -> None:
        self._gpus = Gpus(environ)
        self._devices = frozenset() if _ignores_others(environ) else frozenset(devices)

    def look(self) -> frozenset[str]:
        """The names of the devices in use. Whose processes these are isn't asked: the ledger knows what it leased."""
        if not self._devices:
            return frozenset()
        taken = {str(g.index) for g in self._gpus.survey() or () if g.processes or not g.usable}
        return self._devices & taken

    def close(self) -> None:
        """Ends the session with NVML; `look` may be called again."""
        self._gpus.close()


def count_devices(root: Path) -> int:
    """Devices of NVIDIA's by their files under /dev, each of which is one GPU."""
    return sum(1 for name in _devices(root) if re.fullmatch(r'nvidia\d+', name))


def has_devices(root: Path) -> bool:
    """Whether there may be a GPU, as far as /dev tells. dxg: GPUs under WSL 2, which have no file each."""
    return count_devices(root) > 0 or 'dxg' in _devices(root)


def _devices(root: Path) -> list[str]:
    try:
        return os.listdir(root / 'dev')
    except OSError:
        return []


def _ignores_others(environ: Mapping[str, str]) -> bool:
    text = environ.get(IGNORE_OTHERS, '')
    if text.lower() not in _TRUE | _FALSE:
        raise ExecutorError(
            f'{IGNORE_OTHERS}={text!r}: expected true or false. '
            'Write, for example, --xm_local_gpus_ignore_others.'
        )
    return text.lower() in _TRUE


def _process(process: Any) -> GpuProcess:
    memory = process.usedGpuMemory
    return GpuProcess(process.pid, None if memory in (None, _UNKNOWN_MEMORY) else memory)


def _meaning(error: Any) -> Trouble:
    what, advice = _MEANINGS.get(error.value, (f'NVML answers: {error}', ''))
    return Trouble(what, advice)


def _text(answer: str | bytes) -> str:
    # Until version 11, nvidia-ml-py answered in bytes.
    return answer.decode(errors='replace') if isinstance(answer, bytes) else answer
