"""Fake `sbatch`, `squeue`, `scancel`, `sacct` and `scontrol` on PATH, for what the Slurm at hand can't be made to say.

They answer in the formats of 20.11 to 24.11, in whose plain output the fields used here are the same. What they know
is a JSON file that the test changes as it goes: jobs, settings, and answers to give in place of the usual ones.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

VARIABLE: Final = 'XM_FAKE_SLURM'
_COMMANDS: Final = ('sbatch', 'squeue', 'scancel', 'sacct', 'scontrol')


@attrs.frozen
class Job:
    """A record of Slurm's: a job, an element of an array (`tasks='3'`), what waits of an array (`tasks='4-9%2'`), or
    a component of a heterogeneous job (`het` is the first one's job id).

    `status` is as wait(2) has it. `by` is the id of the user who cancelled it. Only accounting remembers what is
    `forgotten`.
    """

    job: int
    state: str = 'PENDING'
    array: int | None = None
    tasks: str = ''
    het: int | None = None
    offset: int = 0
    name: str = 'job'
    reason: str = 'None'
    nodes: str = ''
    restarts: int = 0
    status: int = 0
    limit: str = 'UNLIMITED'
    by: int | None = None
    forgotten: bool = False


@attrs.frozen
class Reply:
    """What a command answers in place of what it would; after `delay` seconds, 'for ever' if it is None.

    A `kept` one is given again and again, `effect` says that the command does its work all the same.
    """

    code: int = 0
    out: str = ''
    err: str = ''
    delay: float | None = 0.0
    kept: bool = False
    effect: bool = False


# Tried on 22.05 with slurmctld killed; the same words in
# github.com/fls-bioinformatics-core/auto_process_ngs/issues/1182 (2026).
_UNREACHABLE: Final = 'Unable to contact slurm controller (connect failure)\n'
DOWN: Final = {
    'sbatch': Reply(1, err=f'sbatch: error: Batch job submission failed: {_UNREACHABLE}'),
    'squeue': Reply(1, err=f'slurm_load_jobs error: {_UNREACHABLE}'),
    'scancel': Reply(8, err=f'scancel: error: Kill job error on job id 6: {_UNREACHABLE}'),
    'scontrol': Reply(1, err=f'slurm_load_jobs error: {_UNREACHABLE}'),
}
# github.com/sdsc/sdsc-summer-institute-2019/issues/55: said for jobs which were submitted all the same.
TIMED_OUT: Final = Reply(
    1,
    err='sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n',
    effect=True,
)
# Tried on 22.05 with slurmdbd and a QOS with MaxSubmitJobsPerUser.
TOO_MANY_JOBS: Final = Reply(
    1,
    err='sbatch: error: QOSMaxSubmitJobPerUserLimit\n'
    'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy '
    "(job submit limit, user's size and/or time limits)\n",
)
NO_SUCH_PARTITION: Final = Reply(
    1,
    err='sbatch: error: invalid partition specified: nosuch\n'
    'sbatch: error: Batch job submission failed: Invalid partition name specified\n',
)


class FakeSlurm:
    """The programs in a folder of their own, and what they know and were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / 'bin'
        self.bin.mkdir(parents=True)
        program = Path(__file__).with_name('program.py').read_text()
        for command in _COMMANDS:
            path = self.bin / command
            path.write_text(f'#!{sys.executable} -IS\n{program}')
            path.chmod(0o755)
        self._write(
            version='22.05.8',
            cluster='',
            accounting=False,
            next_job=4711,
            jobs=[],
            replies={},
            lacking_fields=[],
            config={'MaxArraySize': '1001', 'KillWait': '30 sec', 'MinJobAge': '300 sec'},
        )

    @property
    def variables(self) -> dict[str, str]:
        """What puts them before others on PATH and tells them what they know."""
        return {
            'PATH': f'{self.bin}{os.pathsep}{os.environ["PATH"]}',
            VARIABLE: str(self.folder),
        }

    def set(self, **known: Any) -> None:
        """Changes `version`, `cluster` (as of a federation), `accounting`, `next_job`, `lacking_fields` or `config`."""
        self._write(**{**self._read(), **known})

    @property
    def jobs(self) -> list[Job]:
        return [Job(**record) for record in self._read()['jobs']]

    @jobs.setter
    def jobs(self, jobs: list[Job]) -> None:
        self.set(jobs=[attrs.asdict(job) for job in jobs])

    def reply(self, command: str, *replies: Reply) -> None:
        """The next calls of the command are answered so, one after the other; then as usual again."""
        replied = self._read()['replies']
        self.set(replies={**replied, command: [attrs.asdict(reply) for reply in replies]})

    def calls(self, command: str = '') -> list[list[str]]:
        """The command lines so far, of all commands or one, without the program."""
        log = self.folder / 'calls'
        lines = log.read_text().splitlines() if log.exists() else []
        called = [json.loads(line) for line in lines]
        return [argv if not command else argv[1:] for argv in called if command in ('', argv[0])]

    def _read(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads((self.folder / 'known.json').read_text())
        return known

    def _write(self, **known: Any) -> None:
        beside = self.folder / 'known.json.new'
        beside.write_text(json.dumps(known))
        beside.replace(self.folder / 'known.json')


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Slurm's commands on this process's PATH are fakes."""
    fake = FakeSlurm(tmp_path / 'fake-slurm')
    for name, value in fake.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv('SLURM_CONF', raising=False)
    return fake
