"""What users write for a cluster: values with checks, and the options that reach the back end."""

import inspect
import json
from datetime import timedelta

import pytest

from xmanager import xm, xm_local
from xmanager.errors import ExecutorError
from xmanager.xm_local import Local, Slurm, SlurmSpec


def test_whatever_is_given_to_local_by_position_can_be_given_to_slurm():
    def by_position(executor):
        parameters = inspect.signature(executor).parameters.values()
        return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]

    assert by_position(Slurm) == by_position(Local)
    options = xm_local.DockerOptions(volumes={'/data': '/data'})
    slurm = Slurm(xm.JobRequirements(cpu=2), options, False, 5, 6, '/tmp')
    assert slurm.requirements == xm.JobRequirements(cpu=2)
    assert slurm.docker_options is options
    assert not slurm.experimental_stream_output
    assert (slurm.timeout, slurm.grace, slurm.cwd) == (5, 6, '/tmp')


def test_every_setting_of_local_is_one_of_slurm():
    parameters = inspect.signature(Slurm).parameters
    assert set(inspect.signature(Local).parameters) <= set(parameters)


def test_the_specification_is_that_of_clusters():
    assert Slurm.Spec is SlurmSpec
    assert Slurm.Spec() == SlurmSpec()
    assert Slurm.backend == SlurmSpec.backend == 'slurm'


def test_options_are_json_values_in_seconds():
    slurm = Slurm(
        xm.JobRequirements(a100=2, service_tier=xm.ServiceTier.BATCH, replicas=3),
        partition='gpu,long',
        account='lab',
        qos='high',
        time='1-02:00:00',
        constraint='[rack1|rack2]&ib',
        exclusive=True,
        gpu_types={xm.ResourceType.A100: 'ampere', 'h100': ''},
        extra_sbatch_args=('--mail-type=END',),
        setup=['module load cuda', 'ulimit -n 4096'],
        array_parallelism=4,
        login='me@cluster',
        timeout=timedelta(hours=2),
        max_restarts=2,
    )
    options = slurm.options()
    assert json.loads(json.dumps(options)) == options
    assert options.items() >= {
        'partition': 'gpu,long', 'account': 'lab', 'qos': 'high', 'time': 93600.0,
        'constraint': '[rack1|rack2]&ib', 'exclusive': True, 'nodes': None, 'ntasks_per_node': None,
        'array_parallelism': 4, 'login': 'me@cluster', 'service_tier': 'batch', 'replicas': 3,
        'timeout': 7200.0, 'max_restarts': 2, 'stream_output': True,
    }.items()  # fmt: skip
    assert options['gpu_types'] == {'a100': 'ampere', 'h100': ''}
    assert options['extra_sbatch_args'] == ['--mail-type=END']
    assert options['setup'] == ['module load cuda', 'ulimit -n 4096']
    assert 'docker' not in options


def test_settings_of_containers_are_recorded_as_those_of_local_are():
    docker = xm_local.DockerOptions(volumes={'/data': '/in:ro'}, shm_size='1g')
    assert Slurm(docker_options=docker).options()['docker'] == docker.as_json()


@pytest.mark.parametrize(
    ('docker', 'message'),
    [
        ({'ports': {8080: 80}}, r'ports: .*its port 8080 is port 8080 there'),
        ({'ports': {80: ('127.0.0.1', 80)}}, 'ports: a container on a cluster'),
        ({'volumes': {'data': '/data'}}, "volumes: 'data' is a volume of an engine"),
        ({'network': 'mine'}, "network: nodes have no network 'mine'"),
        ({'user': 1000}, 'user: a container on a cluster runs as you do'),
        ({'interactive': True}, 'interactive: a job of a cluster has no terminal'),
        ({'extra_hosts': {'db': '10.0.0.5'}}, 'extra_hosts: nodes know the names'),
    ],
)
def test_what_no_node_can_do_for_a_container_is_refused(docker, message):
    with pytest.raises(ExecutorError, match=message):
        Slurm(docker_options=xm_local.DockerOptions(**docker))


def test_a_port_that_stays_the_same_and_the_network_of_the_host_are_what_nodes_have():
    Slurm(docker_options=xm_local.DockerOptions(ports={8080: 8080, '53/udp': None}, network='host'))


