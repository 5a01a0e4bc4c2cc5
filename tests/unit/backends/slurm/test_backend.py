"""The verbs of the back end: each unit is submitted once, whatever Slurm and other supervisors do."""

import json
import os
from pathlib import Path

import attrs
import pytest
from tests.fakes.slurm import (
    DOWN,
    NO_SUCH_PARTITION,
    TIMED_OUT,
    TOO_MANY_JOBS,
    Job,
    Reply,
    fake_slurm,
)

from xmanager.backend import Deferred, Rejected, Submitted, Task, Unit
from xmanager.backends.slurm.backend import SlurmBackend, create
from xmanager.errors import ExecutorError, UnreachableError

__all__ = ['fake_slurm']


def a_unit(folder: Path, number: int, *names: str, secret: str = '', **options) -> Unit:
    tasks = tuple(
        Task(
            name,
            name,
            ('/bin/true',),
            '/',
            secrets={secret: secret} if secret else {},
            options=options,
        )
        for name in names or ('job',)
    )
    where = folder / 'home/experiments/1' / str(number)
    return Unit(1, str(number), 1, f'h.1.{number}.1', where, tasks)


def submit(backend: SlurmBackend, *units: Unit):
    return list(backend.submit([backend.render(unit, {}) for unit in units]))


def batches(folder: Path) -> list[Path]:
    return sorted(folder.glob('home/experiments/1/slurm/*'))


@pytest.fixture
def backend(fake_slurm):
    backend = create(os.environ)
    yield backend
    backend.close()


# --- submitting


def test_units_that_are_alike_are_one_call(backend, fake_slurm, tmp_path):
    answers = submit(backend, *(a_unit(tmp_path, number) for number in range(3)))
    (batch,) = batches(tmp_path)
    assert answers == [Submitted(f'4711_{number}@{batch.name}') for number in range(3)]
    (call,) = fake_slurm.calls('sbatch')
    assert '--array=0-2' in call


def test_a_group_is_one_heterogeneous_job(backend, fake_slurm, tmp_path):
    (answer,) = submit(backend, a_unit(tmp_path, 1, 'learner', 'actor'))
    assert answer.ref.startswith('4711@')
    (call,) = fake_slurm.calls('sbatch')
    assert call.count(':') == 1


def test_what_was_submitted_is_not_submitted_again(backend, fake_slurm, tmp_path):
    unit = a_unit(tmp_path, 1)
    first = submit(backend, unit)
    assert submit(backend, unit) == first
    assert submit(create(os.environ), unit) == first
    assert len(fake_slurm.calls('sbatch')) == 1


def test_the_site_is_asked_for_its_limits_once(backend, fake_slurm, tmp_path):
    fake_slurm.set(config={'MaxArraySize': '2'})
    submit(backend, *(a_unit(tmp_path, number) for number in range(4)))
    submit(backend, a_unit(tmp_path, 4))
    assert ['--array=0-1' in call for call in fake_slurm.calls('sbatch')] == [True, True, False]
    assert len(fake_slurm.calls('scontrol')) == 1


def test_one_bad_batch_does_not_spoil_others(backend, fake_slurm, tmp_path):
    bad = a_unit(tmp_path, 1, partition='nope')
    fake_slurm.reply('sbatch', NO_SUCH_PARTITION)
    rejected, submitted = submit(backend, bad, a_unit(tmp_path, 2))
    assert isinstance(rejected, Rejected)
    assert 'Invalid partition name specified' in rejected.reason
    assert isinstance(submitted, Submitted)
    assert backend.find([bad]) == {}
    assert len(batches(tmp_path)) == 1


def test_of_an_array_that_is_too_much_what_fits_is_submitted(backend, fake_slurm, tmp_path):
    # Of four, of two, of the first, of the second; the others are not even tried.
    fake_slurm.reply('sbatch', TOO_MANY_JOBS, TOO_MANY_JOBS, Reply(out='4711\n'), TOO_MANY_JOBS)
    answers = submit(backend, *(a_unit(tmp_path, number) for number in range(4)))
    assert [type(answer) for answer in answers] == [Submitted, Deferred, Deferred, Deferred]
    assert 'QOSMaxSubmitJobPerUserLimit' in answers[1].reason
    assert len(fake_slurm.calls('sbatch')) == 4


def test_while_slurm_is_down_nobody_says_what_has_become_of_a_submission(
    backend, fake_slurm, tmp_path
):
    fake_slurm.reply('sbatch', DOWN['sbatch'])
    units = [a_unit(tmp_path, 1), a_unit(tmp_path, 2, partition='other')]
    with pytest.raises(UnreachableError, match='Unable to contact slurm controller'):
        submit(backend, *units)
    assert len(fake_slurm.calls('sbatch')) == 1
    assert backend.find(units) == {}
    assert [type(answer) for answer in submit(backend, *units)] == [Submitted, Submitted]
    assert len(batches(tmp_path)) == 2


def test_a_job_that_slurm_made_without_saying_so_is_found_by_its_name(
    backend, fake_slurm, tmp_path
):
    units = [a_unit(tmp_path, 1), a_unit(tmp_path, 2)]
    fake_slurm.reply('sbatch', TIMED_OUT)
    with pytest.raises(UnreachableError):
        submit(backend, *units)
    (batch,) = batches(tmp_path)
    assert submit(backend, *units) == [Submitted(f'4711_{i}@{batch.name}') for i in range(2)]
    assert len(fake_slurm.calls('sbatch')) == 1


