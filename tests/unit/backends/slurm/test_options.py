"""From requirements and settings to the options of sbatch."""

import pytest

from xmanager import xm
from xmanager.backend import Task
from xmanager.backends.slurm.options import check, options_of, options_of_unit
from xmanager.backends.slurm.preferences import Preferences
from xmanager.errors import ExecutorError
from xmanager.launch.resolve import requirements_of
from xmanager.xm_local import Slurm


def task(requirements=None, name='train', **settings):
    slurm = Slurm(xm.JobRequirements(**(requirements or {})), **settings)
    return Task(
        name=name,
        full_name='',
        argv=('true',),
        cwd='/',
        requirements=requirements_of(slurm),
        options=slurm.options(),
    )


def options(requirements=None, **settings):
    """Those of one job, less the one that is always there."""
    return [word for word in options_of(task(requirements, **settings)) if word != '--no-requeue']


def test_a_job_that_states_nothing_takes_what_the_site_gives():
    assert options_of(task()) == ('--no-requeue',)


@pytest.mark.parametrize(
    ('requirements', 'words'),
    [
        ({'cpu': 4}, ['--cpus-per-task=4']),
        ({'cpu': 0.5}, ['--cpus-per-task=1']),
        ({'cpu': 2.1}, ['--cpus-per-task=3']),
        ({'cpu': 0}, []),
        ({'ram': 8 * xm.GiB}, ['--mem=8192M']),
        ({'ram': xm.MiB + 1}, ['--mem=2M']),
        ({'ram': 1}, ['--mem=1M']),
        ({'ram': 0}, []),
        ({'disk': 10 * xm.GiB}, ['--tmp=10240M']),
        ({'local_gpu': 2}, ['--gres=gpu:2']),
        ({'local_gpu': 0}, []),
        ({'a100': 4}, ['--gres=gpu:a100:4']),
        ({'a100_80gib': 1}, ['--gres=gpu:a100_80gib:1']),
        ({'local_gpu': '2x2'}, ['--gres=gpu:4']),
        ({'cpu': 2, 'ram': xm.GiB, 'v100': 1},
         ['--cpus-per-task=2', '--mem=1024M', '--gres=gpu:v100:1']),
    ],
)  # fmt: skip
def test_requirements_become_options(requirements, words):
    assert options(requirements) == words


def test_settings_become_options():
    assert options(
        partition='gpu', account='lab', qos='high', constraint='ib', exclusive=True, time='1:00:00'
    ) == [
        '--partition=gpu',
        '--account=lab',
        '--constraint=ib',
        '--qos=high',
        '--exclusive',
        '--time=60',
    ]


def test_further_options_come_last_and_as_they_are():
    given = ['--comment=two\nlines', '--mail-type=END']
    assert options({'cpu': 2}, extra_sbatch_args=given) == ['--cpus-per-task=2', *given]


def test_a_gpu_is_called_as_the_job_says_else_as_the_site_says():
    site = Preferences(gpu_types={'a100': 'ampere', 'h100': 'hopper'})
    asking = task({'h100': 1}, gpu_types={'a100': 'mine'})
    assert '--gres=gpu:hopper:1' in options_of(asking, site)
    asking = task({'a100': 1}, gpu_types={'a100': 'mine'})
    assert '--gres=gpu:mine:1' in options_of(asking, site)
    asking = task({'a100': 1}, gpu_types={'a100': ''})
    assert '--gres=gpu:1' in options_of(asking, site)


# Copies.


def test_copies_are_tasks_each_with_its_own():
    assert options({'replicas': 4, 'cpu': 2, 'ram': xm.GiB, 'local_gpu': 1}) == [
        '--ntasks=4',
        '--cpus-per-task=2',
        '--mem-per-cpu=512M',
        '--gpus-per-task=1',
    ]


def test_the_kind_of_gpu_does_not_cost_the_tasks_of_one_node_their_gpus():
    assert options({'replicas': 4, 'a100': 2}) == [
        '--ntasks=4',
        '--gpus-per-task=a100:2',
        '--gpu-bind=per_task:2',
    ]
    asked = options({'replicas': 4, 'a100': 2}, extra_sbatch_args=['--gpu-bind=none'])
    assert asked[-1] == '--gpu-bind=none'
    assert '--gpu-bind=per_task:2' not in asked


def test_hosts_of_a_topology_are_copies():
    assert options({'a100': '4x2'})[:2] == ['--ntasks=2', '--gpus-per-task=a100:4']


def test_copies_on_nodes_have_the_memory_and_disk_of_their_node_together():
    assert options({'ram': xm.GiB, 'disk': xm.GiB}, nodes=2, ntasks_per_node=4) == [
        '--nodes=2',
        '--ntasks=8',
        '--ntasks-per-node=4',
        '--mem=4096M',
        '--tmp=4096M',
    ]
    assert options({'ram': xm.GiB, 'replicas': 3}, nodes=3) == [
        '--nodes=3',
        '--ntasks=3',
        '--mem=1024M',
    ]


# Priority.


def test_a_tier_is_a_qos_where_the_site_names_one_else_a_nice_value():
    batch = task({'service_tier': xm.ServiceTier.BATCH})
    assert options_of(batch) == ('--nice=100', '--no-requeue')
    site = Preferences(qos={'batch': 'low', 'prod': 'high'})
    assert options_of(batch, site) == ('--qos=low', '--no-requeue')
    assert options_of(task(), site) == ('--qos=high', '--no-requeue')
    assert options_of(task(qos='mine'), site) == ('--qos=mine', '--no-requeue')


