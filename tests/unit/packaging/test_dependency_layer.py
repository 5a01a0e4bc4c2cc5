import os
import subprocess
import sys
import tarfile
import threading

import attrs
import pytest
from tests.unit.packaging.wheels import environ_for, make_wheel

from xmanager.errors import PackagingError
from xmanager.packaging import dependency_layer as module
from xmanager.packaging.dependency_layer import (
    PLACE,
    Target,
    dependency_layer,
    environment_of,
    find_dependency_layer,
)
from xmanager.packaging.requirements import Requirements
from xmanager.packaging.uv import find_uv
from xmanager.packaging.workshop import Workshop

TARGET = Target('3.11', 'amd64')


@pytest.fixture
def workshop(tmp_path):
    make_wheel(tmp_path / 'wheels', 'alpha')
    return Workshop(tmp_path / 'home', environ_for(tmp_path / 'wheels', dict(os.environ)))


def asks_for(text):
    return Requirements('requirements.txt', {'requirements.txt': text.encode()})


def unpacked(layer, folder):
    with tarfile.open(layer.path) as archive:
        archive.extractall(folder, filter='fully_trusted')
    return folder / PLACE.lstrip('/')


def test_the_packages_and_their_programs_are_in_the_layer(workshop, tmp_path):
    layer = dependency_layer(asks_for('alpha'), TARGET, workshop, 'app', compressed=False)
    packages = unpacked(layer, tmp_path / 'image')
    program = packages / 'bin' / 'alpha-run'
    assert program.read_text().startswith('#!/usr/bin/env python3\n')
    assert os.access(program, os.X_OK)
    done = subprocess.run(
        [sys.executable, program],
        env={'PYTHONPATH': str(packages)},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b'alpha 1.0\n'


def test_the_layer_is_the_same_wherever_and_whenever_it_is_made(workshop, tmp_path):
    wheel = (tmp_path / 'wheels' / 'alpha-1.0-py3-none-any.whl').read_bytes()
    asked = Requirements(
        'requirements.txt',
        {'requirements.txt': b'./alpha-1.0-py3-none-any.whl', 'alpha-1.0-py3-none-any.whl': wheel},
    )
    other = attrs.evolve(
        workshop, home=tmp_path / 'a' / 'longer' / 'way' / 'to' / 'another' / 'home'
    )
    layers = [
        dependency_layer(asked, TARGET, one, 'app', compressed=False) for one in (workshop, other)
    ]
    assert layers[0].diff_id == layers[1].diff_id
    record = unpacked(layers[0], tmp_path / 'image') / 'alpha-1.0.dist-info' / 'RECORD'
    listed = [line.split(',')[0] for line in record.read_text().splitlines()]
    assert listed == sorted(listed)
    there = {
        path.relative_to(record.parent.parent).as_posix()
        for path in record.parent.parent.rglob('*')
        if path.is_file()
    }
    assert {os.path.normpath(one).replace('../', '') for one in listed} == there


def test_the_layer_is_made_once_and_again_if_what_is_asked_for_changes(workshop, tmp_path):
    first = dependency_layer(asks_for('alpha'), TARGET, workshop, 'app', compressed=False)
    make_wheel(tmp_path / 'wheels', 'alpha', '2.0')
    assert dependency_layer(asks_for('alpha'), TARGET, workshop, 'app', compressed=False) == first
    assert find_dependency_layer(asks_for('alpha'), TARGET, workshop) == first
    newer = dependency_layer(asks_for('alpha>1'), TARGET, workshop, 'app', compressed=False)
    assert newer.diff_id != first.diff_id
    assert find_dependency_layer(asks_for('alpha'), Target('3.12', 'amd64'), workshop) is None


def test_the_compressed_layer_is_the_same_tar(workshop):
    plain = dependency_layer(asks_for('alpha'), TARGET, workshop, 'app', compressed=False)
    compressed = dependency_layer(asks_for('alpha'), TARGET, workshop, 'app', compressed=True)
    assert compressed.diff_id == plain.diff_id
    assert compressed.compressed


def test_when_many_ask_at_once_one_makes_it_and_the_others_wait(workshop, monkeypatch):
    made = []
    original = module._made

    def counted(*given):
        made.append(1)
        return original(*given)

    monkeypatch.setattr(module, '_made', counted)
    found = []

    def ask():
        layer = dependency_layer(asks_for('alpha'), TARGET, workshop, 'app', compressed=False)
        found.append(layer.diff_id)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 10
    assert len(set(found)) == len(made) == 1


def test_wheels_are_chosen_for_the_image_and_not_for_this_machine(workshop, tmp_path):
    make_wheel(tmp_path / 'wheels', 'native', tag='cp312-cp312-manylinux_2_17_aarch64')
    layer = dependency_layer(
        asks_for('native'), Target('3.12', 'arm64'), workshop, 'app', compressed=False
    )
    assert layer.path is not None
    with pytest.raises(PackagingError, match=r"requirements\.txt can't be installed") as caught:
        dependency_layer(asks_for('native'), TARGET, workshop, 'app', compressed=False)
    assert 'native' in str(caught.value)
    assert str(workshop.home) not in str(caught.value)


def test_an_architecture_for_which_there_are_no_wheels_is_refused():
    with pytest.raises(PackagingError, match='amd64, arm64, riscv64, not s390x'):
        _ = Target('3.11', 's390x').uv_platform


def test_the_image_finds_packages_and_programs_before_its_own():
    assert environment_of({'PATH': '/bin', 'PYTHONPATH': '/x'}) == {
        'PATH': f'{PLACE}/bin:/bin',
        'PYTHONPATH': f'{PLACE}:/x',
    }
    assert environment_of({})['PYTHONPATH'] == PLACE
    assert environment_of({})['PATH'].startswith(f'{PLACE}/bin:/usr/local/sbin:')


def test_without_uv_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'uv', None)
    with pytest.raises(PackagingError, match=r"pip install 'xmanager\[uv\]'"):
        find_uv({'PATH': '/nowhere'})


