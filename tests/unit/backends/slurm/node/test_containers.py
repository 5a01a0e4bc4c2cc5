import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import attrs
import pytest
from tests.fakes import containers as fakes
from tests.unit.packaging.pictures import image

from xmanager.backend import Task
from xmanager.backends.slurm.node import containers
from xmanager.errors import ExecutorError
from xmanager.packaging.shared_image import share
from xmanager.packaging.workshop import Workshop

SHELLS = ['sh', 'bash --posix', 'busybox sh']
TELL = [
    sys.executable,
    '-c',
    'import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], sys.stdout)',
]
ODD = [
    'a b',
    '',
    '$HOME `id` $(id)',
    '"\'\\',
    'two\nlines\n',
    'ü€',
    '* ?',
    '-x',
    '--',
    'bind',
    'a,b:c=d',
]


def task(*argv, **more):
    executable = {
        'image': f'sha256:{"1" * 64}',
        'entrypoint': ['/run', 'it'],
        'command': ['default'],
        'working_dir': '/app',
    }
    return Task('train', '1.train', argv, more.pop('cwd', ''), executable=executable, **more)


def words(one, **settings):
    return containers.words(
        one, name='home.1.1.1', folder='/shared/train', layout='/shared/images/1', names=['XM_KEY'],
        settings=settings,
    )  # fmt: skip


def command(given):
    return list(given[given.index('--') + 1 :])


def scalars(given):
    return dict(zip(given[:14:2], given[1:14:2], strict=True))


def test_arguments_follow_the_entry_point_and_take_the_place_of_the_default_command():
    assert command(words(task())) == ['/run', 'it', 'default']
    assert command(words(task('--x', '1'))) == ['/run', 'it', '--x', '1']


def test_an_image_without_a_program_is_refused_unless_the_job_names_one():
    nothing = attrs.evolve(task(), executable={'image': 'sha256:1'})
    with pytest.raises(ExecutorError, match='job train: the image says of no program'):
        words(nothing)
    assert command(words(attrs.evolve(nothing, argv=('/bin/true',)))) == ['/bin/true']


def test_an_image_that_no_node_could_read_is_refused():
    with pytest.raises(ExecutorError, match='lies in no folder that nodes see'):
        containers.words(task(), name='1', folder='/f', layout='', names=[], settings={})


def test_it_starts_in_the_folder_of_the_image_or_in_the_one_that_the_job_names():
    assert scalars(words(task()))['workdir'] == '/app'
    assert scalars(words(task(cwd='/data')))['workdir'] == '/data'


def test_its_output_folder_and_its_volumes_are_bound():
    docker = {
        'mount_gcs_path': False,
        'volumes': [['/data', '/in', True], ['/scratch', '/scratch', False]],
    }
    given = words(task(options={'docker': docker}))
    assert given[14:23] == (
        'bind', '/shared/train/out', '/shared/train/out', 'bind-ro', '/data', '/in', 'bind', '/scratch', '/scratch',
    )  # fmt: skip


def test_the_folder_of_buckets_is_bound_where_it_exists_unless_that_is_switched_off(node, tmp_path):
    there = node('apptainer')
    (tmp_path / 'gcs').mkdir()
    shown = f'type=bind,source={tmp_path}/gcs,destination=/gcs'
    there.run('/bin/true', home=str(tmp_path))
    assert shown in there.calls('apptainer')[-1]
    there.run('/bin/true', home=str(tmp_path), docker={'mount_gcs_path': False})
    there.run('/bin/true', home=str(tmp_path / 'other'))
    assert not [call for call in there.calls('apptainer')[-4:] if shown in call]


@pytest.mark.parametrize(
    ('requirements', 'gpus'),
    [({}, '0'), ({'cpu': 2, 'ram': 1}, '0'), ({'local_gpu': 1}, '1'), ({'a100': 4}, '1')],
)
def test_devices_are_shown_to_those_who_asked_for_some(requirements, gpus):
    assert scalars(words(task(requirements=requirements)))['gpus'] == gpus


def test_variables_are_handed_on_by_name_and_values_stand_in_no_argument():
    given = words(task(env={'PATH': 'secret', 'B': 'secret'}))
    pairs = list(itertools.pairwise(given))
    assert ('env', 'PATH') in pairs
    assert ('env', 'B') in pairs
    assert ('pass', 'XM_KEY') in pairs
    assert 'secret' not in given
    assert containers.environment({'PATH': 'x'}) == {'XM_ENV_PATH': 'x'}


def test_the_engine_and_more_options_for_it_are_settings():
    assert scalars(words(task()))['engine'] == 'any'
    assert scalars(words(task(), XM_SLURM_CONTAINERS='Podman'))['engine'] == 'podman'
    assert scalars(words(task(), XM_SLURM_CONTAINERS='pyxis'))['engine'] == 'enroot'
    given = words(task(), XM_SLURM_CONTAINER_OPTIONS="--a 'b c'")
    assert given[-8:-3] == ('option', '--a', 'option', 'b c', '--')


