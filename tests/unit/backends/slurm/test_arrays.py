"""Units that are alike go in one call of sbatch; those that aren't don't."""

import itertools
import json
from typing import Any

from tests.unit.backends.slurm.steps import a_request, a_step

from xmanager.backends.slurm.arrays import Bounds, batches
from xmanager.backends.slurm.batch import read_manifest


def made(requests, **bounds):
    numbers = itertools.count(1)
    return batches(requests, Bounds(**bounds), lambda: f'b{next(numbers)}')


def labels(batch):
    return [request.unit.label for request in batch.requests]


def test_units_that_differ_in_data_only_are_one_array_in_order():
    requests = [
        a_request(
            number=n,
            argv=('/bin/echo', str(n)),
            env={'N': str(n)},
            cwd=f'/{n}',
            options=('--mem=1M',),
        )
        for n in range(1, 1001)
    ]
    [batch] = made(requests)
    assert batch.argv == (
        *('sbatch', '--parsable', '--job-name=1_train.b1', '--output=/dev/null', '--chdir=/'),
        *('--array=0-999', '--mem=1M'),
        *(
            '/shared/experiments/1/slurm/b1/batch.sh',
            'array',
            '/shared/experiments/1/slurm/b1',
            '0',
        ),
    )
    assert labels(batch) == [str(n) for n in range(1, 1001)]
    assert batch.reference(4711, 3) == '4711_3@b1'


def test_a_single_unit_is_a_plain_job():
    [batch] = made([a_request()])
    assert not batch.is_array
    assert not [word for word in batch.argv if word.startswith('--array')]
    assert batch.argv[-3:] == ('alone', batch.folder, '0')
    assert batch.reference(4711, 0) == '4711@b1'


def test_arrays_are_split_where_the_site_ends_them():
    requests = [a_request(number=n) for n in range(1, 251)]
    parts = made(requests, max_array_size=101)
    assert [len(part.requests) for part in parts] == [101, 101, 48]
    assert '--array=0-100' in parts[0].argv
    assert [one for part in parts for one in labels(part)] == [str(n) for n in range(1, 251)]
    assert [len(part.requests) for part in made(requests, max_array_size=101, most=100)] == [
        100,
        100,
        50,
    ]


def test_what_is_left_of_a_split_may_be_a_plain_job():
    assert [part.is_array for part in made([a_request(number=n) for n in range(3)], most=2)] == [
        True,
        False,
    ]


def test_an_array_is_throttled_as_was_asked():
    [batch] = made([a_request(number=n, parallelism=4) for n in range(3)])
    assert '--array=0-2%4' in batch.argv


def test_units_that_ask_for_different_things_are_apart():
    differences: list[dict[str, Any]] = [
        {},
        {'options': ('--mem=1M',)},
        {'parallelism': 3},
        {'setup': ('module load cuda',)},
        {'secrets': {'TOKEN': 'TOKEN'}},
        {'root': '/elsewhere'},
        {'replicas': 2},
    ]
    requests = [
        a_request(number=2 * n + i, **fields)
        for n, fields in enumerate(differences)
        for i in (0, 1)
    ]
    found = made(requests)
    # Replicas are never in an array.
    assert [len(batch.requests) for batch in found] == [2, 2, 2, 2, 2, 2, 1, 1]


def test_alike_units_need_not_stand_together():
    requests = [a_request(number=n, options=(f'--mem={n % 2}M',)) for n in range(1, 7)]
    assert [labels(batch) for batch in made(requests)] == [['1', '3', '5'], ['2', '4', '6']]


def test_a_group_is_one_heterogeneous_job():
    request = a_request(
        a_step(task='learner'), a_step(task='actor', replicas=2), options=('--mem=1M',)
    )
    [batch] = made([request])
    ours = ('--job-name=1_unit1.b1', '--output=/dev/null', '--chdir=/', '--mem=1M')
    assert batch.argv == (
        *('sbatch', '--parsable', *ours, ':', *ours, f'{batch.folder}/batch.sh', batch.folder, '2'),
    )
    data = batch.files[f'{batch.folder}/data/0'].decode()
    assert data.count(':--het-group=0\n') == data.count(':--het-group=1\n') == 1
    assert data.count(':--label\n') == 1
    assert batch.files[f'{batch.folder}/titles'] == b'"learner"\n"actor"\n'


def test_the_manifest_tells_which_units_are_in_it():
    [batch] = made([a_request(number=n) for n in (7, 9)])
    read = read_manifest(batch.files[f'{batch.folder}/batch.json'])
    assert (read.id, read.name, read.is_array) == ('b1', '1_train.b1', True)
    assert [(one.key, one.tasks) for one in read.elements] == [
        ('home.1.7.1', ('train',)),
        ('home.1.9.1', ('train',)),
    ]


def test_a_jobs_name_has_only_what_squeue_finds_again():
    [batch] = made([a_request(a_step(task='a b,c|d\n$é/..' + 'x' * 100))])
    assert batch.name == '1_a_b_c_d____..' + 'x' * 45 + '.b1'


def test_secrets_are_in_no_file():
    [batch] = made([a_request(secrets={'TOKEN': 'MY_TOKEN'})])
    assert batch.secrets == ('MY_TOKEN',)
    assert ':secret=TOKEN=MY_TOKEN\n' in batch.files[f'{batch.folder}/data/0'].decode()


def test_data_lies_in_small_files():
    [batch] = made([a_request(number=n, argv=(f'/{n}',)) for n in range(250)])
    names = [path for path in batch.files if '/data/' in path]
    assert names == [f'{batch.folder}/data/{n}' for n in range(3)]
    assert b'=199.0\n' in batch.files[f'{batch.folder}/data/1']
    assert b'=200.0\n' not in batch.files[f'{batch.folder}/data/1']


def test_a_title_is_json():
    [batch] = made([a_request(a_step(task='a"b'))])
    lines = batch.files[f'{batch.folder}/data/0'].decode().splitlines()
    [title] = [line.removeprefix(':title=') for line in lines if line.startswith(':title=')]
    assert json.loads(title) == 'a"b'