def test_uv_is_taken_from_the_path_or_from_its_package(tmp_path):
    program = tmp_path / 'uv'
    program.touch(0o755)
    assert find_uv({'PATH': str(tmp_path)}) == str(program)
    assert os.access(find_uv({'PATH': '/nowhere'}), os.X_OK)


def test_a_lock_of_uv_is_exported_first(workshop, tmp_path):
    project = tmp_path / 'project'
    project.mkdir()
    (project / 'pyproject.toml').write_text(
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["alpha"]\n'
    )
    subprocess.run(
        [find_uv(workshop.environ), 'lock', '-q'],
        cwd=project,
        env=dict(workshop.environ),
        check=True,
    )
    files = {name: (project / name).read_bytes() for name in ('uv.lock', 'pyproject.toml')}
    # The wheel is named by a path relative to the project.
    lock = files['uv.lock'].replace(b'../wheels', str(tmp_path / 'wheels').encode())
    asked = Requirements('uv.lock', {**files, 'uv.lock': lock})
    layer = dependency_layer(asked, TARGET, workshop, 'app', compressed=False)
    assert (unpacked(layer, tmp_path / 'image') / 'alpha.py').exists()


def test_uv_is_told_of_no_other_environment_and_its_words_show_no_passwords(tmp_path):
    uv = tmp_path / 'uv'
    uv.write_text(
        '#!/bin/sh\necho "no https://me:hush@host.test [$UV_PYTHON$VIRTUAL_ENV]"\nexit 1\n'
    )
    uv.chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    environ = {'PATH': path, 'UV_PYTHON': '/other', 'VIRTUAL_ENV': '/another'}
    workshop = Workshop(tmp_path / 'home', environ)
    with pytest.raises(PackagingError) as caught:
        dependency_layer(
            asks_for('numpy'), Target('3.11', 'amd64'), workshop, 'app', compressed=False
        )
    assert str(caught.value).endswith('no https://***@host.test []')