@pytest.mark.parametrize(
    ('time', 'seconds'),
    [
        (90, 90.0),
        (timedelta(minutes=2), 120.0),
        ('90', 5400.0),
        ('1:30', 90.0),
        ('2:00:00', 7200.0),
        ('1-0', 86400.0),
        ('1-2', 93600.0),
        ('1-2:3', 93780.0),
        ('1-02:03:04', 93784.0),
    ],
)
def test_a_time_is_given_in_seconds_or_as_slurm_reads_it(time, seconds):
    assert Slurm(time=time).options()['time'] == seconds


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        ({'requirements': {'cpu': 1}}, TypeError, r'expected xm\.JobRequirements'),
        ({'partition': 5}, TypeError, r'Slurm\(partition=5\): expected text'),
        ({'partition': ''}, ExecutorError, r"Slurm\(partition=''\): expected one word"),
        ({'partition': 'gpu\n#SBATCH -A x'}, ExecutorError, 'expected one word'),
        ({'partition': 'gpu\x01'}, ExecutorError, 'expected one word'),
        ({'account': 'a b'}, ExecutorError, r"Slurm\(account='a b'\): expected one word"),
        ({'qos': '--wrap'}, ExecutorError, 'without spaces or a dash in front'),
        ({'login': '-oProxyCommand=x'}, ExecutorError, 'dash in front'),
        ({'constraint': 'a\0'}, ExecutorError, 'expected one word'),
        ({'nodes': 0}, ExecutorError, r'Slurm\(nodes=0\): expected 1 or more'),
        ({'nodes': 1.5}, TypeError, 'expected a whole number'),
        ({'ntasks_per_node': True}, TypeError, 'expected a whole number'),
        ({'array_parallelism': -1}, ExecutorError, 'expected 1 or more'),
        ({'exclusive': 'user'}, TypeError, 'expected True or False'),
        ({'time': 0}, ExecutorError, r'Slurm\(time=0\): expected more than no time'),
        ({'time': -5}, ExecutorError, 'expected more than no time'),
        ({'time': float('nan')}, ExecutorError, 'expected more than no time'),
        ({'time': float('inf')}, ExecutorError, 'expected more than no time'),
        ({'time': '00:00'}, ExecutorError, 'expected more than no time'),
        ({'time': True}, TypeError, 'expected seconds, a timedelta, or text'),
        ({'time': 'UNLIMITED'}, ExecutorError, "text of Slurm's such as '1-02:00:00'"),
        ({'time': '1-2-3'}, ExecutorError, "text of Slurm's"),
        ({'time': '5 minutes'}, ExecutorError, "text of Slurm's"),
        ({'time': 60, 'timeout': 90}, ExecutorError, r'timeout=90, time=60\): Slurm would end'),
        ({'setup': 'module load cuda'}, TypeError, 'expected a list of texts'),
        ({'setup': [5]}, TypeError, '5 is no text'),
        ({'setup': ['a\0b']}, ExecutorError, 'NUL'),
        ({'extra_sbatch_args': '--hold'}, TypeError, 'expected a list of texts'),
        ({'extra_sbatch_args': [None]}, TypeError, 'None is no text'),
        ({'gpu_types': 'a100'}, TypeError, 'expected a dict'),
        ({'gpu_types': {'gtx': 'x'}}, ExecutorError, r"'gtx' is none of xm\.GpuType"),
        ({'gpu_types': {xm.ResourceType.TPU_V3: 'x'}}, ExecutorError, r'is none of xm\.GpuType'),
        ({'gpu_types': {'a100': 'x:y'}}, ExecutorError, "'x:y' is no name of a kind of GPU"),
        ({'docker_options': {'ports': {}}}, TypeError, r'expected xm_local\.DockerOptions'),
        ({'cwd': 5}, TypeError, r'Slurm\(cwd=5\): expected a path'),
        ({'timeout': -1}, ExecutorError, r'Slurm\(timeout=-1\): expected a positive'),
        ({'warn_before': 5}, ExecutorError, 'Set timeout too'),
    ],
)
def test_a_bad_setting_is_explained(settings, error, message):
    with pytest.raises(error, match=message):
        Slurm(**settings)


@pytest.mark.parametrize(
    'word',
    [
        'mail-user=me',
        '-N2',
        '--Nodes=2',
        '--',
        ':',
        'job.sh',
        '--mail-user me',
        '--comment=a\0b',
        '',
    ],
)
def test_further_options_are_long_ones_in_one_word(word):
    with pytest.raises(ExecutorError, match="Write '--name' or '--name=value'"):
        Slurm(extra_sbatch_args=['--hold', word])


