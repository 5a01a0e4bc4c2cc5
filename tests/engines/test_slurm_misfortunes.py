"""What befalls units on a real cluster, by the back end's verbs: each is told truly, and none is run twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engines import slurm_processes as processes
from tests.engines.slurm import Cluster, cluster
from tests.engines.slurm_config import Settings
from tests.engines.slurm_scene import (
    ON_N1,
    SLEEP,
    Scene,
    accounted,
    counting,
    job_of,
    runs_of,
    scene,
    scene_on,
)

from xmanager.backend import Deferred, Unit

__all__ = ['accounted', 'scene']


# --- somebody else interferes


def test_a_unit_that_somebody_cancels_while_it_runs_says_so(scene: Scene):
    refs = scene.submit(scene.unit(SLEEP), scene.unit(SLEEP))
    scene.running(refs)
    victim, other = refs
    scene.slurm.command('scancel', job_of(victim))
    (seen,) = scene.ended({victim: refs[victim]})
    assert (seen.state, seen.exit_code, seen.signal) == ('exited', None, 15)
    assert 'cancelled' in seen.reason
    (seen,) = scene.observe({other: refs[other]}, lambda task: True, 'anything')
    assert seen.state == 'running'


def test_a_unit_that_somebody_cancels_while_it_waits_says_so(scene: Scene):
    scene.slurm.submit('sleep 300', '--partition=high', '--nodes=4', '--exclusive')
    refs = scene.submit(scene.unit(SLEEP))
    (seen,) = scene.observe(refs, lambda task: bool(task.reason), 'a reason')
    assert seen.state == 'waiting'
    assert seen.reason in ('Resources', 'Priority')
    scene.slurm.command('scancel', job_of(next(iter(refs))))
    (seen,) = scene.ended(refs)
    assert 'cancelled' in seen.reason


def test_accounting_tells_who_cancelled(accounted: Scene):
    refs = accounted.submit(accounted.unit(SLEEP))
    accounted.running(refs)
    accounted.slurm.command('scancel', job_of(next(iter(refs))))
    (seen,) = accounted.ended(refs)
    assert 'cancelled' in seen.reason


def test_a_unit_that_somebody_requeues_runs_again_as_another_attempt(scene: Scene):
    refs = scene.submit(scene.unit(SLEEP, max_restarts=2))
    scene.running(refs)
    (unit,) = refs.values()
    scene.slurm.command('scontrol', 'requeue', job_of(next(iter(refs))))
    (seen,) = scene.observe(refs, lambda task: task.restarts == 1, 'the requeue')
    (seen,) = scene.observe(refs, lambda task: task.state == 'running', 'the second start')
    assert seen.restarts == 1
    scene.slurm.wait(lambda: 'begun 2' in scene.log(unit), 'the second run')
    assert scene.log(unit, 'output.1.log') == 'begun 1\n'


def test_a_unit_that_may_not_restart_can_not_be_requeued(scene: Scene):
    refs = scene.submit(scene.unit(SLEEP))
    scene.running(refs)
    refused = scene.slurm.run('scontrol', 'requeue', job_of(next(iter(refs))))
    assert refused.returncode == 1


def test_a_unit_that_is_requeued_after_its_end_has_ended_still(scene: Scene, tmp_path: Path):
    unit = scene.unit(counting(tmp_path / 'runs', 'exit 3'), max_restarts=2)
    refs = scene.submit(unit)
    assert [task.exit_code for task in scene.ended(refs)] == [3]
    scene.slurm.wait_idle()
    job = job_of(next(iter(refs)))
    scene.slurm.run('scontrol', 'requeue', job)
    scene.slurm.wait_idle()
    scene.reopen()
    (seen,) = scene.ended(refs)
    assert (seen.exit_code, runs_of(tmp_path / 'runs', unit)) == (3, ['1'])


# --- they are stopped

_SAVES = "trap 'echo saved; exit 0' TERM; echo begun; while :; do sleep .1; done"


def test_a_unit_that_is_stopped_gets_a_term_and_may_end_in_its_own_way(scene: Scene):
    saving, plain = scene.unit(('/bin/sh', '-c', _SAVES), grace=300), scene.unit(SLEEP, grace=300)
    refs = scene.submit(saving, plain)
    scene.running(refs)
    scene.backend.stop(refs, None)
    seen = scene.ended(refs)  # Long before the grace time is over.
    assert [(task.exit_code, task.signal) for task in seen] == [(0, None), (None, 15)]
    assert 'saved' in scene.log(saving)


def test_a_deaf_unit_that_is_stopped_is_killed_after_its_grace_time(scene: Scene):
    refs = scene.submit(scene.unit(('/bin/sh', '-c', 'trap "" TERM; echo begun; sleep 300')))
    scene.running(refs)
    scene.backend.stop(refs, 1.0)
    assert [task.signal for task in scene.ended(refs)] == [9]


def test_one_of_an_array_that_waits_is_stopped_and_the_others_are_not(scene: Scene):
    scene.slurm.submit('sleep 300', '--partition=high', '--nodes=4', '--exclusive')
    units = [scene.unit(SLEEP) for _ in range(5)]
    refs = scene.submit(*units)
    third = {ref: unit for ref, unit in refs.items() if unit is units[2]}
    scene.backend.stop(third, None)
    assert [task.signal for task in scene.ended(third)] == [15]
    others = {ref: unit for ref, unit in refs.items() if ref not in third}
    seen = scene.observe(others, lambda task: True, 'anything')
    assert {task.state for task in seen} == {'waiting'}


@pytest.mark.skipif(bool(processes.lack_for_cgroups()), reason=processes.lack_for_cgroups())
def test_a_program_is_told_of_its_preemption_where_slurm_only_signals_the_batch_script(
    tmp_path: Path,
):
    with (
        cluster(Settings(nodes=1, gpus=0, cgroups=True)) as slurm,
        scene_on(slurm, tmp_path / 'home') as scene,
    ):
        unit = scene.unit(('/bin/sh', '-c', _SAVES), **ON_N1)
        refs = scene.submit(unit)
        scene.running(refs)
        slurm.submit('sleep 2', '--partition=high', '--exclusive')
        (seen,) = scene.ended(refs)
        assert seen.cause == 'preempted'
        assert 'saved' in scene.log(unit)


def _group_or_copies(scene: Scene, kind: str, program: str) -> dict[str, Unit]:
    words = ('/bin/sh', '-c', program)
    unit = scene.unit(words, words) if kind == 'group' else scene.unit(words, nodes=2)
    refs = scene.submit(unit)
    scene.running(refs)
    scene.slurm.wait(
        lambda: sum(scene.log(unit, task=task.name).count('begun') for task in unit.tasks) == 2,
        'both to run',
    )
    return refs


@pytest.fixture(params=['with processes', 'with control groups'])
def tracked(request: pytest.FixtureRequest, slurm: Cluster, tmp_path: Path) -> Iterator[Scene]:
    """On clusters that keep track of the processes of jobs in one way or the other, and send signals accordingly."""
    if request.param == 'with processes':
        with scene_on(slurm, tmp_path / 'home') as made:
            yield made
        return
    if lacking := processes.lack_for_cgroups():
        pytest.skip(lacking)
    with (
        cluster(Settings(nodes=2, gpus=0, cgroups=True)) as own,
        scene_on(own, tmp_path / 'home') as made,
    ):
        yield made


@pytest.mark.parametrize('kind', ['group', 'copies'])
def test_all_of_a_group_get_a_term_when_it_is_stopped(tracked: Scene, kind):
    refs = _group_or_copies(tracked, kind, _SAVES)
    (unit,) = refs.values()
    tracked.backend.stop(refs, 300.0)
    tracked.ended(refs)
    saved = sum(tracked.log(unit, task=task.name).count('saved') for task in unit.tasks)
    assert saved == 2


@pytest.mark.parametrize('kind', ['group', 'copies'])
def test_a_group_that_is_deaf_is_killed_and_has_not_succeeded(tracked: Scene, kind):
    deaf = 'trap "" TERM; echo begun; while :; do sleep .1; done'
    refs = _group_or_copies(tracked, kind, deaf)
    tracked.backend.stop(refs, 1.0)
    assert [task.signal for task in tracked.ended(refs)] == [9]


@pytest.mark.parametrize('kind', ['group', 'copies'])
def test_a_group_that_somebody_cancels_says_so(tracked: Scene, kind):
    refs = _group_or_copies(tracked, kind, _SAVES)
    tracked.slurm.command('scancel', job_of(next(iter(refs))))
    (seen,) = tracked.ended(refs)
    assert seen.signal == 15
    assert 'cancelled' in seen.reason


# --- Slurm forgets, or dies


def test_the_end_of_a_unit_that_slurm_has_forgotten_is_known(scene: Scene):
    scene.slurm.reconfigure(min_job_age=2)
    try:
        good = scene.unit(('/bin/sh', '-c', 'exit 0'))
        bad = scene.unit(('/bin/sh', '-c', 'exit 7'))
        cancelled = scene.unit(SLEEP)
        refs = scene.submit(good, bad, cancelled)
        scene.running({ref: unit for ref, unit in refs.items() if unit is cancelled})
        for ref in refs:
            scene.slurm.run('scancel', job_of(ref))
        scene.slurm.wait(
            lambda: not any(scene.slurm.state(job_of(ref)) for ref in refs), 'them to be forgotten'
        )
        scene.reopen()
        assert set(scene.backend.find([good, bad, cancelled]).values()) == set(refs)
        seen = scene.ended(refs)
        assert [(task.state, task.exit_code) for task in seen[:2]] == [('exited', 0), ('exited', 7)]
        assert seen[2].exit_code != 0
    finally:
        scene.slurm.reconfigure(min_job_age=300)


def test_slurmctld_may_die_and_come_back_while_units_run(scene: Scene, tmp_path: Path):
    wait = f'echo begun; until [ -e {tmp_path}/go ]; do sleep .1; done; exit 5'
    refs = scene.submit(scene.unit(('/bin/sh', '-c', wait)))
    scene.running(refs)
    scene.slurm.kill_controller()
    for _ in range(20):
        (seen,) = scene.observe(refs, lambda task: True, 'anything')
        assert seen.state == 'running'
    (tmp_path / 'go').touch()
    assert [task.exit_code for task in scene.ended(refs)] == [5]
    scene.slurm.start_controller()


def test_a_unit_that_is_submitted_while_slurmctld_is_down_waits_and_runs_once(
    scene: Scene, tmp_path: Path
):
    unit = scene.unit(counting(tmp_path / 'runs'))
    scene.slurm.kill_controller()
    (answer,) = scene.answers(unit)
    assert isinstance(answer, Deferred)
    scene.slurm.start_controller()
    scene.slurm.wait_for_nodes()
    refs = scene.submit(unit)
    assert [task.exit_code for task in scene.ended(refs)] == [0]
    scene.slurm.wait_idle()
    assert runs_of(tmp_path / 'runs', unit) == ['1']


def test_a_unit_that_a_dying_slurmctld_forgot_is_told_to_be_lost(scene: Scene):
    refs = scene.submit(scene.unit(SLEEP))
    scene.running(refs)
    scene.slurm.kill_controller(forgetful=True)
    scene.slurm.start_controller()
    if scene.slurm.state(job_of(next(iter(refs)))):
        pytest.skip('slurmctld had saved it by then')
    (seen,) = scene.ended(refs)
    assert seen.exit_code != 0


def test_a_unit_on_a_node_that_fails_is_lost_unless_it_may_restart(scene: Scene):
    lost = scene.submit(scene.unit(SLEEP, extra_sbatch_args=['--nodelist=n2']))
    again = scene.submit(scene.unit(SLEEP, extra_sbatch_args=['--nodelist=n2'], max_restarts=1))
    scene.running({**lost, **again})
    scene.slurm.fail_node('n2')
    (seen,) = scene.ended(lost)
    assert (seen.state, seen.reason) == ('vanished', 'node n2 failed')
    (seen,) = scene.observe(again, lambda task: task.restarts == 1, 'the requeue')
    scene.slurm.mend()


# --- preemption, limits


def test_a_preempted_unit_that_may_restart_runs_again_with_its_output_folder(scene: Scene):
    keep = 'echo begun $XM_ATTEMPT; cat $XM_OUTPUT_DIR/kept; echo kept >$XM_OUTPUT_DIR/kept; exec sleep 300'
    unit = scene.unit(('/bin/sh', '-c', keep), max_restarts=1, **ON_N1)
    refs = scene.submit(unit)
    scene.running(refs)
    scene.slurm.submit('sleep 2', '--partition=high', '--nodelist=n1', '--exclusive')
    scene.observe(refs, lambda task: task.restarts == 1, 'the preemption')
    scene.observe(refs, lambda task: task.state == 'running', 'the second start')
    scene.slurm.wait(lambda: 'kept' in scene.log(unit), 'the second run')
    assert scene.log(unit).startswith('begun 2')


def test_a_preempted_unit_that_may_not_restart_says_so(scene: Scene):
    refs = scene.submit(scene.unit(SLEEP, **ON_N1))
    scene.running(refs)
    scene.slurm.submit('sleep 2', '--partition=high', '--nodelist=n1', '--exclusive')
    (seen,) = scene.ended(refs)
    assert (seen.state, seen.cause) == ('exited', 'preempted')


def test_a_unit_is_warned_and_then_ended_at_its_timeout(scene: Scene):
    said = 'trap "echo warned" USR1; echo begun; while :; do sleep .1; done'
    unit = scene.unit(('/bin/sh', '-c', said), timeout=3, warn_before=1.5)
    (seen,) = scene.ended(scene.submit(unit))
    assert (seen.state, seen.signal, seen.cause) == ('exited', 15, 'timeout')
    assert 'warned' in scene.log(unit)


@pytest.mark.skipif(bool(processes.lack_for_cgroups()), reason=processes.lack_for_cgroups())
@pytest.mark.parametrize(
    ('script', 'exit_code', 'signal'), [('exec {}', None, 9), ('echo 1; {} || exit 5', 5, None)]
)
def test_a_unit_that_runs_out_of_memory_says_so(tmp_path: Path, script, exit_code, signal):
    with (
        cluster(Settings(nodes=1, gpus=0, cgroups=True)) as slurm,
        scene_on(slurm, tmp_path / 'home') as scene,
    ):
        greedy = ('/bin/sh', '-c', script.format("/usr/bin/python3 -c 'bytearray(2**28)'"))
        refs = scene.submit(scene.unit(greedy, requirements={'ram': 50 * 2**20}))
        (seen,) = scene.ended(refs)
        assert (seen.state, seen.exit_code, seen.signal) == ('exited', exit_code, signal)
        assert 'memory' in seen.reason
