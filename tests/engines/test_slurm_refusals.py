"""What a real cluster refuses, and odd words that it must not stumble over, by the back end's verbs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.engines.slurm_scene import SLEEP, Scene, accounted, counting, runs_of, scene

from xmanager.backend import Rejected, Submitted, Unit
from xmanager.errors import ExecutorError

__all__ = ['accounted', 'scene']

BYTES = bytes(range(1, 256)).decode(errors='surrogateescape')


# --- what Slurm refuses


def test_a_wrong_partition_is_refused_with_slurms_words(scene: Scene):
    unit = scene.unit(SLEEP, partition='nosuch')
    with pytest.raises(ExecutorError, match='Invalid partition name'):
        scene.backend.check(unit.tasks)
    (answer,) = scene.answers(unit)
    assert isinstance(answer, Rejected)
    assert 'Invalid partition name' in answer.reason


@pytest.mark.parametrize(
    ('settings', 'words'),
    [({'account': 'others'}, 'Invalid account'), ({'qos': 'forbidden'}, 'Invalid qos')],
)
def test_an_account_or_qos_of_others_is_refused_with_slurms_words(
    accounted: Scene, settings, words
):
    unit = accounted.unit(SLEEP, **settings)
    with pytest.raises(ExecutorError, match=words):
        accounted.backend.check(unit.tasks)
    (answer,) = accounted.answers(unit)
    assert isinstance(answer, Rejected)
    assert words in answer.reason


@pytest.mark.parametrize(
    'requirements', [{'cpu': 99}, {'a100': 99}, {'v100': 1}, {'ram': 2**40}], ids=str
)
def test_a_request_that_no_node_can_satisfy_is_refused_at_once(scene: Scene, requirements):
    unit = scene.unit(SLEEP, requirements=requirements)
    with pytest.raises(ExecutorError, match='Requested node configuration is not available') as e:
        scene.backend.check(unit.tasks)
    assert 'low: 8 CPUs, 8000 MB, gpu:a100:4' in str(e.value)
    assert ('gpu_types' in str(e.value)) == any('100' in name for name in requirements)


def test_units_that_are_more_than_a_user_may_submit_are_put_off_and_run_once(
    accounted: Scene, tmp_path: Path
):
    units = [accounted.unit(counting(tmp_path / 'runs', 'sleep 1'), qos='tight') for _ in range(25)]
    left, taken = list(units), 0
    latest = time.monotonic() + 240
    refs: dict[str, Unit] = {}
    while left:
        assert time.monotonic() < latest
        later = []
        for unit, answer in zip(left, accounted.answers(*left), strict=True):
            assert not isinstance(answer, Rejected), answer
            if isinstance(answer, Submitted):
                refs[answer.ref] = unit
            else:
                later.append(unit)
        taken = max(taken, len(left) - len(later))
        left = later
        accounted.ended(refs)
    assert 5 <= taken <= 10
    accounted.slurm.wait_idle()
    assert all(runs_of(tmp_path / 'runs', unit) == ['1'] for unit in units)


# --- odd words


def test_arguments_arrive_byte_for_byte(scene: Scene):
    odd = ['', ' ', BYTES, '$HOME `id` "x" \'y\' \\', '-n', '*', 'a\nb\n', '\n', 'ä€😀', '%A_%a']
    echo = ('/bin/sh', '-c', r'for word; do printf "<%s>\n" "$word"; done', 'echo', *odd)
    alone, first, second = scene.unit(echo), scene.unit(echo), scene.unit(echo)
    refs = {**scene.submit(alone), **scene.submit(first, second)}
    assert [task.exit_code for task in scene.ended(refs)] == [0, 0, 0]
    for unit in (alone, first, second):
        log = unit.task_folder(unit.tasks[0]) / 'output.log'
        expected = ''.join(f'<{word}>\n' for word in odd)
        assert log.read_bytes() == os.fsencode(expected)


@pytest.mark.parametrize(
    'name', ['j|b', 'a b', "it's", '"$x"', 'jöb,1', '--help', 'x' * 200, '%j', 'a;b', '\\']
)
def test_odd_names_of_jobs_do_no_harm(scene: Scene, name):
    unit = scene.unit(('/bin/sh', '-c', 'echo "$XM_JOB_NAME"'), names=[name])
    refs = scene.submit(unit)
    assert [task.exit_code for task in scene.ended(refs)] == [0]
    assert scene.log(unit) == f'{name}\n'
    scene.reopen()
    assert scene.backend.find([unit]) == {unit.key: next(iter(refs))}