def test_a_secret_that_is_not_there_is_named(backend, tmp_path):
    (rejected,) = submit(backend, a_unit(tmp_path, 1, secret='XM_TEST_NO_SUCH_SECRET'))
    assert rejected == Rejected(
        'needs the secret XM_TEST_NO_SUCH_SECRET, which is not set where its supervisor runs. Export it.',
        'job',
    )


def test_a_program_that_is_gone_is_told_with_its_job(backend, tmp_path):
    unit = a_unit(tmp_path, 1)
    gone = attrs.evolve(unit.tasks[0], argv=(f'{tmp_path}/home/train',))
    (rejected,) = submit(backend, attrs.evolve(unit, tasks=(gone,)))
    assert rejected == Rejected(f"program '{tmp_path}/home/train' does not exist.", 'job')


def test_without_sbatch_a_unit_waits_for_a_supervisor_that_has_it(tmp_path):
    backend = create({'PATH': str(tmp_path)})
    (deferred,) = submit(backend, a_unit(tmp_path, 1))
    assert isinstance(deferred, Deferred)
    assert 'not on PATH' in deferred.reason


# --- finding


def test_a_successor_finds_what_was_submitted_by_the_manifests(backend, fake_slurm, tmp_path):
    units = [a_unit(tmp_path, number) for number in range(3)]
    refs = [answer.ref for answer in submit(backend, *units[:2])]
    fake_slurm.jobs = []
    found = create(os.environ).find(units)
    assert found == {units[0].key: refs[0], units[1].key: refs[1]}
    assert fake_slurm.calls('squeue') == []


def forget_job(folder: Path) -> Path:
    """As if the supervisor had died before it wrote the job down."""
    (batch,) = batches(folder)
    (batch / 'job').unlink()
    return batch


def test_a_batch_without_a_job_is_asked_for_by_its_name(backend, fake_slurm, tmp_path):
    unit = a_unit(tmp_path, 1)
    (answer,) = submit(backend, unit)
    batch = forget_job(tmp_path)
    assert create(os.environ).find([unit]) == {unit.key: answer.ref}
    # When it was submitted nobody knows: not when it was found.
    assert (batch / 'job').read_text() == '4711\n0.000\n'


def test_a_batch_that_only_accounting_remembers_is_found(backend, fake_slurm, tmp_path):
    unit = a_unit(tmp_path, 1)
    (answer,) = submit(backend, unit)
    batch = forget_job(tmp_path)
    name = json.loads((batch / 'batch.json').read_text())['name']
    fake_slurm.set(accounting=True)
    fake_slurm.jobs = [Job(4711, 'COMPLETED', name=name, forgotten=True)]
    assert create(os.environ).find([unit]) == {unit.key: answer.ref}


def test_a_batch_of_which_only_its_elements_tell_is_found(backend, fake_slurm, tmp_path):
    unit = a_unit(tmp_path, 1)
    (answer,) = submit(backend, unit)
    batch = forget_job(tmp_path)
    fake_slurm.jobs = []
    (batch / 'begun/0.0.0').write_text('job 4711\nnode n1\nat 1000.0\n')
    assert create(os.environ).find([unit]) == {unit.key: answer.ref}


def test_a_batch_that_slurm_never_saw_is_removed(backend, fake_slurm, tmp_path):
    unit = a_unit(tmp_path, 1)
    submit(backend, unit)
    forget_job(tmp_path)
    fake_slurm.jobs = []
    successor = create(os.environ)
    assert successor.find([unit]) == {}
    assert batches(tmp_path) == []
    (again,) = submit(successor, unit)
    assert isinstance(again, Submitted)


def test_while_slurm_is_down_nobody_knows_of_a_batch_without_a_job(backend, fake_slurm, tmp_path):
    unit = a_unit(tmp_path, 1)
    submit(backend, unit)
    batch = forget_job(tmp_path)
    fake_slurm.reply('squeue', DOWN['squeue'])
    with pytest.raises(UnreachableError):
        create(os.environ).find([unit])
    assert batch.exists()


# --- checking


def test_slurm_is_asked_once_for_each_kind_of_job(backend, fake_slurm, tmp_path):
    for number in range(5):
        backend.check(a_unit(tmp_path, number).tasks)
    backend.check(a_unit(tmp_path, 6, partition='low').tasks)
    calls = fake_slurm.calls('sbatch')
    assert len(calls) == 2
    assert all('--test-only' in call for call in calls)


def test_what_slurm_would_never_run_is_refused_in_its_words(backend, fake_slurm, tmp_path):
    err = 'allocation failure: Requested node configuration is not available\n'
    fake_slurm.reply('sbatch', Reply(1, err=err))
    for _ in range(2):
        with pytest.raises(ExecutorError, match='Requested node configuration is not available'):
            backend.check(a_unit(tmp_path, 1).tasks)


@pytest.mark.parametrize('reply', [DOWN['sbatch'], TOO_MANY_JOBS])
def test_slurm_being_down_or_full_is_no_flaw_of_a_job(backend, fake_slurm, tmp_path, reply):
    fake_slurm.reply('sbatch', reply)
    backend.check(a_unit(tmp_path, 1).tasks)


def test_where_there_is_no_slurm_a_login_node_is_asked_for(tmp_path):
    backend = create({'PATH': str(tmp_path)})
    with pytest.raises(ExecutorError, match=r"login node.*login='user@host'"):
        backend.check(a_unit(tmp_path, 1).tasks)


# --- capacity


def test_slurm_has_a_queue_of_its_own(backend, tmp_path):
    assert backend.capacity() is None
    assert backend.strangers() == {}
    assert backend.demand(a_unit(tmp_path, 1, 'a', 'b').tasks) == {'a': {}, 'b': {}}
