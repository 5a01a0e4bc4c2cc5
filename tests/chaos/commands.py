"""Launchers and other commands of the chaos test, as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
from tests.chaos.model import Launch

_XMANAGER = Path(sys.executable).with_name('xmanager')
_SCRIPT = Path(__file__).with_name('launcher.py')

Tell = Callable[[str], None]


@attrs.frozen
class Command:
    """A launcher or another command that was started here."""

    words: str
    process: subprocess.Popen[bytes]
    output: Path
    launch: Launch | None = None

    def kill(self) -> bool:
        """False if it has ended."""
        if self.process.poll() is not None:
            return False
        self.process.kill()
        self.process.wait()
        return True


class Commands:
    """All that were started, in a folder with their output. `environment` is that of the next one.

    `executor` is the name of what jobs are launched with.
    """

    def __init__(self, folder: Path, tell: Tell, executor: str = 'Local') -> None:
        self._folder = folder
        self._executor = executor
        self._tell = tell
        self._all: list[Command] = []
        # As a user's shell has it: nothing of the run of the tests itself gets through.
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith('XM_')
        }

    def __iter__(self) -> Iterator[Command]:
        return iter(self._all)

    def are_running(self, verb: str = '') -> bool:
        return any(one.words.startswith(verb) and one.process.poll() is None for one in self._all)

    def launch(self, launch: Launch, oracle: Path) -> None:
        """Starts a launcher."""
        path = self._folder / f'{launch.title}.json'
        path.write_text(json.dumps(_workload(launch, oracle, self._executor)))
        words = ('launch', str(_SCRIPT), str(path), *(['--xm_detach'] if launch.detach else []))
        self.start(words, launch.faults, strikes_itself=launch.strikes_launcher, launch=launch)

    def start(
        self,
        words: Sequence[str],
        faults: str = '',
        *,
        strikes_itself: bool = False,
        launch: Launch | None = None,
    ) -> Command:
        """Starts a command. By `faults` the supervisors that it starts are to die, or else it itself."""
        number = len(self._all)
        environment = dict(self.environment)
        if faults:
            environment['XM_FAULTS'] = faults
            environment['XM_FAULTS_IN'] = 'launcher' if strikes_itself else ''
            environment['XM_FAULTS_LOG'] = str(self._folder / f'{number}.faults')
        said = ' '.join(words)
        whom = 'itself' if strikes_itself else 'its supervisors'
        self._tell(f'xmanager {said}' + (f'  ({faults} in {whom})' if faults else ''))
        path = self._folder / f'{number}.{words[0]}.out'
        with path.open('wb') as out:
            process = subprocess.Popen(
                [_XMANAGER, *words],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                process_group=0,
            )
        self._all.append(Command(said, process, path, launch))
        return self._all[-1]


def _workload(launch: Launch, oracle: Path, executor: str) -> dict[str, object]:
    return {
        'title': launch.title,
        'executor': executor,
        'oracle': str(oracle),
        'units': [
            {
                'importance': unit.importance,
                'jobs': [
                    {
                        'name': job.name,
                        'lock': 'exclusive' if job.gpus == 1 else 'shared',
                        'behaviours': [str(behaviour) for behaviour in job.behaviours],
                        'options': job.options,
                        'requirements': {'cpu': 1, **({'local_gpu': job.gpus} if job.gpus else {})},
                    }
                    for job in unit.jobs
                ],
            }
            for unit in launch.units
        ],
    }
