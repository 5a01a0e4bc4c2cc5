"""Units of real processes, and the certainty that none of them outlives its test."""

import itertools
import os
import signal
import time
from pathlib import Path

import pytest

from xmanager.backend import Submitted, Task, Unit
from xmanager.backends.local.backend import LocalBackend
from xmanager.backends.local.machine import Machine
from xmanager.backends.local.processes import Process, scan_processes
from xmanager.backends.local.signals import send

_numbers = itertools.count(1)
HOST = Machine(cpus=4.0, ram=8.0 * 1024**3, gpus=('0', '1'))


class World:
    """Makes units and back ends, and counts how often the list of processes was read."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.keys: set[str] = set()
        self.scans = 0

    def backend(self, environ=None, **settings) -> LocalBackend:
        return LocalBackend(
            os.environ if environ is None else environ, HOST, scan=self.scan, **settings
        )

    def scan(self, since: int = 0) -> list[Process]:
        self.scans += 1
        return scan_processes(since)

    def unit(self, *argvs, requirements=None, **options) -> Unit:
        number = next(_numbers)
        tasks = tuple(
            Task(
                f'job{i}',
                '',
                argv,
                str(self.folder),
                requirements=requirements or {},
                options=options,
            )
            for i, argv in enumerate(argvs)
        )
        key = f'local.{os.getpid()}.{number}'
        self.keys.add(key)
        return Unit(7, str(number), 1, key, self.folder / str(number), tasks)

    def shell(self, *scripts, **settings) -> Unit:
        return self.unit(*(('/bin/sh', '-c', script) for script in scripts), **settings)

    def submit(self, backend, *units, grant=None):
        answers = backend.submit([backend.render(unit, grant or {}) for unit in units])
        assert all(isinstance(answer, Submitted) for answer in answers), answers
        return {answer.ref: unit for answer, unit in zip(answers, units, strict=True)}

    def left(self, key=None) -> list[Process]:
        """Living processes of this world."""
        keys = self.keys if key is None else {key}
        return [p for p in scan_processes() if p.mark is not None and p.mark.key in keys]

    def wait_until(self, condition):
        deadline = time.monotonic() + 30
        while not (result := condition()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return result

    def wait_for_end(self, backend, refs):
        """Drives the back end as a supervisor does; the observation of each unit."""

        def ended():
            observations = backend.observe(refs)
            over = all(t.state != 'running' for o in observations.values() for t in o.values())
            return observations if over else None

        return list(self.wait_until(ended).values())

    def settle(self, backend):
        """Until nothing is left behind."""
        self.wait_until(lambda: backend.observe({}) == {} and not backend.busy)

    def log(self, unit, job='job0') -> Path:
        folder: Path = unit.folder / job
        return folder / 'output.log'

    def wait_for_log(self, unit, content, job='job0'):
        log = self.log(unit, job)
        self.wait_until(lambda: log.exists() and log.read_bytes() == content)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    while left := world.left():
        for process in left:
            send(process, signal.SIGKILL)
