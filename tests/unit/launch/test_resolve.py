import logging
import os
from typing import Any, ClassVar

import attrs
import pytest
from tests.packaging import package

from xmanager import xm, xm_local
from xmanager.backend import Task
from xmanager.errors import ExecutorError
from xmanager.launch.resolve import check_names, recorded, resolve
from xmanager.xm.executables import Executor, ExecutorSpec


@attrs.define(slots=False)
class Elsewhere(Executor):
    """An executor of some other back end."""

    backend: ClassVar[str] = 'elsewhere'
    Spec: ClassVar[Any] = ExecutorSpec
    requirements: xm.JobRequirements = attrs.field(factory=xm.JobRequirements)
    cwd: str | None = None

    def options(self) -> dict[str, Any]:
        return {}


def binary(**facts):
    packageable = xm.binary(xm_local.Local.Spec(), path='/bin/echo', **facts)
    [executable] = package(packageable)
    return executable


def job(executor=None, packaged=None, **fields):
    return xm.Job(binary(**(packaged or {})), executor or xm_local.Local(), name='train', **fields)


def task_of(job):
    backend, [task] = resolve(job)
    assert backend == 'local'
    return task


def a_task(name):
    return Task(name=name, full_name='', argv=('true',), cwd='/')


@pytest.fixture(autouse=True)
def _nothing_warned_of(monkeypatch):
    monkeypatch.setattr('xmanager.launch.resolve._warned', set())


def test_the_packageables_arguments_stand_before_the_jobs():
    task = task_of(job(packaged={'args': ['fit', '--verbose']}, args=['now', 'a b']))
    assert task.argv == ('/bin/echo', 'fit', '--verbose', 'now', 'a b')


def test_an_argument_of_the_job_overrides_the_packageables_in_its_place():
    task = task_of(
        job(packaged={'args': {'lr': 1, 'seed': 2}}, args={'depth': 3, 'lr': 0.1, 'fast': True})
    )
    assert task.argv == ('/bin/echo', '--lr=0.1', '--seed=2', '--depth=3', '--fast')


def test_nothing_in_an_argument_is_quoted_or_expanded():
    argv = task_of(job(args=['$HOME', "it's", xm.ShellSafeArg('$X'), ''])).argv
    assert argv == ('/bin/echo', '$HOME', "it's", '$X', '')


def test_the_jobs_environment_overrides_the_packageables():
    task = task_of(job(packaged={'env_vars': {'A': '1', 'B': '2'}}, env_vars={'B': 3, 'C': True}))
    assert dict(task.env) == {'A': '1', 'B': '3', 'C': 'True'}
    assert list(task.env) == ['A', 'B', 'C']


def test_a_secret_is_given_by_name_and_not_among_the_values(monkeypatch):
    monkeypatch.setenv('OF_TEAM', 'hush')
    task = task_of(job(env_vars={'WANDB_API_KEY': xm.Secret('OF_TEAM'), 'A': 1}))
    assert (task.secrets, task.env) == ({'WANDB_API_KEY': 'OF_TEAM'}, {'A': '1'})
    assert 'hush' not in repr(task)


def test_a_secret_takes_the_place_of_a_plain_value_and_the_other_way_round(monkeypatch):
    monkeypatch.setenv('S', 'hush')
    packaged = {'env_vars': {'A': '1', 'B': xm.Secret('S')}}
    task = task_of(job(packaged=packaged, env_vars={'A': xm.Secret('S'), 'B': '2'}))
    assert (task.secrets, task.env) == ({'A': 'S'}, {'B': '2'})


def test_a_secret_that_is_not_set_is_an_error_that_says_how_to_set_it(monkeypatch):
    monkeypatch.delenv('NOT_SET', raising=False)
    with pytest.raises(ExecutorError, match='Run `export NOT_SET=…` first'):
        resolve(job(env_vars={'KEY': xm.Secret('NOT_SET')}))


