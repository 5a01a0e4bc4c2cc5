"""Job code learns where it runs, in a few milliseconds, and is told plainly when it is no job."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmanager import track

VARIABLES = {
    'XM_EXPERIMENT_ID': '12',
    'XM_WORK_UNIT_ID': '3',
    'XM_JOB_NAME': 'train',
    'XM_OUTPUT_DIR': '/some/where/out',
    'XM_ATTEMPT': '2',
}


@pytest.fixture
def job(monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_job_learns_where_it_runs(job):
    place = track.current()
    assert place == track.Place(12, 3, 'train', Path('/some/where/out'), 2)
    assert 'work_unit_id=3' in repr(place)


def test_an_auxiliary_unit_has_a_label(job):
    job.setenv('XM_WORK_UNIT_ID', 'a1')
    assert track.current().work_unit_id == 'a1'


@pytest.mark.parametrize('name', VARIABLES)
def test_outside_of_a_job_one_sentence_says_so(job, name):
    job.delenv(name)
    with pytest.raises(
        RuntimeError, match=rf'{name} is not set here\. Start this program with `xmanager launch`'
    ):
        track.current()


def test_a_changed_variable_is_named(job):
    job.setenv('XM_ATTEMPT', 'two')
    with pytest.raises(RuntimeError, match="XM_ATTEMPT='two'"):
        track.current()


def test_importing_it_loads_the_standard_library_only():
    program = (
        'import sys; before = set(sys.modules); import xmanager.track; '
        'print(*sorted({m.partition(".")[0] for m in set(sys.modules) - before}))'
    )
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    output = subprocess.run(
        [sys.executable, '-c', program], env=environment, capture_output=True, text=True, check=True
    ).stdout
    loaded = set(output.split())
    assert loaded - {'xmanager'} <= sys.stdlib_module_names
    assert not loaded & {'dataclasses', 'typing', 'inspect', 'asyncio'}
