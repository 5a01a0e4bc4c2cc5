"""A unit becomes what its nodes are told: the same that a job sees on this machine."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from xmanager.backend import Task, Unit
from xmanager.backends.slurm.batch import Kept, Step
from xmanager.backends.slurm.preferences import Preferences
from xmanager.backends.slurm.rendering import environment, render


class Elsewhere:
    """A site whose files lie below another folder."""

    def adapt(self, unit: Unit, task: Task) -> Task:
        places = {
            n: f'/cluster{task.executable[n]}' for n in ('copy', 'layout') if task.executable.get(n)
        }
        return attrs.evolve(
            task, cwd=f'/cluster{task.cwd}', executable={**task.executable, **places}
        )

    def folder(self, unit: Unit) -> str:
        return f'/cluster/experiments/{unit.experiment_id}/{unit.label}'


def a_task(name='train', **fields):
    return Task(name, f'full-{name}', **{'argv': ('/bin/x', 'y'), 'cwd': '/cwd', **fields})


def rendered(*tasks, importance=0):
    unit = Unit(12, '3', 2, 'home.12.3.2', Path('/home/experiments/12/3'), tasks)
    site: Any = Elsewhere()  # `render` asks no more of a site.
    return render(unit, site, Preferences(), {})


def test_a_job_sees_what_it_sees_on_one_machine():
    request = rendered(a_task(env={'A': 'b', 'PWD': '/x', 'XM_JOB_NAME': 'mine'}))
    assert request.steps == (
        Step(
            task='train',
            folder='/cluster/experiments/12/3/train',
            argv=('/bin/x', 'y'),
            cwd='/cluster/cwd',
            env={
                'A': 'b',
                'XM_JOB_NAME': 'train',
                'XM_EXPERIMENT_ID': '12',
                'XM_WORK_UNIT_ID': '3',
                'XM_OUTPUT_DIR': '/cluster/experiments/12/3/train/out',
                'XM_KEY': 'home.12.3.2',
                'PYTHONUNBUFFERED': '1',
            },
            attempt=2,
        ),
    )
    assert request.experiment_folder == '/cluster/experiments/12'


def test_limits_and_settings_are_taken_from_the_options():
    options = {
        **{'timeout': 60.0, 'warn_before': 5.0, 'warn_signal': 'SIGUSR2', 'grace': 0.0},
        **{'setup': ['module load cuda'], 'replicas': 3, 'array_parallelism': 7},
    }
    request = rendered(a_task(options=options, secrets={'T': 'TOKEN'}))
    [step] = request.steps
    assert (step.timeout, step.warn_before, step.warn_signal, step.grace) == (
        60.0,
        5.0,
        'SIGUSR2',
        0.0,
    )
    assert (step.setup, step.replicas, request.parallelism) == (('module load cuda',), 3, 7)
    assert step.secrets == {'T': 'TOKEN'}
    assert not step.is_alone


def test_a_group_has_a_step_and_options_for_each_job():
    request = rendered(a_task('learner', requirements={'cpu': 2}), a_task('actor'))
    assert [step.task for step in request.steps] == ['learner', 'actor']
    assert ['--cpus-per-task=2' in options for options in request.options] == [True, False]


def test_packaged_code_is_found_before_other_code():
    places = {'PYTHONPATH': '/tree', 'PATH': '/bin'}
    [step] = rendered(a_task(executable={'kind': 'python', 'prepended': places})).steps
    assert step.prepended == places


FACTS = {
    'kind': 'binary',
    'path': '/bin/x',
    'copy': '/kept/x',
    'bytes': 7,
    'modified': 5.75,
    'inode': 3,
}


def test_a_packaged_program_has_its_copy_beside_it():
    [step] = rendered(a_task(executable=FACTS)).steps
    assert step.kept == Kept('/cluster/kept/x', 7, 5)


@pytest.mark.parametrize(
    'executable',
    [{}, {**FACTS, 'copy': ''}, {**FACTS, 'path': '/other'}, {**FACTS, 'kind': 'python'}],
)
def test_other_programs_have_no_copy(executable):
    [step] = rendered(a_task(executable=executable)).steps
    assert step.kept is None


def test_an_image_is_run_by_our_script_with_the_users_variables_under_other_names():
    facts = {
        'image': 'sha256:abc',
        'layout': '/images/abc',
        'entrypoint': ['/entry'],
        'working_dir': '/w',
    }
    [step] = rendered(
        a_task(executable=facts, env={'PATH': '/x'}, cwd='', secrets={'T': 'TOKEN'})
    ).steps
    assert step.container is not None
    assert step.cwd == step.folder
    assert step.env['XM_ENV_PATH'] == '/x'
    assert 'PATH' not in step.env
    assert '/cluster/images/abc' in step.argv
    assert {'XM_ATTEMPT', 'XM_JOB_ADDRESSES', 'XM_KEY', 'T'} <= set(step.argv)


def test_sbatch_gets_nothing_of_the_job_that_it_is_called_in():
    given = {
        'PATH': '/bin',
        'SLURM_JOB_ID': '7',
        'SLURM_ARRAY_TASK_ID': '1',
        'SLURM_CONF': '/c',
        'SBATCH_QOS': 'q',
    }
    assert environment(given) == {'PATH': '/bin', 'SLURM_CONF': '/c', 'SBATCH_QOS': 'q'}
