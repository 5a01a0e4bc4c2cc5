"""What a dry run says of units for a cluster."""

import attrs
import pytest

from xmanager import xm
from xmanager.backend import Task
from xmanager.launch import plan_text
from xmanager.launch.plan_slurm import submissions
from xmanager.launch.planning import Planning
from xmanager.xm_local import Slurm


@attrs.frozen
class Unit:
    """As much of a planned unit as matters here."""

    label: str
    tasks: tuple[Task, ...]
    backend: str = 'slurm'
    importance: int = 0
    args: dict[str, str] = attrs.field(factory=dict)
    demand: dict[str, dict[str, float]] = attrs.field(factory=dict)


def a_task(name='train', argv=('train',), secrets=None, amounts=None, **settings):
    options = Slurm(**settings).options()
    return Task(
        name, '', argv, '/', secrets=secrets or {}, requirements=amounts or {}, options=options
    )


def units_of(*tasks, **facts):
    return [Unit(str(number + 1), (task,), **facts) for number, task in enumerate(tasks)]


def test_units_that_differ_in_arguments_are_one_array():
    tasks = [a_task(argv=('train', f'--lr={lr}'), partition='gpu') for lr in range(4)]
    assert submissions(units_of(*tasks), {}) == [
        ('sbatch --array=0-3 --partition=gpu --no-requeue', ['1', '2', '3', '4'])
    ]


def test_an_array_tells_how_many_of_it_run_at_once():
    tasks = [a_task(array_parallelism=2)] * 3
    [(command, _)] = submissions(units_of(*tasks), {})
    assert command == 'sbatch --array=0-2%2 --no-requeue'


@pytest.mark.parametrize(
    'other',
    [
        {'partition': 'long'},
        {'amounts': {'cpu': 2.0}},
        {'setup': ['module load cuda']},
        {'login': 'me@cluster'},
        {'secrets': {'KEY': 'KEY'}},
        {'array_parallelism': 5},
    ],
)
def test_what_differs_in_more_than_arguments_is_submitted_for_itself(other):
    labels = [
        labels for _, labels in submissions(units_of(a_task(), a_task(**other), a_task()), {})
    ]
    assert labels == [['1', '3'], ['2']]


def test_a_unit_alone_is_no_array():
    assert submissions(units_of(a_task()), {}) == [('sbatch --no-requeue', ['1'])]


def test_copies_of_a_job_are_never_elements():
    copies = a_task(requirements=xm.JobRequirements(replicas=2))
    assert len(submissions(units_of(copies, copies), {})) == 2


def test_a_group_is_one_command_with_a_part_for_each_job():
    [unit] = units_of(a_task('learn', partition='gpu'))
    group = attrs.evolve(unit, tasks=(*unit.tasks, a_task('act', partition='cpu')))
    [(command, _)] = submissions([group], {})
    assert command == 'sbatch --partition=gpu --no-requeue : --partition=cpu --no-requeue'


def test_a_job_of_another_machine_is_submitted_by_ssh():
    [(command, _)] = submissions(units_of(a_task(login='me@cluster', constraint='a&b')), {})
    assert command == "ssh me@cluster sbatch '--constraint=a&b' --no-requeue"


def test_importance_and_the_settings_of_the_site_count():
    [(command, _)] = submissions(
        units_of(a_task(), importance=-1), {'XM_SLURM_QOS': 'prod=high', 'XM_SLURM_NICE': 'low=7'}
    )
    assert command == 'sbatch --qos=high --nice=7 --no-requeue'


def test_units_of_this_machine_are_none_of_it():
    assert submissions(units_of(a_task(), backend='local'), {}) == []


@attrs.frozen
class Experiment:
    units: list[Unit]
    title: str = 'sweep'


def test_the_commands_stand_above_the_units(capsys):
    tasks = [a_task(argv=('train', str(number)), partition='gpu') for number in range(100)]
    experiment = Experiment([*units_of(*tasks), Unit('101', (a_task(partition='long'),))])
    planning = Planning(experiments=[experiment])  # type: ignore[list-item]  # as much of one as is shown
    plan_text.show(planning)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'sweep  101 work units'
    assert lines[1:3] == [
        '  sbatch --array=0-99 --partition=gpu --no-requeue  (units 1, 2, … 100)',
        '  sbatch --partition=long --no-requeue  (unit 101)',
    ]
