"""Units on a real cluster are stopped at every moment of their lives: they end soon, as they are told, and wholly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.engines import slurm_processes as processes
from tests.engines.slurm import cluster
from tests.engines.slurm_config import Settings
from tests.engines.slurm_scene import Scene, scene, scene_on

from xmanager.backend import KEY_VARIABLE, Unit

__all__ = ['scene']

_DEAF = ('/bin/sh', '-c', 'trap "" TERM; echo begun; while :; do sleep 1; done')


def _processes_of(unit: Unit) -> list[int]:
    """Of the programs of all its tasks, and of their children."""
    mark = f'{KEY_VARIABLE}={unit.key}'.encode()
    found = []
    for process in Path('/proc').glob('[0-9]*'):
        try:
            if mark in (process / 'environ').read_bytes().split(b'\0'):
                found.append(int(process.name))
        except OSError:  # It has ended meanwhile.
            continue
    return [pid for pid in found if processes.lives(pid)]


@pytest.fixture(scope='module', params=[False, True], ids=['by processes', 'by control groups'])
def patient(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """On a cluster that itself would wait for minutes before it kills, by each way to keep track of processes."""
    if request.param and (lacking := processes.lack_for_cgroups()):
        pytest.skip(lacking)
    with (
        cluster(Settings(nodes=2, gpus=0, kill_wait=300, cgroups=request.param)) as own,
        scene_on(own, tmp_path_factory.mktemp('scene') / 'home') as made,
    ):
        yield made


def _running(scene: Scene, kind: str) -> Mapping[str, Unit]:
    """Units that don't heed TERM and have a long time of grace."""
    tasks = {'group': [_DEAF, _DEAF]}.get(kind, [_DEAF])
    copies: dict[str, Any] = {'nodes': 2} if kind == 'copies' else {}
    units = [scene.unit(*tasks, grace=300, **copies) for _ in range(2 if kind == 'array' else 1)]
    refs = scene.submit(*units)
    scene.running(refs)
    logs = [(unit, task.name) for unit in units for task in unit.tasks]
    expected = 1 if kind == 'alone' else 2

    def begun() -> bool:
        return sum(scene.log(unit, task=name).count('begun') for unit, name in logs) == expected

    scene.slurm.wait(begun, 'all of it to run')
    return refs


@pytest.mark.parametrize('kind', ['alone', 'array', 'copies', 'group'])
@pytest.mark.parametrize('grace', [0.0, 1.0])
def test_nothing_is_left_of_a_unit_that_is_told_to_have_ended(patient: Scene, kind, grace):
    refs = _running(patient, kind)
    patient.backend.stop(refs, grace)
    assert [task.signal for task in patient.ended(refs)] == [9] * len(refs)
    assert [_processes_of(unit) for unit in refs.values()] == [[]] * len(refs)
    patient.slurm.wait_idle()


def test_a_stop_that_is_hastened_ends_at_once(patient: Scene):
    refs = _running(patient, 'alone')
    for grace in (None, 1000.0, 0.0):
        patient.backend.stop(refs, grace)
    assert [task.signal for task in patient.ended(refs)] == [9]
    assert [_processes_of(unit) for unit in refs.values()] == [[]]


def test_a_stop_of_one_element_that_waits_spares_the_others_that_wait(scene: Scene):
    units = [scene.unit(('true',), extra_sbatch_args=['--hold']) for _ in range(5)]
    refs = scene.submit(*units)
    first, *others = refs
    scene.backend.stop({first: refs[first]}, None)
    scene.ended({first: refs[first]})
    left = scene.observe({ref: refs[ref] for ref in others}, lambda task: True, 'to be seen')
    assert {task.state for task in left} == {'waiting'}
    job = first.partition('_')[0]
    waiting = scene.slurm.command('squeue', '-h', '-r', '-j', job, '-t', 'PENDING', '-o', '%K')
    assert waiting.split() == ['1', '2', '3', '4']