@pytest.mark.parametrize(
    ('word', 'reason'),
    [
        ('--array=1-3', 'become an array by themselves'),
        ('--job-name=x', 'name the job by'),
        ('--output=log', 'xmanager logs'),
        ('--err=log', 'xmanager logs'),
        ('--wrap=true', 'the executable'),
        ('--parsable', 'what sbatch answers'),
        ('--wait', 'the supervisor waits'),
        ('--export=NONE', 'env_vars'),
        ('--chdir=/', 'say cwd='),
        ('--signal=USR1@60', 'warn_before='),
        ('--requeue', 'max_restarts='),
        ('--no-requeue', 'max_restarts='),
        ('--clusters=a', 'SLURM_CONF'),
        ('--test', 'what sbatch answers'),
    ],
)
def test_options_that_are_ours_to_set_are_refused_with_the_reason(word, reason):
    with pytest.raises(ExecutorError, match=reason):
        Slurm(extra_sbatch_args=[word])


@pytest.mark.parametrize(
    'word', ['--hold', '--mail-type=END', '--comment=two\nlines of $HOME', '--wait-all-nodes=1',
             '--nice=5', '--reservation=maintenance', '--mem-per-gpu=8G', '--exclude=n[1-3]'],
)  # fmt: skip
def test_other_options_of_sbatch_may_be_given(word):
    assert Slurm(extra_sbatch_args=[word]).options()['extra_sbatch_args'] == [word]


def test_a_location_has_no_counterpart():
    with pytest.raises(ExecutorError, match=r"location='us'.*partition= or the constraint="):
        Slurm(xm.JobRequirements(location='us'))


def test_an_architecture_has_no_counterpart_but_in_the_kind_of_gpu():
    with pytest.raises(ExecutorError, match='say it as constraint='):
        Slurm(xm.JobRequirements(architecture=xm.Architecture.ARM))
    Slurm(xm.JobRequirements(gb200=1))


def test_what_was_assigned_or_changed_since_is_checked_again():
    lines: list[str] = []
    slurm = Slurm(setup=lines, requirements=xm.JobRequirements(cpu=1))
    lines.append('a\0')
    with pytest.raises(ExecutorError, match='NUL'):
        slurm.options()
    lines.clear()
    slurm.requirements.location = 'us'
    with pytest.raises(ExecutorError, match='location'):
        slurm.options()
    slurm.requirements.location = None
    with pytest.raises(ExecutorError, match='nodes'):
        slurm.nodes = -1
    slurm.time, slurm.timeout = 60, 90
    with pytest.raises(ExecutorError, match='before its timeout'):
        slurm.options()


@pytest.mark.parametrize(
    ('requirements', 'layout', 'replicas'),
    [
        ({}, {}, 1),
        ({'replicas': 4}, {}, 4),
        ({}, {'nodes': 3}, 3),
        ({}, {'nodes': 2, 'ntasks_per_node': 4}, 8),
        ({'replicas': 8}, {'nodes': 2, 'ntasks_per_node': 4}, 8),
        ({'replicas': 8}, {'nodes': 2}, 8),
        ({'replicas': 7}, {'ntasks_per_node': 4}, 7),
        ({'a100': '4x2'}, {}, 2),
    ],
)
def test_copies_are_counted_by_requirements_or_by_nodes(requirements, layout, replicas):
    slurm = Slurm(xm.JobRequirements(**requirements), **layout)
    assert slurm.options()['replicas'] == replicas


@pytest.mark.parametrize('layout', [{'nodes': 2, 'ntasks_per_node': 2}, {'nodes': 4}])
def test_requirements_and_nodes_that_say_different_things_are_refused(layout):
    with pytest.raises(ExecutorError, match=r'the requirements ask for 3\. Leave one'):
        Slurm(xm.JobRequirements(replicas=3), **layout)


def test_each_copy_of_a_topology_has_its_share():
    assert Slurm(xm.JobRequirements(a100='4x2')).options()['gpus_each'] == 4
    assert Slurm(xm.JobRequirements(a100='4*3')).options()['gpus_each'] == 4
    assert Slurm(xm.JobRequirements(local_gpu=2)).options()['gpus_each'] is None
    changed = xm.JobRequirements(a100='4x2')
    changed.task_requirements['a100'] = 1
    assert Slurm(changed).options()['gpus_each'] is None
