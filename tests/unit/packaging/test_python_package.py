import os
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.unit.packaging.wheels import environ_for, make_wheel

from xmanager import xm, xm_local
from xmanager.errors import PackagingError
from xmanager.packaging.plan import Plan
from xmanager.packaging.python_package import package_python
from xmanager.packaging.workshop import Workshop
from xmanager.snapshot import SnapshotStore

TRAIN = xm.ModuleName('train')


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    make_wheel(tmp_path / 'wheels', 'alpha')
    return Workshop(tmp_path / 'home', environ_for(tmp_path / 'wheels', dict(os.environ)))


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / 'code'
    (folder / 'pkg').mkdir(parents=True)
    (folder / 'train.py').write_text('print(1)\n')
    (folder / 'pkg' / '__init__.py').touch()
    (folder / 'pkg' / 'evaluate.py').touch()
    return folder


def package(workshop: Workshop, path: Path | str, entrypoint=TRAIN, **more: Any):
    spec = xm_local.Local.Spec()
    packageable = xm.python_package(spec, str(path), entrypoint=entrypoint, **more)
    return package_python(packageable, workshop)


def test_a_module_runs_from_a_copy_by_the_interpreter_of_the_launcher(workshop, code):
    packaged = package(workshop, code)
    assert packaged.command == (sys.executable, '-m', 'train')
    assert (Path(packaged.cwd) / 'train.py').read_text() == 'print(1)\n'
    assert packaged.facts['prepended'] == {
        'PYTHONPATH': packaged.cwd,
        'PATH': os.path.dirname(sys.executable),
    }
    assert packaged.name == 'code'


def test_what_fixes_the_bits_is_recorded(workshop, code):
    facts = package(workshop, code).facts
    snapshot = SnapshotStore(workshop.snapshots).get(facts['snapshot'])
    assert {entry.path for entry in snapshot.entries} >= {'train.py', 'pkg/evaluate.py'}
    assert facts['kind'] == 'python'
    assert facts['path'] == str(code)
    assert facts['entrypoint'] == 'train'
    assert facts['python'] == '.'.join(map(str, sys.version_info[:3]))


def test_folders_of_one_name_do_not_mix(workshop, tmp_path):
    trees = []
    for parent in ('a', 'b'):
        folder = tmp_path / parent / 'code'
        folder.mkdir(parents=True)
        (folder / 'train.py').write_text(parent)
        trees.append(Path(package(workshop, folder).cwd))
    assert [(tree / 'train.py').read_text() for tree in trees] == ['a', 'b']


def test_lines_of_shell_get_the_arguments_of_the_job(workshop, code):
    packaged = package(workshop, code, xm.CommandList(['export A=1', 'python -m train']))
    assert packaged.command[:2] == ('/bin/sh', '-c')
    assert packaged.command[-1] == 'export A=1\npython -m train "$@"'
    assert packaged.facts['entrypoint'] == ['export A=1', 'python -m train']


@pytest.mark.parametrize('module', ['train', 'pkg.evaluate', 'timeit', 'pytest'])
def test_modules_of_the_folder_the_library_and_the_launchers_packages_can_be_run(
    workshop, code, module
):
    assert package(workshop, code, xm.ModuleName(module)).command[-1] == module


@pytest.mark.parametrize(
    ('module', 'sentence'),
    [
        ('trian', "there is neither trian.py nor trian/__main__.py. Did you mean 'train'?"),
        ('evaluate', "Did you mean 'pkg.evaluate'?"),
        ('pkg', 'is a package without pkg/__main__.py'),
        (
            'train.py',
            "there is neither train/py.py nor train/py/__main__.py. Did you mean 'train'?",
        ),
        ('my-code', 'is no name of a module'),
    ],
)
def test_a_module_that_is_not_there_is_refused(workshop, code, module, sentence):
    with pytest.raises(PackagingError) as caught:
        package(workshop, code, xm.ModuleName(module))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(f"xm.python_package(path='{code}'): ")


def test_a_module_beside_the_launch_script_alone_is_not_there(
    workshop, code, tmp_path, monkeypatch
):
    (tmp_path / 'beside.py').touch()
    monkeypatch.setattr(sys, 'argv', [str(tmp_path / 'launcher.py')])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PackagingError, match=r'neither beside.py'):
        package(workshop, code, xm.ModuleName('beside'))


def test_a_folder_that_is_not_there_is_refused(workshop, tmp_path):
    with pytest.raises(PackagingError, match='nowhere'):
        package(workshop, tmp_path / 'nowhere')


def test_it_runs_in_the_environment_of_a_lock_file(workshop, code):
    (code / 'requirements.txt').write_text('alpha==1.0\n')
    packaged = package(workshop, code, environment=str(code / 'requirements.txt'))
    environment = packaged.facts['environment']
    assert packaged.command[0] == f'{environment["folder"]}/bin/python'
    assert packaged.facts['prepended']['PATH'] == f'{environment["folder"]}/bin'
    assert Path(packaged.command[0]).exists()


def test_a_module_of_the_environment_can_be_run_and_no_other(workshop, code):
    lock = code / 'requirements.txt'
    lock.write_text('alpha==1.0\n')
    assert package(workshop, code, xm.ModuleName('alpha'), environment=str(lock))
    with pytest.raises(PackagingError, match=r'neither pytest.py'):
        package(workshop, code, xm.ModuleName('pytest'), environment=str(lock))


def test_a_dry_run_tells_what_would_be_kept_and_writes_nothing(workshop, code, tmp_path):
    lock = tmp_path / 'requirements.txt'
    lock.write_text('alpha==1.0\n')
    (code / 'x.pyc').touch()
    dry = attrs.evolve(workshop, dry_run=True)
    plan = Plan.of(package(dry, code, environment=str(lock)).facts)
    assert plan.snapshot is not None
    assert (plan.snapshot.files, plan.snapshot.bytes) == (3, 9)
    assert [one.path for one in plan.snapshot.omitted] == ['x.pyc']
    assert plan.environment is not None
    assert (plan.environment.lock, plan.environment.exists) == (str(lock), False)
    assert not workshop.home.exists()
    digest = package(workshop, code, environment=str(lock)).facts['snapshot']
    assert digest == plan.snapshot.digest
    again = Plan.of(package(dry, code, environment=str(lock)).facts)
    assert again.environment is not None
    assert again.environment.exists
    assert again.snapshot is not None
    assert again.snapshot.exists


def test_a_dry_run_refuses_what_packaging_refuses(workshop, code):
    dry = attrs.evolve(workshop, dry_run=True)
    with pytest.raises(PackagingError, match="Did you mean 'train'"):
        package(dry, code, xm.ModuleName('trian'))


def test_what_runs_on_a_cluster_lies_with_its_environment_where_nodes_see_it(
    workshop, code, tmp_path
):
    shared = tmp_path / 'shared'
    lock = code / 'requirements.txt'
    lock.write_text('alpha==1.0\n')
    packageable = xm.python_package(
        xm_local.Slurm.Spec(), str(code), entrypoint=TRAIN, environment=str(lock)
    )
    workshop = attrs.evolve(workshop, environ={**workshop.environ, 'XM_SHARED': str(shared)})
    packaged = package_python(packageable, workshop)
    assert Path(packaged.cwd, 'train.py').read_text() == 'print(1)\n'
    for place in (packaged.cwd, packaged.command[0], packaged.facts['environment']['folder']):
        assert Path(place).is_relative_to(shared)
    assert not workshop.home.exists()