def test_what_is_of_low_importance_is_nicer():
    assert '--nice=100' in options_of(task(), importance=-1)
    assert options_of(task(), importance=0) == options_of(task(), importance=1)


def test_what_the_job_says_itself_goes_before_what_is_settled_for_all():
    site = Preferences(qos={'prod': 'high'})
    asked = task(extra_sbatch_args=['--nice=5', '--qos=mine'])
    assert options_of(asked, site, -1) == ('--no-requeue', '--nice=5', '--qos=mine')
    with pytest.raises(ExecutorError, match='stands against --qos=high'):
        check([task(qos='high', extra_sbatch_args=['--qos=mine'])])


# Time.


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'timeout': 60, 'grace': 0}, ['--time=2']),
        ({'timeout': 60, 'grace': 30}, ['--time=3']),
        ({'timeout': 60}, ['--time=3']),
        ({'timeout': 60, 'time': '2:00:00'}, ['--time=120']),
        ({'time': 61}, ['--time=2']),
        ({}, []),
    ],
)
def test_slurms_limit_is_a_net_below_the_timeout(settings, words):
    assert options(**settings) == words


def limits_of(*tasks):
    return [
        [word for word in words if word.startswith('--time')] for words in options_of_unit(tasks)
    ]


def test_the_jobs_of_a_group_have_the_longest_limit_of_them():
    assert limits_of(task(timeout=60, grace=0), task(timeout=3600, grace=0)) == [['--time=61']] * 2
    assert limits_of(task(time=60), task()) == [['--time=1']] * 2


def test_a_group_has_no_limit_if_one_of_its_jobs_has_none():
    assert limits_of(task(timeout=60), task()) == [[], []]


# Requeueing.


@pytest.mark.parametrize(
    ('settings', 'word'),
    [
        ({}, '--no-requeue'),
        ({'max_restarts': 1}, '--requeue'),
        ({'max_restarts': 1, 'restart_on': 'preempted'}, '--requeue'),
        ({'max_restarts': 1, 'restart_on': 'failure'}, '--no-requeue'),
    ],
)
def test_slurm_requeues_what_may_be_restarted_after_a_preemption(settings, word):
    assert options_of(task(**settings)) == (word,)


def test_a_group_is_requeued_as_a_whole():
    assert options_of_unit([task(), task(max_restarts=1)]) == (('--requeue',), ('--requeue',))


# What has no counterpart.


@pytest.mark.parametrize(
    ('requirements', 'message'),
    [
        ({'tpu_v3': 8}, r'tpu_v3=8\)\) \(job train\): Slurm has no TPU_V3 to give'),
        (
            {'local_gpu': 0.5},
            r'local_gpu=0.5\)\) \(job train\): Slurm gives whole GPUs.*gres=shard:1',
        ),
    ],
)
def test_what_no_cluster_can_give_is_an_error(requirements, message):
    with pytest.raises(ExecutorError, match=message):
        check([task(requirements)])


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'requirements': {'cpu': 2}, 'extra_sbatch_args': ['--cpus-per-task=3']},
         'stands against --cpus-per-task=2'),
        ({'requirements': {'ram': xm.GiB}, 'extra_sbatch_args': ['--mem-per-cpu=1G']},
         'stands against --mem=1024M'),
        ({'requirements': {'a100': 1}, 'extra_sbatch_args': ['--gres=lscratch:5']},
         'stands against --gres=gpu:a100:1'),
        ({'requirements': {'a100': 1}, 'extra_sbatch_args': ['--gpus=2']}, 'stands against --gres'),
        ({'partition': 'low', 'extra_sbatch_args': ['--part=high']}, '--part stands against'),
        ({'timeout': 60, 'extra_sbatch_args': ['--time=5']}, 'stands against --time=3'),
    ],
)  # fmt: skip
def test_an_option_that_is_said_twice_is_an_error(settings, message):
    with pytest.raises(ExecutorError, match=message):
        check([task(**settings)])


def test_a_cluster_may_be_asked_for_more_than_we_know():
    extra = ['--gres=shard:1', '--mem-per-cpu=2G', '--nodes=2', '--time=5']
    check([task({'cpu': 2}, extra_sbatch_args=extra)])


def test_jobs_of_a_group_are_submitted_from_one_place():
    with pytest.raises(ExecutorError, match="login='a' and 'b'"):
        check([task(login='a'), task(login='b', name='eval')])
    check([task(login='a'), task(login='a', name='eval')])


def test_a_group_cannot_be_throttled_as_an_array():
    with pytest.raises(ExecutorError, match=r'array_parallelism=2\) \(job eval\)'):
        check([task(), task(array_parallelism=2, name='eval')])
    check([task(array_parallelism=2)])


def test_the_components_of_a_group_say_their_memory_alike():
    actor = task({'cpu': 2, 'ram': xm.GiB, 'replicas': 2}, name='actor')
    learner = task({'cpu': 4, 'ram': xm.GiB}, name='learner')
    ours, theirs = options_of_unit([learner, actor])
    assert '--mem-per-cpu=256M' in ours
    assert '--mem-per-cpu=512M' in theirs
    assert not any(word.startswith('--mem=') for word in (*ours, *theirs))
