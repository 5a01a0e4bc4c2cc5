"""Containers of the local back end on a real Docker engine: what befalls them, and what is left of them."""

import itertools
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import attrs
import pytest
from tests.engines.containers import make_base_image, remove_all, start_dockerd, stop_dockerd

from xmanager.backend import Submitted, Task, Unit
from xmanager.backends.local.backend import LocalBackend
from xmanager.backends.local.docker_options import DockerOptions
from xmanager.backends.local.machine import Machine
from xmanager.backends.local.processes import read_process, scan_processes
from xmanager.backends.local.signals import send
from xmanager.containers import Engine, EngineError
from xmanager.containers.endings import Ending, write_ending
from xmanager.runner.record import read_record

HOST = Machine(cpus=4.0, ram=8.0 * 1024**3, gpus=('0', '1'))
ENDLESS = 'echo begun; while :; do sleep 0.05; done'
_numbers = itertools.count(1)


class Yard:
    """Makes units of containers, and drives back ends as a supervisor does."""

    def __init__(self, engine: Engine, image: str, home: Path):
        self.engine, self.image, self.home = engine, image, home

    def backend(self, **environ) -> LocalBackend:
        return LocalBackend({**os.environ, **environ}, HOST)

    def unit(self, *scripts, docker=None, requirements=None, secrets=None, env=None, **options):
        number = next(_numbers)
        if docker is not None:
            options['docker'] = docker.as_json()
        executable = {'kind': 'image', 'image': self.image, 'engine': self.engine.url}
        tasks = tuple(
            Task(
                f'job{i}',
                f'7_{number}_job{i}',
                ('/bin/sh', '-c', script) if isinstance(script, str) else script,
                '',
                env=env or {},
                secrets=secrets or {},
                requirements=requirements or {},
                options=options,
                executable=executable,
            )
            for i, script in enumerate(scripts)
        )
        folder = self.home / 'experiments' / '7' / str(number)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Unit(7, str(number), 1, f'yard.{os.getpid()}.{number}', folder, tasks)

    def submit(self, backend, *units, grant=None):
        answers = backend.submit([backend.render(unit, grant or {}) for unit in units])
        assert all(isinstance(answer, Submitted) for answer in answers), answers
        return {answer.ref: unit for answer, unit in zip(answers, units, strict=True)}

    def run(self, *scripts, **settings):
        """Runs a unit to its end; what is observed of its first job, and its log."""
        backend, unit = self.backend(), self.unit(*scripts, **settings)
        (observation,) = self.wait_for_end(backend, self.submit(backend, unit))
        return observation['job0'], self.log(unit)

    def wait_until(self, condition):
        deadline = time.monotonic() + 30
        while not (result := condition()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return result

    def wait_for_end(self, backend, refs):
        def ended():
            observations = backend.observe(refs)
            over = all(t.state != 'running' for o in observations.values() for t in o.values())
            return observations if over else None

        return list(self.wait_until(ended).values())

    def log(self, unit, job='job0') -> bytes:
        log = unit.folder / job / 'output.log'
        return log.read_bytes() if log.exists() else b''

    def wait_for_log(self, unit, text, job='job0'):
        self.wait_until(lambda: text in self.log(unit, job))

    def processes(self, unit):
        return [p for p in scan_processes() if p.mark is not None and p.mark.key == unit.key]

    def kill_keepers(self, unit):
        """As `kill -9` of the runners and keepers of a unit."""
        for process in self.processes(unit):
            send(process, signal.SIGKILL)
        self.wait_until(lambda: not self.processes(unit))

    def containers(self, unit):
        query = {'all': '1', 'filters': {'label': [f'xmanager.key={unit.key}']}}
        return self.engine.request('GET', '/containers/json', query=query).json()

    def networks(self, unit):
        query = {'filters': {'label': [f'xmanager.key={unit.key}']}}
        return self.engine.request('GET', '/networks', query=query).json()


@pytest.fixture
def yard(docker, base_image, tmp_path):
    yard = Yard(docker, base_image, tmp_path)
    yield yard
    for process in scan_processes():
        if process.mark is not None and process.mark.key.startswith(f'yard.{os.getpid()}.'):
            send(process, signal.SIGKILL)
    remove_all(docker, tmp_path)


# --- output


def test_the_logs_of_very_short_containers_are_complete_and_nothing_is_left_of_them(yard):
    backend = yard.backend()
    units = [yard.unit(f'echo out {n}; echo err {n} >&2; printf end') for n in range(6)]
    yard.wait_for_end(backend, yard.submit(backend, *units))
    for n, unit in enumerate(units):
        assert sorted(yard.log(unit).replace(b'end', b'').split(b'\n')) == sorted(
            [b'', f'err {n}'.encode(), f'out {n}'.encode()]
        )
        assert yard.containers(unit) == []


def test_output_is_kept_byte_for_byte(yard):
    script = r"printf '\377\000\200\n\r\303'; head -c 300000 /dev/zero"
    observation, log = yard.run(script)
    assert observation.exit_code == 0
    assert log == b'\xff\0\x80\n\r\xc3' + bytes(300000)


def test_an_interactive_container_has_a_terminal(yard):
    _, log = yard.run('test -t 0 && test -t 1 && echo yes', docker=DockerOptions(interactive=True))
    assert log == b'yes\r\n'


# --- what it is given


def test_a_container_sees_its_own_environment_and_not_the_launchers(yard, monkeypatch):
    monkeypatch.setenv('SECRET_OF_THE_LAUNCHER', 'hush')
    monkeypatch.setenv('KEY_OF_ADA', 'open sesame')
    backend = yard.backend()
    env = {'PYTHONHOME': '/nowhere', 'GREETING': 'a "b" $c\nd'}
    unit = yard.unit('env; touch $XM_OUTPUT_DIR/made', env=env, secrets={'KEY': 'KEY_OF_ADA'})
    (observation,) = yard.wait_for_end(backend, yard.submit(backend, unit))
    assert observation['job0'].exit_code == 0
    log = yard.log(unit).decode()
    for line in (
        'PYTHONHOME=/nowhere',
        'GREETING=a "b" $c\nd',
        'KEY=open sesame',
        'XM_EXPERIMENT_ID=7',
        f'XM_WORK_UNIT_ID={unit.label}',
        'XM_JOB_NAME=job0',
        'XM_ATTEMPT=1',
    ):
        assert f'{line}\n' in log
    assert 'hush' not in log
    assert 'XM_KEY' not in log
    assert (unit.folder / 'job0' / 'out' / 'made').exists()
    written = b''.join(p.read_bytes() for p in unit.folder.rglob('*.json'))
    assert b'open sesame' not in written


def test_volumes_user_working_directory_and_shared_memory_are_as_asked(yard, tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'file').write_text('content\n')
    options = DockerOptions(
        volumes={str(tmp_path / 'data'): '/data:ro'},
        user=1000,
        shm_size='32m',
        extra_hosts={'elsewhere': '10.1.2.3'},
    )
    backend = yard.backend()
    script = 'pwd; id -u; cat file; touch file || echo read-only; cat /proc/mounts /etc/hosts'
    unit = yard.unit(script, docker=options)
    unit = attrs.evolve(unit, tasks=(attrs.evolve(unit.tasks[0], cwd='/data'),))
    yard.wait_for_end(backend, yard.submit(backend, unit))
    log = yard.log(unit).decode()
    assert '/data\n1000\n' in log
    assert 'content\n' in log  # What goes to the other stream may come in between.
    assert 'read-only\n' in log
    assert 'size=32768k' in log
    assert '10.1.2.3\telsewhere' in log


def test_the_containers_of_a_group_reach_each_other_by_their_full_names(yard):
    backend = yard.backend()
    server = (
        'python3',
        '-c',
        'import socket; s = socket.create_server(("", 5000)); s.accept()[0].sendall(b"hello")',
    )
    unit = yard.unit(server, 'true')
    client = (
        'import socket, time\n'
        'for _ in range(200):\n'
        '    try: c = socket.create_connection((NAME, 5000)); print(c.recv(9)); break\n'
        '    except OSError: time.sleep(0.05)\n'
    ).replace('NAME', repr(unit.tasks[0].full_name))
    second = attrs.evolve(unit.tasks[1], argv=('python3', '-c', client))
    unit = attrs.evolve(unit, tasks=(unit.tasks[0], second))
    (observation,) = yard.wait_for_end(backend, yard.submit(backend, unit))
    assert yard.log(unit, 'job1') == b"b'hello'\n"
    assert {task.exit_code for task in observation.values()} == {0}
    assert yard.networks(unit) == []


# --- ends


def test_want_of_memory_is_told_with_the_limit(yard):
    script = ('python3', '-c', 'x = bytearray(400_000_000); print(len(x))')
    observation, _ = yard.run(script, requirements={'ram': 64 * 1024**2})
    assert observation.signal == signal.SIGKILL
    assert 'killed for want of memory' in observation.reason
    assert '0.0625 GiB' in observation.reason
    assert observation.max_rss is None


def test_what_the_engine_refuses_is_told_in_its_own_words(yard):
    options = DockerOptions(network='no-such-network')
    observation, _ = yard.run('true', docker=options)
    assert observation.exit_code == 125
    assert observation.reason.startswith('could not be started: Docker says: ')
    assert 'no-such-network' in observation.reason


def test_an_image_that_is_gone_is_told(yard):
    yard.image = f'sha256:{"0" * 64}'
    observation, _ = yard.run('true')
    assert observation.exit_code == 125
    assert 'is not there any more' in observation.reason


def test_a_container_that_somebody_removed_is_lost(yard):
    backend, unit = yard.backend(), yard.unit(ENDLESS)
    refs = yard.submit(backend, unit)
    yard.wait_for_log(unit, b'begun')
    (container,) = yard.containers(unit)
    yard.engine.request('DELETE', f'/containers/{container["Id"]}', query={'force': '1'})
    (observation,) = yard.wait_for_end(backend, refs)
    assert observation['job0'].state in ('vanished', 'exited')
    assert observation['job0'].signal == signal.SIGKILL or 'removed' in observation['job0'].reason


def test_signals_reach_the_program(yard):
    backend = yard.backend()
    unit = yard.unit('trap "echo warned; exit 3" USR1; ' + ENDLESS, timeout=60, warn_before=59.0)
    (observation,) = yard.wait_for_end(backend, yard.submit(backend, unit))
    assert yard.log(unit).endswith(b'warned\n')
    assert observation['job0'].exit_code == 3


# --- deaths


def test_a_container_goes_on_when_its_keeper_is_killed(yard):
    backend, unit = yard.backend(), yard.unit('echo one; sleep 1; echo two; printf x; exit 5')
    refs = yard.submit(backend, unit)
    yard.wait_for_log(unit, b'one')
    yard.kill_keepers(unit)
    (observation,) = yard.wait_for_end(backend, refs)
    assert observation['job0'].exit_code == 5
    assert yard.log(unit).rstrip(b'\n') == b'one\ntwo\nx'
    assert yard.containers(unit) == []


def test_only_the_runner_killed_changes_nothing(yard):
    backend, unit = yard.backend(), yard.unit('echo one; sleep 0.5; echo two; exit 5')
    refs = yard.submit(backend, unit)
    yard.wait_for_log(unit, b'one')
    record = read_record(unit.folder / 'job0' / 'status')
    assert record is not None
    runner = read_process(record.pid)
    assert runner is not None
    send(runner, signal.SIGKILL)
    (observation,) = yard.wait_for_end(backend, refs)
    assert observation['job0'].exit_code == 5
    assert yard.log(unit) == b'one\ntwo\n'


def test_a_successor_takes_over_a_container_without_a_keeper(yard):
    unit = yard.unit('echo one; sleep 1; echo two; exit 5')
    refs = yard.submit(yard.backend(), unit)
    yard.wait_for_log(unit, b'one')
    yard.kill_keepers(unit)
    successor = yard.backend()
    assert successor.find([unit]).keys() == {unit.key}
    (observation,) = yard.wait_for_end(successor, refs)
    assert observation['job0'].exit_code == 5
    assert yard.log(unit) == b'one\ntwo\n'


def test_a_container_without_a_keeper_can_be_stopped(yard):
    unit = yard.unit('trap "" TERM; ' + ENDLESS)
    refs = yard.submit(yard.backend(), unit)
    yard.wait_for_log(unit, b'begun')
    yard.kill_keepers(unit)
    successor = yard.backend()
    successor.stop(refs, 0.1)
    (observation,) = yard.wait_for_end(successor, refs)
    assert observation['job0'].signal == signal.SIGKILL
    assert yard.containers(unit) == []


def test_a_container_that_ended_while_nobody_looked_is_told_as_it_ended(yard):
    backend, unit = yard.backend(), yard.unit('echo one; sleep 0.3; echo two; exit 5')
    refs = yard.submit(backend, unit)
    yard.wait_for_log(unit, b'one')
    yard.kill_keepers(unit)
    yard.wait_until(lambda: yard.containers(unit)[0]['State'] == 'exited')
    (observation,) = yard.wait_for_end(yard.backend(), refs)
    assert observation['job0'].exit_code == 5
    assert yard.log(unit) == b'one\ntwo\n'


def test_a_container_can_be_stopped_after_only_its_runner_was_killed(yard):
    backend, unit = yard.backend(), yard.unit('trap "echo bye; exit 4" TERM; ' + ENDLESS)
    refs = yard.submit(backend, unit)
    yard.wait_for_log(unit, b'begun')
    record = read_record(unit.folder / 'job0' / 'status')
    assert record is not None
    runner = read_process(record.pid)
    assert runner is not None
    send(runner, signal.SIGKILL)
    yard.wait_until(lambda: read_process(record.pid) is None and backend.observe(refs))
    backend.stop(refs, 20.0)
    (observation,) = yard.wait_for_end(backend, refs)
    assert observation['job0'].exit_code == 4
    assert yard.log(unit) == b'begun\nbye\n'
    assert yard.containers(unit) == []


def test_a_container_goes_on_however_often_its_keeper_is_killed(yard):
    backend, unit = (
        yard.backend(),
        yard.unit('while ! [ -e "$XM_OUTPUT_DIR/go" ]; do sleep 0.05; done; exit 5'),
    )
    refs = yard.submit(backend, unit)
    yard.wait_until(lambda: [one for one in yard.containers(unit) if one['State'] == 'running'])
    for _ in range(7):
        yard.wait_until(lambda: backend.observe(refs) and yard.processes(unit))
        yard.kill_keepers(unit)
    (unit.folder / 'job0' / 'out' / 'go').touch()
    (observation,) = yard.wait_for_end(backend, refs)
    assert observation['job0'].exit_code == 5


def test_a_container_whose_folder_was_removed_does_not_run_on(yard):
    backend, unit = yard.backend(), yard.unit(ENDLESS)
    refs = yard.submit(backend, unit)
    yard.wait_for_log(unit, b'begun')
    shutil.rmtree(unit.folder)
    yard.kill_keepers(unit)
    (observation,) = yard.wait_for_end(backend, refs)
    assert observation['job0'].state == 'vanished'
    assert yard.containers(unit) == []


def test_the_timeout_runs_on_under_another_keeper_and_another_supervisor(yard):
    backend, unit = yard.backend(), yard.unit(ENDLESS, timeout=600.0, grace=0.1)
    refs = yard.submit(backend, unit)
    yard.wait_for_log(unit, b'begun')
    yard.kill_keepers(unit)
    yard.wait_until(lambda: backend.observe(refs) and yard.processes(unit))
    hour_ago = time.time() - 3600
    os.utime(unit.folder / 'job0' / 'container.1' / 'container.json', (hour_ago, hour_ago))
    (observation,) = yard.wait_for_end(yard.backend(), refs)
    assert observation['job0'].cause == 'timeout'


def test_a_container_is_removed_whose_keeper_died_when_it_had_recorded_the_end(yard):
    backend, unit = yard.backend(), yard.unit(ENDLESS)
    refs = yard.submit(backend, unit)
    yard.wait_for_log(unit, b'begun')
    yard.kill_keepers(unit)
    write_ending(str(unit.folder / 'job0' / 'container.1'), unit.key, Ending(3))
    (observation,) = yard.wait_for_end(backend, refs)
    assert observation['job0'].exit_code == 3
    assert yard.containers(unit) == []


def test_the_client_says_in_the_engines_words_what_it_refuses(docker):
    with pytest.raises(EngineError, match=r'Docker \(unix://.*\) refused: .*'):
        docker.load([b'no archive' * 100])
    with pytest.raises(EngineError, match='No such image') as caught:
        docker.request('DELETE', '/images/xm-test-none')
    assert caught.value.status == 404
    assert docker.inspect_image('xm-test-none') is None


def test_an_image_is_exported_loaded_and_tagged(docker, base_image):
    assert base_image.removeprefix('sha256:') in docker.load(docker.export(base_image))
    docker.tag(base_image, 'xm-test/tagged:1')
    found = docker.inspect_image('xm-test/tagged:1')
    assert found is not None
    assert found['Id'] == base_image
    docker.request('DELETE', '/images/xm-test/tagged:1')


def test_a_keeper_waits_for_an_engine_that_is_restarted(docker, tmp_path):
    if os.geteuid() != 0:
        pytest.skip('needs root, to start a dockerd of its own')
    folder = Path(tempfile.mkdtemp(prefix='xm-test-dockerd-'))
    try:
        engine = Engine.connect(start_dockerd(folder))
        yard = Yard(engine, make_base_image(engine), tmp_path)
        backend, unit = yard.backend(), yard.unit('trap "echo bye; exit 9" TERM; ' + ENDLESS)
        refs = yard.submit(backend, unit)
        yard.wait_for_log(unit, b'begun')
        stop_dockerd(folder)  # As its service does: it ends its containers.
        states = [one['job0'].state for one in backend.observe(refs).values()]
        assert states == ['running']
        start_dockerd(folder)
        (observation,) = yard.wait_for_end(backend, refs)
        assert observation['job0'].exit_code == 9
        assert yard.log(unit) == b'begun\nbye\n'
        assert yard.containers(unit) == []
    finally:
        stop_dockerd(folder)
        shutil.rmtree(folder, ignore_errors=True)
