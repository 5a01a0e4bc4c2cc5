"""What a keeper will ask the engine for is a value, made of a task alone."""

import json
from pathlib import Path

import pytest

from xmanager.backend import Task, Unit
from xmanager.backends.local.docker_options import DockerOptions
from xmanager.backends.local.executor import Local
from xmanager.backends.local.rendering import render_task
from xmanager.containers.body import create_body
from xmanager.errors import ExecutorError

GIB = 1024**3


def render(*names, gpus='', home='/home/ada', cwd='', argv=('--seed=1',), docker=None, **settings):
    tasks = tuple(
        Task(
            name,
            f'12_3_{name}',
            argv,
            cwd,
            executable={'kind': 'image', 'image': 'sha256:1f', 'engine': 'unix:///run/e.sock'},
            options={} if docker is None else {'docker': docker.as_json()},
            **settings,
        )
        for name in names or ('train',)
    )
    unit = Unit(12, '3', 2, 'home.12.3.2', Path('/x/experiments/12/3'), tasks)
    command = render_task(unit, tasks[0], gpus, 'b007', home)
    assert command.container is not None
    assert json.loads(json.dumps(command.container)) == command.container
    return command


def body(command, kind='docker', **settings):
    return create_body(command.container, kind, {'XM_SECRET_KEY': 'hush'}, **settings)


def test_a_container_is_given_its_image_its_arguments_and_where_it_is():
    command = render(env={'A': 'b'})
    create = command.container['create']
    assert create['Image'] == 'sha256:1f'
    assert create['Cmd'] == ['--seed=1']
    assert 'WorkingDir' not in create
    assert create['Env'][0] == 'A=b'
    assert 'XM_OUTPUT_DIR=/x/experiments/12/3/train/out' in create['Env']
    assert not any(one.startswith('XM_KEY=') for one in create['Env'])
    out = '/x/experiments/12/3/train/out'
    assert create['HostConfig'] == {'Mounts': [{'Type': 'bind', 'Source': out, 'Target': out}]}
    assert command.as_json()['image'] == 'sha256:1f'


def test_its_labels_say_whose_it_is():
    assert render().container['create']['Labels'] == {
        'xmanager.key': 'home.12.3.2',
        'xmanager.home': '/x',
        'xmanager.home_id': 'home',
        'xmanager.experiment': '12',
        'xmanager.unit': '3',
        'xmanager.attempt': '2',
        'xmanager.job': 'train',
    }
    assert render().container['name'].startswith('xm-12-3-train-')
    assert render().container['name'] == render().container['name']


def test_without_arguments_the_image_has_its_own():
    assert 'Cmd' not in render(argv=()).container['create']


def test_requirements_are_limits():
    host = render(requirements={'cpu': 1.5, 'ram': 2.0 * GIB}).container['create']['HostConfig']
    assert host['NanoCpus'] == 1_500_000_000
    assert host['Memory'] == host['MemorySwap'] == 2 * GIB


def test_granted_gpus_are_asked_for_by_name():
    command = render(requirements={'local_gpu': 2.0}, gpus='1,GPU-5f')
    assert body(command)['HostConfig']['DeviceRequests'] == [
        {'Driver': 'nvidia', 'DeviceIDs': ['1', 'GPU-5f'], 'Capabilities': [['gpu']]}
    ]
    assert body(command, 'podman')['HostConfig']['DeviceRequests'] == [
        {'Driver': 'cdi', 'DeviceIDs': ['nvidia.com/gpu=1', 'nvidia.com/gpu=GPU-5f']}
    ]
    assert 'DeviceRequests' not in body(render())['HostConfig']


def test_secrets_are_only_in_the_request():
    command = render(secrets={'KEY': 'KEY_OF_ADA'})
    assert 'hush' not in json.dumps(command.container)
    assert 'KEY=hush' in body(command)['Env']
    assert command.as_json()['env']['KEY'] == {'secret': 'KEY_OF_ADA'}


def test_output_is_kept_whole_whatever_the_engines_defaults():
    assert body(render())['HostConfig']['LogConfig']['Type'] == 'local'
    assert body(render())['HostConfig']['LogConfig']['Config']['max-file'] == '1'
    assert body(render(), init=True)['HostConfig']['Init'] is True
    assert 'Init' not in body(render(), init=False)['HostConfig']


def test_several_containers_of_a_unit_share_a_network():
    assert render().container['network'] is None
    network = render('train', 'evaluate').container['network']
    assert network['aliases'] == ['12_3_train']
    created = body(render('train', 'evaluate'))
    assert created['HostConfig']['NetworkMode'] == network['name']
    aliases = created['NetworkingConfig']['EndpointsConfig'][network['name']]['Aliases']
    assert aliases == ['12_3_train']


def test_a_network_that_is_asked_for_takes_the_place_of_the_groups():
    command = render('train', 'evaluate', docker=DockerOptions(network='host'))
    assert command.container['network'] is None
    assert body(command)['HostConfig']['NetworkMode'] == 'host'


def test_docker_options_are_rendered():
    options = DockerOptions(
        ports={8080: 80, '53/udp': ('127.0.0.1', 5353)},
        volumes={'/data': '/mnt:ro', 'cache': '/cache'},
        interactive=True,
        shm_size='1g',
        user=1000,
        extra_hosts={'db': '10.0.0.5'},
    )
    create = render(docker=options).container['create']
    host = create['HostConfig']
    assert host['PortBindings'] == {
        '8080/tcp': [{'HostIp': '', 'HostPort': '80'}],
        '53/udp': [{'HostIp': '127.0.0.1', 'HostPort': '5353'}],
    }
    assert create['ExposedPorts'] == {'8080/tcp': {}, '53/udp': {}}
    assert host['Mounts'][1:] == [
        {'Type': 'bind', 'Source': '/data', 'Target': '/mnt', 'ReadOnly': True},
        {'Type': 'volume', 'Source': 'cache', 'Target': '/cache', 'ReadOnly': False},
    ]
    assert (host['ShmSize'], create['User'], host['ExtraHosts']) == (GIB, '1000', ['db:10.0.0.5'])
    assert (create['Tty'], create['OpenStdin']) == (True, True)


def test_buckets_are_mounted_where_they_are_unless_told_otherwise():
    mount = {'Type': 'bind', 'Source': '/home/ada/gcs', 'Target': '/gcs'}
    assert render().container['optional_mounts'] == [mount]
    without = DockerOptions(mount_gcs_path=False)
    assert render(docker=without).container['optional_mounts'] == []


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'ports': [80]}, r'DockerOptions\(ports=\[80\]\): expected a dict'),
        ({'ports': {'http': 80}}, "'http' is no port of a container"),
        ({'ports': {80: 70000}}, '70000 is no port of this host'),
        ({'volumes': {'/data': 'data'}}, "'data' is no path in a container"),
        ({'volumes': {'a b': '/data'}}, 'neither a path of this host nor the name'),
        ({'shm_size': 'much'}, "expected bytes, or a size such as '1g'"),
        ({'user': 'a b'}, 'expected a user'),
        ({'network': ''}, 'expected .*the name of a network'),
        ({'extra_hosts': {'a b': '1'}}, 'is no name with an address'),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_sentence(options, message):
    with pytest.raises(ExecutorError, match=message):
        DockerOptions(**options)


def test_options_travel_with_the_job():
    assert Local(docker_options=DockerOptions(user='ada')).options()['docker']['user'] == 'ada'
    assert 'docker' not in Local().options()
    with pytest.raises(TypeError, match=r'expected xm_local\.DockerOptions'):
        Local(docker_options={})  # type: ignore[arg-type]