def test_a_setting_that_makes_no_sense_is_refused():
    with pytest.raises(ExecutorError, match="XM_SLURM_CONTAINERS='docker' is no engine"):
        words(task(), XM_SLURM_CONTAINERS='docker')
    with pytest.raises(ExecutorError, match='XM_SLURM_CONTAINER_OPTIONS'):
        words(task(), XM_SLURM_CONTAINER_OPTIONS="'open")


def test_each_attempt_of_each_task_has_a_name_of_its_own():
    names = {
        containers.container_name(attrs.evolve(task(), name=name), attempt)
        for name in ('a b', 'a_b', 'x' * 300)
        for attempt in ('1', '2')
    }
    assert len(names) == 6
    assert all(set(name) <= set('abxm_-0123456789cdef') and len(name) < 80 for name in names)


# --- container.sh, with fake engines on PATH


@attrs.frozen
class Node:
    """A node with some engines, and an image on the shared folder."""

    folder: Path
    image: str
    layout: Path

    @property
    def path(self):
        return f'{self.folder}/node/bin:{os.environ["PATH"]}'

    def start(
        self, *argv, shell='sh', env=(), secrets=(), requirements=(), home='', docker=(), **settings
    ):
        executable = {'image': self.image, 'working_dir': '/'}
        one = Task(
            'train', '1.train', argv, '', env=dict(env), executable=executable,
            requirements=dict(requirements), options={'docker': dict(docker)},
        )  # fmt: skip
        out = self.folder / 'tr,ain' / 'out'
        out.mkdir(parents=True, exist_ok=True)
        given = containers.words(
            one, name='1', folder=str(out.parent), layout=str(self.layout),
            names=['XM_KEY', *dict(secrets)], settings=settings,
        )  # fmt: skip
        script = self.folder / 'container.sh'
        environment = {
            'PATH': self.path,
            'HOME': home,
            'TMPDIR': str(self.folder),
            'XM_KEY': 'k',
            'SLURM_JOB_ID': '7',
            'CUDA_VISIBLE_DEVICES': '1,3',
            'CUDA_HOME': '/of/the/host',
            'PYTHONPATH': '/of/the/host',
            **dict(secrets),
            **containers.environment(one.env),
        }
        return subprocess.Popen(
            [*shell.split(), str(script), *given], env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *argv, **more):
        started = self.start(*argv, **more)
        out, err = started.communicate(timeout=60)
        return started.returncode, out, err.decode()

    def calls(self, *begin):
        return fakes.calls(self.folder / 'node', *begin)

    def scratch(self):
        return list(self.folder.glob('xm-*'))


@pytest.fixture
def node(tmp_path):
    def make(*engines):
        whole = image(tmp_path, [10])
        facts = share(whole, 'app', Workshop(tmp_path / 'home'))
        fakes.install(tmp_path / 'node', *engines)
        (tmp_path / 'container.sh').write_bytes(containers.SCRIPT)
        return Node(tmp_path, whole.id, Path(facts['layout']))

    return make


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('engine', ['apptainer', 'singularity', 'podman'])
def test_arguments_and_variables_arrive_byte_for_byte(node, engine, shell):
    there = node(engine)
    env = {f'V{number}': value for number, value in enumerate(ODD)}
    env |= {'PATH': '/mine:/usr/bin:/bin', 'LD_LIBRARY_PATH': '/a b', 'FROM_IMAGE': '', 'IFS': 'a'}
    env |= {'PPID': '1', 'xm_name': 'x', 'name': 'y', 'host': 'z'}
    code, out, err = there.run(*TELL, *ODD, shell=shell, env=env, secrets={'TOKEN': 's\n$x'})
    assert (code, err) == (0, '')
    argv, seen = json.loads(out)
    assert argv == ODD
    assert {name: seen.get(name) for name in env} == env
    assert {'TOKEN': 's\n$x', 'XM_KEY': 'k', 'SLURM_JOB_ID': '7'}.items() <= seen.items()
    assert seen['CUDA_VISIBLE_DEVICES'] == '1,3'
    assert '/of/the/host' not in seen.values()
    assert not [name for name in seen if name.startswith('XM_ENV_')]
    assert not any('s\n$x' in word for call in there.calls() for word in call)
    assert there.scratch() == []


@pytest.mark.parametrize('shell', SHELLS)
def test_the_exit_code_of_the_program_is_passed_on(node, shell):
    there = node('apptainer')
    assert there.run('/bin/sh', '-c', 'exit 7', shell=shell)[0] == 7
    assert there.run('/bin/sh', '-c', 'kill -9 $$', shell=shell)[0] == 137


def test_the_first_engine_that_a_node_has_is_taken_unless_one_is_named(node):
    there = node('podman', 'singularity')
    there.run('/bin/true')
    assert there.calls('singularity')
    assert not there.calls('podman')
    there.run('/bin/true', XM_SLURM_CONTAINERS='podman')
    assert there.calls('podman', 'run')


