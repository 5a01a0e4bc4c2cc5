"""Elements that run under one shell or another without Slurm, as Slurm would start and signal them."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from xmanager.backends.slurm.node.element import End, read_begun, read_end

_NUMBERS = itertools.count(1)
SHELLS = [
    shell
    for shell in (['dash'], ['bash', '--posix'], ['bash'], ['busybox', 'sh'])
    if shutil.which(shell[0])
]
# dash and busybox start what they don't wait for with INT ignored, and only env(1) of GNU takes that back.
_HAS_ENV = subprocess.run(['env', '--default-signal=INT', 'true'], check=False).returncode == 0
SHELLS_WITH_DEFAULT_SIGNALS = [one for one in SHELLS if one[0] == 'bash' or _HAS_ENV]


class Started:
    """An element under one shell, in a session of its own as Slurm starts it."""

    def __init__(self, shell, batch, environ, element=None):
        self.batch, self.restart = batch, environ.get('SLURM_RESTART_COUNT', '0')
        self.element, self.step = element or 0, batch.requests[element or 0].steps[0]
        self.folder = Path(self.step.folder)
        self.mark = f'{batch.folder} {next(_NUMBERS)}'
        given = {
            'PATH': os.environ['PATH'],
            'SLURMD_NODENAME': 'n3',
            'SLURM_JOB_ID': '4711',
            'STARTED': self.mark,
            **({} if element is None else {'SLURM_ARRAY_TASK_ID': str(element)}),
            **environ,
        }
        words = batch.argv[batch.argv.index(f'{batch.folder}/batch.sh') :]
        self.process = subprocess.Popen(
            [*shell, *words],
            env=given,
            cwd='/',
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> End:
        self.said, _ = self.process.communicate(timeout=20)
        self.code = self.process.returncode
        end = read_end(self._record('ends').read_bytes())
        assert end is not None
        return end

    def begun(self):
        path = self._record('begun')
        return read_begun(path.read_bytes()) if path.exists() else None

    def _record(self, folder):
        return Path(self.batch.folder, folder, f'{self.element}.0.{self.restart}')

    @property
    def log(self) -> bytes:
        path = self.folder / 'output.log'
        return path.read_bytes() if path.exists() else b''

    def wait_for(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def wait_for_log(self, text):
        self.wait_for(lambda: text in self.log)

    def signal(self, number):
        """As scancel does it for a batch script: to its process group, the shell and its timer."""
        os.killpg(self.process.pid, number)

    def end(self):
        """As Slurm ends a job: to all its processes."""
        self._signal_all(signal.SIGCONT)
        time.sleep(0.01)  # Two calls of a daemon: what is sent in one moment has no order.
        self._signal_all(signal.SIGTERM)

    def _signal_all(self, number):
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def dump(self, name):
        return (self.folder / 'out' / name).read_bytes().split(b'\0')

    def kill(self):
        for pid in {*descendants(self.process.pid), *self.left()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate(timeout=20)

    def left(self) -> dict[int, str]:
        """What runs of all that it has started, whoever is its parent now."""
        mark = os.fsencode(f'STARTED={self.mark}')
        found = {}
        for folder in Path('/proc').glob('[0-9]*'):
            with contextlib.suppress(OSError):
                if mark in (folder / 'environ').read_bytes().split(b'\0'):
                    found[int(folder.name)] = (folder / 'cmdline').read_text(errors='replace')
        return found


def descendants(pid) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def write(batch):
    for path, content in batch.files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)
