import asyncio
import contextlib
import os
import re
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from xmanager import xm, xm_local
from xmanager.errors import (
    ExecutorError,
    ExperimentUnitError,
    ExperimentUnitFailedError,
    ExperimentUnitNotCompletedError,
    PackagingError,
    UsageError,
)
from xmanager.launch import plan_text
from xmanager.launch.planned import PlannedExperiment
from xmanager.launch.planning import Planning, instead_of_launching
from xmanager.packaging import Packaged
from xmanager.packaging.plan import Plan


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    monkeypatch.setenv('XM_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('XM_LOCAL_LEDGER', str(tmp_path / 'ledger'))
    monkeypatch.setenv('XM_LOCAL_RESOURCES', 'cpu=4,ram=8GiB')


@pytest.fixture
def plan():
    with instead_of_launching(Planning()) as planning:
        yield planning


def create(title='x') -> PlannedExperiment:
    experiment: object = xm_local.create_experiment(title)
    assert isinstance(experiment, PlannedExperiment)
    return experiment


def a_job(**more):
    [sh] = PlannedExperiment.package([xm.binary(xm_local.Local.Spec(), '/bin/sh', args=['-c'])])
    return xm.Job(sh, xm_local.Local(), **more)


@pytest.fixture
def text(plan, capsys):
    """What is printed of all that was planned."""

    def text(**options):
        capsys.readouterr()
        plan_text.show(plan, **options)
        return capsys.readouterr().out

    return text


# Nothing is launched.


def test_a_planned_experiment_is_number_0_and_leaves_no_trace(plan):
    with create() as experiment:
        experiment.add(a_job())
        assert experiment.experiment_id == 0
        assert experiment.title == 'x'
    assert not Path(os.environ['XM_HOME']).exists()
    assert not Path(os.environ['XM_LOCAL_LEDGER']).exists()


def test_the_setting_says_so_too(monkeypatch, capsys):
    monkeypatch.setenv('XM_DRY_RUN', 'true')
    with create('a title') as experiment:
        experiment.add(a_job(name='train'))
    printed = capsys.readouterr().out
    assert 'a title  1 work unit' in printed
    assert printed.endswith('dry run: nothing was packaged, recorded or started\n')
    with create('another') as experiment:
        experiment.add(a_job())
    assert 'a title' not in capsys.readouterr().out


def test_nothing_is_printed_of_an_experiment_that_fails(monkeypatch, capsys):
    monkeypatch.setenv('XM_DRY_RUN', 'true')
    with contextlib.suppress(ZeroDivisionError), create() as experiment:
        experiment.add(a_job())
        raise ZeroDivisionError
    assert capsys.readouterr().out == ''


def test_recorded_experiments_can_be_read_and_not_be_changed(monkeypatch):
    recorded = xm_local.create_experiment('real')
    with instead_of_launching(Planning()):
        found = xm_local.get_experiment(recorded.experiment_id)
        assert found.title == 'real'
        assert [one.title for one in xm_local.list_experiments()] == ['real']
        with (
            pytest.raises(
                UsageError, match="a dry run changes nothing that is recorded, so it can't add to"
            ),
            found,
        ):
            pass  # fmt: skip
        with pytest.raises(UsageError, match="so it can't stop units of experiment 1"):
            found.request_stop([1], '')


# What is checked.


def test_a_unit_that_could_never_run_is_refused_as_by_a_launch(plan):
    job = a_job()
    job.executor.requirements = xm.JobRequirements(cpu=5)
    with create() as experiment:
        with pytest.raises(ExecutorError, match='cpu'):
            experiment.add(job)
        with pytest.raises(ExecutorError, match='NOT_SET_HERE is not set'):
            experiment.add(a_job(env_vars={'A': xm.Secret('NOT_SET_HERE')}))
        with pytest.raises(ExecutorError, match='Two jobs of one unit are called'):
            experiment.add(xm.JobGroup(a=xm.JobGroup(j=a_job(name='j')), b=a_job(name='j')))
        experiment.add(a_job())


def test_a_folder_that_packaging_would_make_need_not_be_there(plan):
    kept = Path(os.environ['XM_HOME']) / 'snapshots' / 'tree'
    facts = {'kind': 'python', 'plan': {}}
    job = xm.Job(Packaged('p', ('python',), str(kept), facts=facts), xm_local.Local())
    with create() as experiment:
        experiment.add(job)
        with pytest.raises(ExecutorError, match='does not exist'):
            experiment.add(attrs.evolve(job, executor=xm_local.Local(cwd='/not/here')))
    [unit] = experiment.units
    assert unit.tasks[0].cwd == str(kept)


def test_an_image_need_not_be_there(plan, text):
    facts = {'kind': 'image', 'name': 'i', 'plan': {'image': {'name': 'base:1', 'action': 'pull'}}}
    with create() as experiment:
        experiment.add(xm.Job(Packaged('i', facts=facts), xm_local.Local(), args={'n': 1}))
    assert '    image      base:1\n    arguments  --n=1\n    needs' in text()


# Units.


def test_units_complete_as_soon_as_they_are_known(plan):
    with create() as experiment:
        unit = experiment.add(a_job(), args={'args': {'lr': 1}}).result()
        asyncio.run(wait(unit))
        assert unit.get_status().is_completed
        assert unit.args == {'args': {'lr': 1}}
        assert unit.work_unit_id == 1
        assert experiment.work_units[1] is unit
        [job] = unit.jobs
        assert job.output_dir.parts[-4:] == ('0', '1', 'sh', 'out')
        assert [each.name for each in unit.launched_jobs] == ['0_1_sh']


async def wait(unit):
    return await unit.wait_until_complete()


def test_generators_run_and_may_await_other_units(plan):
    seen = []

    async def work(unit, n):
        unit.add(a_job(name='first'), args={'args': {'n': n}})
        inner = await unit.experiment.add(a_job(name='inner'))
        seen.append(await inner.wait_until_complete())
        unit.add(a_job(name='second'))

    with create() as experiment:
        experiment.add(work, args={'n': 7})
    first, inner = experiment.units
    assert [task.name for task in first.tasks] == ['first', 'second']
    assert first.tasks[0].argv == ('/bin/sh', '-c', '--n=7')
    assert seen == [inner]
    assert first.get_status().is_completed
    assert set(first.demand) == {'first', 'second'}


def test_a_generator_that_raises_fails_the_dry_run_as_it_would_the_launch(plan):
    async def broken(unit):
        raise LookupError('no data')

    with pytest.raises(LookupError), create() as experiment:
        experiment.add(broken)
    [unit] = experiment.units
    assert unit.get_status().is_failed
    with pytest.raises(ExperimentUnitError, match='unit 1 could not be created: no data'):
        asyncio.run(wait(unit))


def test_auxiliary_units_are_counted_for_themselves(plan):
    with create() as experiment:
        experiment.add(a_job())
        experiment.add(xm.AuxiliaryUnitJob(a_job(), termination_delay_secs=1))
        experiment.add(a_job())
    assert [unit.label for unit in experiment.units] == ['1', 'a1', '2']
    assert experiment.units[1].tasks[0].requirements == {'cpu': 0.0}
    assert list(experiment.work_units) == [1, 2]


def test_an_identity_is_added_once(plan):
    async def twice(unit):
        unit.add(a_job())

    with create() as experiment:
        experiment.add(twice, identity='same')
        experiment.add(twice, identity='same')
        experiment.add(a_job(), identity='other')
    assert [len(unit.tasks) for unit in experiment.units] == [1, 1]


@pytest.mark.parametrize(
    ('how', 'error'),
    [
        ({}, ExperimentUnitNotCompletedError),
        ({'mark_as_failed': True}, ExperimentUnitFailedError),
        ({'mark_as_completed': True}, None),
    ],
)
def test_a_unit_may_be_stopped_by_its_generator(plan, how, error):
    async def stops(unit):
        unit.stop(message='enough', **how)

    with create() as experiment:
        unit = experiment.add(stops).result()
        if error is None:
            asyncio.run(wait(unit))
        else:
            with pytest.raises(error, match='enough'):
                asyncio.run(wait(unit))
    with pytest.raises(ValueError, match='exclude each other'):
        unit.stop(mark_as_failed=True, mark_as_completed=True)


# Packaging, and nothing else.


def test_for_packaging_alone_jobs_are_of_no_interest(monkeypatch):
    with (
        instead_of_launching(Planning(dry_run=False)) as planning,
        create() as experiment,
    ):
        experiment.add(a_job(env_vars={'A': xm.Secret('NOT_SET_HERE')}))
    assert [one.name for one in planning.executables] == ['sh']


def test_what_several_jobs_share_is_told_once(plan):
    spec = xm_local.Local.Spec()
    PlannedExperiment.package([xm.binary(spec, '/bin/sh'), xm.binary(spec, '/bin/sh', args=['x'])])
    assert len(plan.executables) == 1


def test_the_flag_of_the_script_makes_a_dry_run_of_packaging(monkeypatch):
    monkeypatch.setenv('XM_DRY_RUN', '1')
    with instead_of_launching(Planning(dry_run=False)) as planning:
        a_job()
    assert planning.dry_run


def test_two_images_never_get_the_same_place(tmp_path):
    with instead_of_launching(Planning(push='localhost/x')):
        specs = [xm.container(xm_local.Local.Spec(), path) for path in ('a/same', 'b/same')]
        with pytest.raises(PackagingError, match="two executables are called 'same'"):
            PlannedExperiment.package(specs)


def test_a_program_that_is_not_built_yet_has_a_word_in_its_command(monkeypatch):
    facts = {'kind': 'binary', 'label': '//:a', 'plan': {}}
    packaged = Packaged('_a', facts=facts)
    monkeypatch.setattr('xmanager.packaging.package', lambda *_: [packaged])
    with instead_of_launching(Planning()):
        [executable] = PlannedExperiment.package([xm.bazel_binary(xm_local.Local.Spec(), '//:a')])
    assert isinstance(executable, Packaged)
    assert executable.command == ('<//:a>',)


# What is printed.

FULL = {
    'snapshot': {
        'path': '/p/code', 'digest': 'a' * 64, 'files': 1200, 'bytes': 3 << 20, 'exists': False,
        'omitted': [{'path': f'd{n}/', 'rule': '.gitignore'} for n in range(5)]
        + [{'path': '.venv', 'rule': 'built in'}],
    },
    'files': [{'path': '/p/big', 'bytes': 10, 'kept': False},
              {'path': '/p/small', 'bytes': 10, 'kept': True, 'exists': True}],
    'environment': {'lock': '/p/uv.lock', 'python': '3.11.2', 'exists': False},
    'layers': [{'what': 'base image', 'bytes': 50 << 20, 'exists': True}, {'what': 'code', 'exists': False}],
    'image': {'name': 'sha256:' + 'b' * 64, 'action': 'load', 'exists': False},
    'commands': [['bazel', 'build', '--token=hush']],
    'notes': ['Nobody knows.'],
}  # fmt: skip


def test_all_that_is_planned_for_an_executable_is_told(plan, text):
    plan.executables.append(Packaged('trainer', facts={'kind': 'image', 'plan': FULL}))
    assert text().splitlines() == [
        'trainer  image',
        '  code         /p/code, 1,200 files, 3.0 MiB, would be kept',
        '  snapshot     aaaaaaaaaaaa',
        '  left out     d0/, d1/ and 3 more  (.gitignore)',
        '               .venv  (built in)',
        '  file         /p/big, 10 B, checked when it starts',
        '               /p/small, 10 B, kept already',
        '  environment  /p/uv.lock, Python 3.11.2, would be made',
        '  image        sha256:bbbbbbbbbbbb, would be loaded into the engine',
        '  layer        base image, 50 MiB, is there',
        '               code, would be made',
        "  runs         bazel build '--token=***'",
        '  note         Nobody knows.',
        '',
        'dry run: nothing was packaged, recorded or started',
    ]
    assert '  (.gitignore)' in text(verbose=True)
    assert 'd4/  (.gitignore)' in text(verbose=True)


def test_units_are_told_with_secrets_masked(plan, text, monkeypatch):
    monkeypatch.setenv('HUB', 'hush')
    env_vars = {'A': 'x y', 'HUB_TOKEN': xm.Secret('HUB'), 'MY_KEY': 'hush'}
    executor = xm_local.Local(xm.JobRequirements(cpu=2, ram=xm.GiB), timeout=timedelta(hours=1))
    job = attrs.evolve(a_job(env_vars=env_vars), executor=executor)
    with create('a\x1b[31m title') as experiment:
        experiment.add(job, args={'args': {'lr': 0.1, 'api_key': 'hush'}})
    printed = text()
    assert 'hush' not in printed
    assert '\x1b' not in printed
    assert printed.split('\n\n')[2].splitlines() == [
        '  unit 1  lr=0.1 api_key=***',
        "    command  /bin/sh -c --lr=0.1 '--api_key=***'",
        "    env      A='x y'",
        "             HUB_TOKEN='<secret HUB>'",
        "             MY_KEY='***'",
        f'    cwd      {os.getcwd()}',
        '    needs    cpu 2, ram 1.0 GiB',
    ]


def test_of_a_long_sweep_the_first_few_are_told(plan, text):
    job = a_job()
    with create('sweep') as experiment:
        for n in range(500):
            experiment.add(job, args={'args': {'n': n}})
    assert re.findall(r'unit (\d+)', text()) == ['1', '2', '3']
    assert '  … and 497 more\n' in text()
    assert len(re.findall(r'  unit (\d+)', text(verbose=True))) == 500


def test_the_jobs_of_a_group_are_told_by_name(plan, text):
    with create() as experiment:
        experiment.add(xm.JobGroup(one=a_job(), two=a_job()))
    lines = text().splitlines()
    assert '    one' in lines
    assert '      command  /bin/sh -c' in lines


def test_every_plan_of_a_binary_can_be_read(plan):
    a_job()
    [executable] = plan.executables
    assert isinstance(Plan.of(executable.facts), Plan)