def test_a_node_without_an_engine_is_told_of_in_one_sentence(node, tmp_path, monkeypatch):
    there = node()
    tools = tmp_path / 'tools'
    tools.mkdir()
    for name in ('uname', 'rm', 'sed', 'env', 'mktemp', 'sh'):
        (tools / name).symlink_to(f'/usr/bin/{name}')
    monkeypatch.setenv('PATH', str(tools))
    code, _, err = there.run('/bin/true')
    assert code == 125
    assert 'runs no containers: there is none of apptainer, singularity, podman and enroot' in err
    code, _, err = there.run('/bin/true', XM_SLURM_CONTAINERS='podman')
    assert code == 125
    assert 'there is no podman on' in err


def test_an_image_that_a_node_does_not_see_is_told_of_in_one_sentence(node):
    there = node('apptainer')
    there.layout.rename(there.layout.with_name('elsewhere'))
    code, _, err = there.run('/bin/true')
    assert code == 125
    assert f'does not see the image {there.layout}. Set XM_SHARED' in err


@pytest.mark.parametrize(
    ('engine', 'making'), [('apptainer', ('--quiet', 'build')), ('podman', ('pull',))]
)
def test_many_at_once_make_what_the_engine_needs_only_once(node, engine, making):
    there = node(engine)
    codes = []
    threads = [
        threading.Thread(target=lambda: codes.append(there.run('/bin/true')[0])) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 6
    assert len(there.calls(engine, *making)) == 1


def test_a_conversion_that_fails_is_told_in_the_words_of_the_engine_and_leaves_nothing(node):
    there = node('apptainer')
    (there.layout.parent / 'broken').touch()
    code, _, err = there.run('/bin/true')
    assert code == 125
    assert 'no space left on device' in err
    assert not list(there.layout.parent.glob('*.sif*'))
    (there.layout.parent / 'broken').unlink()
    assert there.run('/bin/true')[0] == 0


@pytest.mark.parametrize('shell', SHELLS)
def test_a_stop_before_the_program_begins_is_the_end_of_it(node, shell):
    there = node('apptainer')
    slow = there.layout.parent / 'slow'
    slow.touch()
    started = there.start('/bin/true', shell=shell)
    wait_for(lambda: there.calls('apptainer', '--quiet', 'build'))
    os.killpg(started.pid, signal.SIGTERM)
    started.communicate(timeout=60)
    assert started.returncode == 143
    assert not there.calls('apptainer', '--silent', 'exec')
    assert there.scratch() == []


def test_a_warning_before_the_program_begins_does_not_end_its_preparation(node):
    there = node('apptainer')
    slow = there.layout.parent / 'slow'
    slow.touch()
    started = there.start('/bin/true')
    wait_for(lambda: there.calls('apptainer', '--quiet', 'build'))
    os.killpg(started.pid, signal.SIGUSR1)
    slow.unlink()
    started.communicate(timeout=60)
    assert started.returncode == 0


@pytest.mark.parametrize(('engine', 'option'), [('apptainer', '--nv'), ('podman', '--device')])
def test_devices_are_brought_in_if_they_were_asked_for(node, engine, option):
    there = node(engine)
    there.run('/bin/true')
    assert not any(option in call for call in there.calls(engine))
    code, _, err = there.run('/bin/true', requirements={'gpu': 1})
    assert code == 0, err
    # Podman is given those that there are.
    there_are = (
        engine == 'apptainer' or os.path.exists('/dev/nvidiactl') or os.path.exists('/dev/dri')
    )
    assert any(option in call for call in there.calls(engine)) == there_are


def test_a_container_whose_process_group_is_killed_is_removed(node):
    there = node('podman')
    started = there.start('/bin/sh', '-c', 'echo begun; exec sleep 100')
    assert started.stdout is not None
    assert started.stdout.readline() == b'begun\n'
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    wait_for(lambda: there.calls('podman', 'rm'))
    (run,) = there.calls('podman', 'run')
    name = run[run.index('--name') + 1]
    assert there.calls('podman', 'kill') == [['podman', 'kill', name]]
    assert there.calls('podman', 'rm') == [['podman', 'rm', '--force', name]]
    wait_for(lambda: not there.scratch())


@pytest.mark.parametrize('shell', SHELLS)
def test_a_signal_to_the_process_group_reaches_the_program_and_its_answer_comes_back(node, shell):
    there = node('apptainer')
    program = 'import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(9)); print("begun", flush=True); '
    started = there.start(sys.executable, '-c', f'{program} signal.pause()', shell=shell)
    assert started.stdout is not None
    assert started.stdout.readline() == b'begun\n'
    os.killpg(started.pid, signal.SIGUSR1)
    started.communicate(timeout=60)
    assert started.returncode == 9
    assert there.scratch() == []


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