def test_a_secret_given_in_plain_text_is_warned_of_once(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            resolve(job(env_vars={'API_KEY': 'hush', 'MAX_TOKENS': '5'}))
    [record] = caplog.records
    assert "Give it as xm.Secret('API_KEY')" in record.getMessage()
    assert 'hush' not in caplog.text


def test_a_secret_given_by_name_is_not_warned_of(monkeypatch, caplog):
    monkeypatch.setenv('API_KEY', 'hush')
    resolve(job(env_vars={'API_KEY': xm.Secret('API_KEY')}))
    assert not caplog.records


def test_requirements_are_amounts_by_the_names_that_back_ends_use():
    requirements = xm.JobRequirements(cpu=0.5, ram=2 * xm.GiB, disk=3 * xm.GiB, local_gpu=2)
    task = task_of(job(xm_local.Local(requirements=requirements)))
    assert task.requirements == {'cpu': 0.5, 'ram': 2 * 2**30, 'disk': 3 * 2**30, 'local_gpu': 2}
    assert all(type(amount) is float for amount in task.requirements.values())


def test_a_job_that_states_no_requirements_has_none():
    assert task_of(job()).requirements == {}


def test_the_working_directory_is_the_scripts_unless_stated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert task_of(job()).cwd == str(tmp_path)
    assert task_of(job(xm_local.Local(cwd='sub'))).cwd == str(tmp_path / 'sub')
    assert task_of(job(xm_local.Local(cwd=tmp_path / 'x'))).cwd == str(tmp_path / 'x')


def test_options_and_facts_are_recorded_with_the_task():
    task = task_of(job(xm_local.Local(timeout=5, experimental_stream_output=False)))
    expected = {'timeout': 5.0, 'grace': None, 'stream_output': False}
    assert task.options.items() >= expected.items()
    assert task.executable['path'] == '/bin/echo'
    assert task.executable['bytes'] == os.stat('/bin/echo').st_size


def test_the_jobs_of_a_group_are_resolved_in_their_order():
    group = xm.JobGroup(a=job(args=[1]), more=xm.JobGroup(b=job(args=[2]), c=job(args=[3])))
    _, tasks = resolve(group)
    assert [task.argv[1] for task in tasks] == ['1', '2', '3']


def test_jobs_of_several_back_ends_can_not_be_one_group():
    group = xm.JobGroup(a=job(), b=job(Elsewhere()))
    with pytest.raises(ExecutorError, match='these ask for elsewhere, local'):
        resolve(group)


def test_a_group_can_not_be_half_on_this_machine_and_half_on_a_cluster():
    group = xm.JobGroup(a=job(), b=job(xm_local.Slurm()))
    with pytest.raises(ExecutorError, match='one back end; these ask for local, slurm'):
        resolve(group)


def test_a_script_that_changes_its_executor_only_asks_for_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    requirements = xm.JobRequirements(cpu=2, ram=xm.GiB)
    settings: dict[str, Any] = {'requirements': requirements, 'cwd': 'sub', 'timeout': 5}
    backend, [there] = resolve(job(xm_local.Slurm(**settings), args=['a b']))
    here = task_of(job(xm_local.Local(**settings), args=['a b']))
    assert backend == 'slurm'
    assert attrs.evolve(there, options={}) == attrs.evolve(here, options={})
    assert there.options.items() >= {**here.options, 'cwd': 'sub'}.items()


def test_a_folder_of_another_machine_is_named_in_full():
    with pytest.raises(
        ExecutorError, match=r"Slurm\(cwd='sub', login='me@cluster'\): expected an abs"
    ):
        resolve(job(xm_local.Slurm(cwd='sub', login='me@cluster')))
    _, [task] = resolve(job(xm_local.Slurm(cwd='/scratch', login='me@cluster')))
    assert task.cwd == '/scratch'


def test_a_group_without_jobs_is_refused():
    with pytest.raises(ExecutorError, match='holds no job'):
        resolve(xm.JobGroup(more=xm.JobGroup()))


def test_an_executor_of_no_back_end_is_refused_by_its_name():
    class Abacus(Executor):
        Spec = ExecutorSpec

    with pytest.raises(
        ExecutorError, match=r'Abacus is no executor .*xm_local\.Local\(\) or xm_local\.Slurm\(\)'
    ):
        resolve(job(Abacus()))


@pytest.mark.parametrize('executor', [xm_local.Vertex(), xm_local.Kubernetes()])
def test_an_executor_whose_back_end_is_not_there_yet_is_refused_by_its_name(executor):
    name = type(executor).__name__
    with pytest.raises(ExecutorError, match=f'{name} is no executor that this version can run'):
        resolve(job(executor))


def test_an_executable_that_was_not_packaged_here_is_refused():
    class Picture(xm.Executable):
        pass

    with pytest.raises(
        ExecutorError, match=r"Local cannot run the executable 'sunset' \(Picture\)"
    ):
        resolve(xm.Job(Picture('sunset'), xm_local.Local()))


def test_arguments_are_recorded_with_secrets_by_name():
    args = {'args': {'lr': 1}, 'env_vars': {'KEY': xm.Secret('S'), 'A': 'x'}}
    assert recorded(args) == {'args': {'lr': 1}, 'env_vars': {'KEY': '<secret S>', 'A': 'x'}}


def test_sequential_arguments_are_recorded_as_what_they_hold():
    assert recorded({'args': xm.merge_args({'lr': 1, 'password': 'hush'})}) == {
        'args': {'lr': 1, 'password': 'hush'}
    }
    assert recorded({'args': xm.merge_args(['x'], {'lr': 1})}) == {'args': ['x', '--lr=1']}


@pytest.mark.parametrize('name', ['.', '..', 'a/b', '\0', 'é' * 128])
def test_a_job_whose_name_can_be_no_folder_is_refused(name):
    with pytest.raises(ExecutorError, match='no folder can be called so'):
        check_names([a_task(name)])


@pytest.mark.parametrize('name', ['train', '...', 'a b', 'é' * 127, 'x.y'])
def test_any_other_name_will_do(name):
    check_names([a_task(name)])


def test_two_jobs_of_one_name_are_refused():
    with pytest.raises(ExecutorError, match="Two jobs of one unit are called 'a'"):
        check_names([a_task('a'), a_task('b'), a_task('a')])
