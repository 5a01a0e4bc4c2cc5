"""A user at his desk: a folder with his scripts, a home, and the installed `xmanager` command."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.acceptance.living import processes_of, supervisors_of
from tests.acceptance.polling import DEADLINE, until

PROGRAMS = Path(sys.executable).parent

# What every launch script here imports from the folder that it lies in.
SHELL_JOBS = """
from xmanager import xm, xm_local


def shell(experiment, command, *args, name='job', env_vars=None, **options):
    '''A job that runs a line of shell; `args` are $1 and so on, `options` those of the executor.'''
    [sh] = experiment.package(
        [xm.binary(xm_local.Local.Spec(), path='/bin/sh', args=['-c', command, 'sh'])]
    )
    return xm.Job(sh, xm_local.Local(**options), name=name, args=list(args), env_vars=env_vars or {})
"""

# A job that runs until the file `gate` is made; before and after it writes a line to `journal`.
GATED = (
    'echo start $XM_WORK_UNIT_ID $CUDA_VISIBLE_DEVICES >>journal; '
    'while [ ! -e gate ]; do sleep 0.02; done; '
    'echo end $XM_WORK_UNIT_ID $CUDA_VISIBLE_DEVICES >>journal'
)


class Result(NamedTuple):
    """What a command printed, and its exit code (minus the number of a signal that killed it)."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def message(self) -> str:
        """The one line on stderr that tells of a mistake, without the hint where to read more."""
        lines = [line for line in self.stderr.splitlines() if not line.startswith('See: ')]
        assert len(lines) == 1, self.stderr
        assert 'Traceback' not in self.stderr
        return lines[0]


class Started:
    """A command that runs in the background."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: Path, stderr: Path) -> None:
        self.process = process
        self._stdout = stdout
        self._stderr = stderr

    @property
    def stdout_bytes(self) -> bytes:
        return self._stdout.read_bytes()

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(errors='surrogateescape')

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors='surrogateescape')

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, deadline: float = DEADLINE) -> Result:
        """Waits for its end."""
        code = self.process.wait(deadline)
        return Result(code, self.stdout, self.stderr)


class Desk:
    """Runs commands in `folder`, with `home` as XM_HOME. `may_leave` allows processes to outlive the test."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self.may_leave = False
        # As a user's shell has it: nothing of the run of the tests itself, which may be a job, gets through.
        kept = {name: value for name, value in os.environ.items() if not name.startswith('XM_')}
        path = f'{PROGRAMS}{os.pathsep}{os.environ["PATH"]}'
        self.environment = kept | {
            'PATH': path,
            'XM_HOME': str(home),
            'XM_LOCAL_LEDGER': str(home.with_name('ledger')),
        }
        self._started: list[Started] = []
        folder.mkdir()
        self.write('shell_jobs.py', SHELL_JOBS)

    # Files.

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    def read(self, name: str) -> str:
        """What jobs have written to a file; nothing if it is not there."""
        path = self.folder / name
        return path.read_text() if path.exists() else ''

    @property
    def journal(self) -> list[list[str]]:
        """The lines that gated jobs have written, as words."""
        return [line.split() for line in self.read('journal').splitlines()]

    def started_units(self) -> list[str]:
        """Which units have begun to run, in that order."""
        return [words[1] for words in self.journal if words[0] == 'start']

    def open_gate(self) -> None:
        (self.folder / 'gate').touch()

    # Commands.

    def run(self, *words: str | Path, **environment: str) -> Result:
        """Runs a command to its end."""
        return self.start_command(words, environment).ended()

    def start_command(
        self, words: Sequence[str | Path], environment: dict[str, str] | None = None
    ) -> Started:
        number = len(self._started)
        stdout, stderr = self.folder / f'.{number}.stdout', self.folder / f'.{number}.stderr'
        with stdout.open('wb') as out, stderr.open('wb') as err:
            process = subprocess.Popen(
                words,
                cwd=self.folder,
                env=self.environment | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                # As an interactive shell does, even where pytest itself runs behind `nohup` or `&`.
                process_group=0,
                preexec_fn=_default_signals,  # noqa: PLW1509 - there are no threads here
            )
        self._started.append(Started(process, stdout, stderr))
        return self._started[-1]

    def xmanager(self, *words: str, **environment: str) -> Result:
        return self.run(PROGRAMS / 'xmanager', *words, **environment)

    def launch(self, script: str, *flags: str, **environment: str) -> Result:
        """Launches a script and waits for its end."""
        return self.start(script, *flags, **environment).ended()

    def start(self, script: str, *flags: str, **environment: str) -> Started:
        """Launches a script in the background."""
        path = self.write(f'launcher{len(self._started)}.py', script)
        return self.start_command([PROGRAMS / 'xmanager', 'launch', path.name, *flags], environment)

    # Looking back.

    def experiment(self, experiment_id: int = 1) -> Any:
        """An experiment with its units, as `xmanager show --json` tells of it."""
        return self.xmanager('show', str(experiment_id), '--json').json['experiment']

    def units(self, experiment_id: int = 1) -> list[Any]:
        units: list[Any] = self.experiment(experiment_id)['units']
        return units

    def states(self, experiment_id: int = 1) -> list[str]:
        return [unit['state'] for unit in self.units(experiment_id)]

    def log(self, unit: str = '1', job: str = 'job', experiment_id: int = 1) -> bytes:
        return (self.job_folder(unit, job, experiment_id) / 'output.log').read_bytes()

    def job_folder(self, unit: str = '1', job: str = 'job', experiment_id: int = 1) -> Path:
        return self.home / 'experiments' / str(experiment_id) / unit / job

    def kill_supervisor(self, experiment_id: int = 1) -> None:
        """As the kernel does when memory runs out; returns once it is gone."""
        for process in supervisors_of(self.home, experiment_id):
            process.end()
        until(lambda: not supervisors_of(self.home, experiment_id))

    def living_jobs(self) -> list[str]:
        """The command lines of what runs of this home, launchers and supervisors aside."""
        ours = {started.process.pid for started in self._started}
        return [
            ' '.join(process.words)
            for process in processes_of(self.home)
            if process.pid not in ours and 'xmanager.supervise' not in process.words
        ]

    # The end.

    def tidy(self, has_passed: bool) -> None:
        """Ends all that lives on, by its number; that something does is a failure unless the test allowed it."""
        if has_passed and not self.may_leave:
            self.until_quiet()
        left = processes_of(self.home)
        while alive := processes_of(self.home):
            for process in alive:
                process.end()
        for started in self._started:
            started.process.wait()
        assert self.may_leave or not has_passed or not left, left

    def until_quiet(self) -> None:
        """Waits until all commands and supervisors have ended."""
        until(lambda: not any(one.is_running for one in self._started))
        until(lambda: not processes_of(self.home))


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def running_together(journal: list[list[str]]) -> Iterator[dict[str, str]]:
    """What ran at each moment of a journal: units, with the devices that they were given."""
    running: dict[str, str] = {}
    for verb, unit, *devices in journal:
        if verb == 'start':
            running[unit] = ''.join(devices)
        else:
            del running[unit]
        yield dict(running)
