"""What a supervisor that died while it submitted leaves to its successor."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.slurm import FakeSlurm, Reply, fake_slurm

from xmanager.backend import Deferred, Submitted, Task, Unit
from xmanager.backends.slurm.backend import create
from xmanager.backends.slurm.local_site import LocalSite
from xmanager.backends.slurm.preferences import Preferences
from xmanager.backends.slurm.rendering import render
from xmanager.backends.slurm.submitting import Submissions
from xmanager.errors import UnreachableError

__all__ = ['fake_slurm']

_SUBMIT = """
import os, sys
from pathlib import Path
from tests.unit.backends.slurm.test_submitting import a_unit
from xmanager.backends.slurm.backend import create
from xmanager.backends.slurm.local_site import LocalSite
from xmanager.backends.slurm.preferences import Preferences
from xmanager.backends.slurm.rendering import render
from xmanager.backends.slurm.submitting import Submissions
from xmanager.errors import UnreachableError
backend = create(os.environ)
backend.submit([backend.render(a_unit(Path(sys.argv[1])), {})])
"""


def a_unit(folder: Path) -> Unit:
    where = folder / 'home/experiments/1/1'
    return Unit(1, '1', 1, 'h.1.1.1', where, (Task('job', 'job', ('/bin/true',), '/'),))


def start_submitting(folder: Path, **variables: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, '-c', _SUBMIT, str(folder)],
        env={**os.environ, **variables},
        cwd=Path(__file__).parents[4],
    )


def wait_until(condition: Callable[[], bool]) -> None:
    latest = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.01)


@pytest.mark.parametrize(
    ('point', 'was_submitted'), [('slurm.submit.before', False), ('slurm.submit.after', True)]
)
def test_a_unit_is_submitted_once_wherever_its_supervisor_dies(
    fake_slurm: FakeSlurm, tmp_path: Path, point: str, was_submitted: bool
):
    process = start_submitting(tmp_path, XM_FAULTS=f'{point}:1', XM_FAULTS_IN='launcher')
    assert process.wait(20) == -signal.SIGKILL
    assert len(fake_slurm.calls('sbatch')) == was_submitted
    unit, successor = a_unit(tmp_path), create(os.environ)
    assert (unit.key in successor.find([unit])) == was_submitted
    (answer,) = successor.submit([successor.render(unit, {})])
    assert isinstance(answer, Submitted)
    assert answer.ref.startswith('4711@')
    assert len(fake_slurm.calls('sbatch')) == 1


def test_a_successor_waits_for_an_sbatch_that_is_still_under_way(
    fake_slurm: FakeSlurm, tmp_path: Path
):
    fake_slurm.reply('sbatch', Reply(out='4711\n', delay=1.0, effect=True))
    process = start_submitting(tmp_path)
    wait_until(lambda: len(fake_slurm.calls('sbatch')) == 1)
    process.kill()
    process.wait(20)
    unit = a_unit(tmp_path)
    found = create(os.environ).find([unit])
    assert found[unit.key].startswith('4711@')


class SlowSite(LocalSite):
    """Each command takes six seconds, or as long as it is waited for."""

    clock = 0.0

    def run(self, argv, *, env=None, timeout=10.0, lock=None):
        self.clock += min(timeout, 6.0)
        if timeout < 6.0:
            raise UnreachableError(f'{argv[0]} gave no answer in {timeout:g} s.')
        return super().run(argv, env=env, lock=lock)


def test_a_submission_does_not_wait_for_a_slow_slurm_for_long(
    fake_slurm: FakeSlurm, tmp_path: Path
):
    unit = a_unit(tmp_path)
    unsure = unit.folder.parent / 'slurm/b0'
    unsure.mkdir(parents=True)
    told = {'format': 1, 'id': 'b0', 'name': '1_job.b0', 'array': False, 'elements': []}
    (unsure / 'batch.json').write_text(json.dumps(told))
    site = SlowSite(os.environ)
    submissions = Submissions(site, os.environ, clock=lambda: site.clock)
    (answer,) = submissions.submit([render(unit, site, Preferences.of(os.environ), os.environ)])
    assert isinstance(answer, Deferred)
    assert site.clock <= 15
    assert not fake_slurm.calls('sbatch')


def test_a_unit_whose_folder_can_not_be_written_to_is_put_off(
    fake_slurm: FakeSlurm, tmp_path: Path
):
    unit, backend = a_unit(tmp_path), create(os.environ)
    (unit.folder.parent / 'slurm.lock').mkdir(parents=True)
    (answer,) = backend.submit([backend.render(unit, {})])
    assert isinstance(answer, Deferred)
    assert 'slurm.lock' in answer.reason
