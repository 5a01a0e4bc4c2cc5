import os
from pathlib import Path

import pytest

from xmanager.containers import Engine
from xmanager.packaging.builders import find_builder

DOCKER = Engine('unix:///run/some.sock', 'docker', '1.41')
PODMAN = Engine('unix:///run/other.sock', 'podman', '1.41')


@pytest.fixture
def programs(tmp_path: Path):
    """Puts a fake into a folder of its own and returns the PATH of all of them."""
    folders: list[str] = []

    def put(text: str, name: str = 'docker') -> str:
        folder = tmp_path / str(len(folders))
        folder.mkdir()
        program = folder / name
        program.write_text(f'#!/bin/sh\n{text}\n')
        program.chmod(0o755)
        folders.append(str(folder))
        return os.pathsep.join(folders)

    return put


def docker(version: str, *, has_buildx: bool = False) -> str:
    buildx = 0 if has_buildx else 1
    return (
        f'case "$1" in --version) echo "Docker version {version}, build abc";;'
        f' buildx) exit {buildx};; esac'
    )


def test_the_first_docker_that_can_buildkit_goes_before_one_that_stands_first(programs):
    programs(docker('28.2.2'))
    path = programs(docker('20.10.24+dfsg1'))
    builder = find_builder(DOCKER, {'PATH': path})
    assert builder is not None
    assert builder.kind == 'buildkit'
    assert builder.command[0] == str(Path(path.split(os.pathsep)[1], 'docker'))
    assert builder.environ['DOCKER_BUILDKIT'] == '1'


def test_a_new_docker_with_buildx_can_buildkit(programs):
    builder = find_builder(DOCKER, {'PATH': programs(docker('28.2.2', has_buildx=True))})
    assert builder is not None
    assert builder.kind == 'buildkit'


@pytest.mark.parametrize('version', ['28.2.2', '18.06.1-ce'])
def test_else_the_first_builds_without(programs, version):
    programs(docker(version))
    path = programs(docker('17.12'))
    builder = find_builder(DOCKER, {'PATH': path})
    assert builder is not None
    assert builder.kind == 'classic'
    assert builder.command[0].startswith(path.split(os.pathsep)[0])
    assert builder.environ['DOCKER_BUILDKIT'] == '0'


def test_a_user_who_switched_buildkit_off_is_obeyed(programs):
    path = programs(docker('20.10.24'))
    builder = find_builder(DOCKER, {'PATH': path, 'DOCKER_BUILDKIT': '0'})
    assert builder is not None
    assert builder.kind == 'classic'


def test_what_only_goes_by_the_name_of_docker_is_passed_over(programs):
    path = programs('echo "podman version 4.3.1"')
    assert find_builder(DOCKER, {'PATH': path}) is None
    assert find_builder(DOCKER, {'PATH': ''}) is None


def test_it_speaks_to_the_engine_that_was_found_whatever_the_user_has_chosen(programs):
    path = programs(docker('20.10.24'))
    chosen = {'DOCKER_CONTEXT': 'far', 'DOCKER_HOST': 'tcp://far:1', 'BUILDX_BUILDER': 'mine'}
    builder = find_builder(DOCKER, {'PATH': path, **chosen})
    assert builder is not None
    assert builder.environ['DOCKER_HOST'] == DOCKER.url
    assert builder.environ['BUILDX_BUILDER'] == 'default'
    assert 'DOCKER_CONTEXT' not in builder.environ


def test_podman_needs_no_program(programs):
    assert find_builder(PODMAN, {'PATH': programs(docker('20.10.24'))}) is None
