"""Jobs in containers as a user launches them: what is shown, what survives, and that nothing is left."""

import contextlib
import os
import signal
import sqlite3
from pathlib import Path
from textwrap import dedent, indent

import pytest
from tests.acceptance.living import processes_of
from tests.acceptance.polling import until
from tests.engines.containers import remove_all

SCRIPT = """
    from xmanager import xm, xm_local
    from shell_jobs import shell
    with xm_local.create_experiment('contained') as experiment:
        spec = xm.container(xm_local.Local.Spec(), image_path={image!r})
        [image] = experiment.package([spec])
        def contained(command, name='job', **options):
            return xm.Job(image, xm_local.Local(**options), name=name, args=['sh', '-c', command])
"""


@pytest.fixture
def script(docker, base_image, home, desk):
    desk.environment['DOCKER_HOST'] = docker.url

    def script(body: str) -> str:
        return dedent(SCRIPT).format(image=base_image) + indent(dedent(body), '    ')

    yield script
    remove_all(docker, home)


def containers(docker, home):
    query = {'all': '1', 'filters': {'label': [f'xmanager.home={home}']}}
    return docker.request('GET', '/containers/json', query=query).json()


def kill_all(home: Path) -> None:
    """As a fault that takes supervisor and keepers, and leaves the engine with its containers."""
    while alive := processes_of(home):
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        until(lambda: not processes_of(home))


def test_a_group_of_a_process_and_a_container_runs(launch, desk, docker, home, script):
    body = """
        outside = shell(experiment, 'echo outside', name='outside')
        inside = contained('echo inside', 'inside')
        experiment.add(xm.JobGroup(inside=inside, outside=outside))
    """
    result = launch(script(body))
    assert result.code == 0, result.stderr
    assert desk.log(job='inside') == b'inside\n'
    assert desk.log(job='outside') == b'outside\n'
    assert containers(docker, home) == []


def test_a_failed_container_fails_its_unit(launch, desk, script):
    result = launch(script("experiment.add(contained('echo alas; exit 3'))"))
    assert result.code == 1
    [unit] = desk.units()
    assert (unit['state'], unit['message']) == ('failed', 'job job exited with code 3: alas')


def test_stop_leaves_no_container_though_supervisor_and_keeper_were_killed(
    start, xmanager, desk, docker, home, script
):
    start(script('experiment.add(contained(\'trap "" TERM; echo up; sleep 600\', grace=0.2))'))
    log = desk.job_folder() / 'output.log'
    until(lambda: log.exists() and log.read_bytes() == b'up\n')
    kill_all(home)
    assert [one['State'] for one in containers(docker, home)] == ['running']
    assert xmanager('stop', '1').code == 0
    assert desk.states() == ['stopped']
    assert containers(docker, home) == []


def test_gc_removes_what_units_that_are_over_left(
    launch, xmanager, docker, home, base_image, script
):
    assert launch(script("experiment.add(contained('true'))")).code == 0
    labels = {'xmanager.home': str(home), 'xmanager.experiment': '1', 'xmanager.unit': '1'}
    with contextlib.closing(sqlite3.connect(home / 'xmanager.db')) as database:
        query = "SELECT value FROM settings WHERE name = 'home_id'"
        (home_id,) = database.execute(query).fetchone()
    of_another = f'xm-test-other-{os.getpid()}'
    body = {'Image': base_image, 'Cmd': ['true'], 'Labels': {**labels, 'xmanager.home_id': 'other'}}
    docker.request('POST', '/containers/create', query={'name': of_another}, body=body)
    labels['xmanager.home_id'] = home_id
    name = f'xm-test-left-{os.getpid()}'
    body = {'Image': base_image, 'Cmd': ['true'], 'Labels': labels}
    docker.request('POST', '/containers/create', query={'name': name}, body=body)
    would = xmanager('gc', '--dry-run')
    assert would.stdout.startswith(f'would remove container {name} of 1.1 (created)\n')
    assert len(containers(docker, home)) == 2
    assert xmanager('gc').stdout.startswith(f'removed container {name} of 1.1 (created)\n')
    assert [one['Names'] for one in containers(docker, home)] == [[f'/{of_another}']]
    docker.request('DELETE', f'/containers/{of_another}')
    assert xmanager('gc').stdout.startswith('removed 0 containers, 0 networks, ')
