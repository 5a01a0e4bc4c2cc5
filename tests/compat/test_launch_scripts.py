"""Launch scripts as people have them, run from their files against an experiment that launches nothing."""

import contextlib
import runpy
import sys
from pathlib import Path

import pytest

from xmanager import xm, xm_local, xm_mock

SCRIPTS = Path(__file__).parent / 'scripts'


@pytest.fixture
def run(monkeypatch):
    """Runs a script by name as `__main__`; returns its experiment."""

    def run(name):
        experiment = xm_mock.MockExperiment()
        monkeypatch.setattr(xm_local, 'create_experiment', lambda experiment_title: experiment)
        script = str(SCRIPTS / f'{name}.py')
        monkeypatch.setattr(sys, 'argv', [script])
        with contextlib.suppress(SystemExit):  # absl's app.run always exits.
            runpy.run_path(script, run_name='__main__')
        return experiment

    return run


def args_of(jobs):
    return [job.args.to_dict(kwargs_only=True) for job in jobs]


def test_the_readmes_sweep_of_a_binary(run):
    experiment = run('readme_sweep')
    assert args_of(experiment.launched_jobs) == [{'batch_size': 64}, {'batch_size': 1024}]
    environment = {'HEAPPROFILE': '/tmp/a_out.hprof'}
    assert [job.env_vars for job in experiment.launched_jobs] == [environment] * 2
    assert sorted(experiment.work_units) == [1, 2]


def test_the_readmes_grid_on_vertex(run):
    experiment = run('vertex_grid')
    assert len(experiment.launched_jobs) == 4
    assert args_of(experiment.launched_jobs)[-1] == {'batch_size': 1024, 'learning_rate': 0.001}
    executor = experiment.launched_jobs[0].executor
    assert executor.requirements.task_requirements == {xm.ResourceType.T4: 1}


def test_an_async_pipeline_of_groups(run):
    experiment = run('async_pipeline')
    roles = [('learner', 0), ('actor', 0), ('learner', 1), ('actor', 1)]
    trained = [{'role': role, 'seed': seed} for role, seed in roles]
    assert args_of(experiment.launched_jobs) == [*trained, {'unit': 1}, {'unit': 2}]
    assert [job.name for job in experiment.launched_jobs[-2:]] == ['evaluate'] * 2
    assert [list(unit.role.tags) for unit in experiment.work_units.values()] == [
        [],
        [],
        ['evaluation'],
        ['evaluation'],
    ]


def test_a_generator_beside_an_auxiliary_job_in_an_absl_script(run):
    pytest.importorskip('absl')
    experiment = run('generator_and_auxiliary')
    works = [job for job in experiment.launched_jobs if job.name in ('master', 'worker')]
    assert sorted(str(args) for args in args_of(works)) == [
        "{'master': '1_1_master', 'seed': 0}",
        "{'master': '1_2_master', 'seed': 1}",
        "{'seed': 0}",
        "{'seed': 1}",
    ]
    [board] = [job for job in experiment.launched_jobs if job.name == 'board']
    assert board.args.to_list() == ['--port', '6006']
    assert [unit.args for unit in experiment.work_units.values()] == [{'seed': 0}, {'seed': 1}]
    assert len(experiment.auxiliary_units) == 1
