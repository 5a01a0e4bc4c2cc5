"""Specifications of executables, their names and paths."""

import sys
import types
from typing import Any

import pytest

from xmanager import xm
from xmanager.xm.launch_script import launch_directory


@pytest.fixture
def launched_from(monkeypatch, tmp_path):
    """Makes `tmp_path / 'experiment' / 'launch.py'` the launch script."""
    script = tmp_path / 'experiment' / 'launch.py'
    script.parent.mkdir()
    main = types.ModuleType('__main__')
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, '__main__', main)
    monkeypatch.setattr(sys, 'argv', [str(script)])
    return script.parent


@pytest.mark.parametrize(
    ('spec', 'name'),
    [
        (xm.Binary('./a/b-c.py'), 'b_c_py'),
        (xm.Binary('a/'), 'a'),
        (xm.Container('gcr.io/x/y:lat-est'), 'y_lat_est'),
        (xm.Container('a@sha256:12'), 'a_sha256_12'),
        (xm.Container('/x/y.tar'), 'y_tar'),
        (xm.Dockerfile('/a/b.c'), 'b_c'),
        (xm.PythonContainer(xm.ModuleName('a.b'), '/x/q/'), 'q'),
        (xm.BazelBinary('//a/b:c-d'), 'b_c_d'),
        (xm.BazelContainer('@x//a:b.tar'), 'a_b_tar'),
    ],
)
def test_a_name_is_the_base_name_as_an_identifier(spec, name):
    assert spec.name == name


def test_paths_are_relative_to_the_launch_script(launched_from):
    dockerfile = xm.Dockerfile('sub', 'other/Dockerfile.gpu')
    assert xm.Dockerfile().path == str(launched_from)
    assert xm.Dockerfile('sub').dockerfile == str(launched_from / 'sub' / 'Dockerfile')
    assert dockerfile.dockerfile == str(launched_from / 'other' / 'Dockerfile.gpu')
    assert xm.PythonContainer(xm.ModuleName('m')).name == 'experiment'
    assert xm.PythonContainer(xm.ModuleName('m'), '..').path == str(launched_from.parent)
    assert xm.PythonContainer(xm.ModuleName('m'), '/x').path == '/x'


@pytest.mark.parametrize('form', [['--xm_launch_script=/a/b.py'], ['-xm_launch_script', '/a/b.py']])
def test_the_flag_names_another_launch_script(launched_from, monkeypatch, form):
    monkeypatch.setattr(sys, 'argv', ['launch.py', '--other', *form])
    assert launch_directory() == '/a'


def test_the_flag_of_xmanager_launch_names_another_launch_script(launched_from, monkeypatch):
    monkeypatch.setenv('XM_LAUNCH_SCRIPT', '/a/b.py')
    assert launch_directory() == '/a'
    monkeypatch.setenv('XM_LAUNCH_SCRIPT', '')
    assert launch_directory() == str(launched_from)


def test_without_a_script_paths_are_relative_to_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, '__main__', types.ModuleType('__main__'))
    monkeypatch.setattr(sys, 'argv', [''])
    monkeypatch.chdir(tmp_path)
    assert launch_directory() == str(tmp_path)


def test_the_place_of_an_installed_program_does_not_count(launched_from, monkeypatch, tmp_path):
    sys.modules['__main__'].__file__ = '/venv/lib/python3/site-packages/pytest/__main__.py'
    monkeypatch.chdir(tmp_path)
    assert launch_directory() == str(tmp_path)


def test_lists_are_copied_and_bare_strings_refused():
    assert xm.BazelBinary('//a', bazel_args=('x',)).bazel_args == ['x']
    with pytest.raises(ValueError, match=r"\['RUN x'\]"):
        xm.PythonContainer(xm.ModuleName('m'), '/x', docker_instructions='RUN x')


def test_an_entry_point_is_a_module_or_commands():
    assert xm.ModuleName('a.b').module_name == 'a.b'
    assert xm.CommandList(['a']).commands == ['a']
    entrypoint: Any = 'a.b'
    with pytest.raises(TypeError, match='expected xm'):
        xm.PythonContainer(entrypoint, '/x')


def test_an_executable_has_a_name_and_can_be_subclassed():
    class Gadget(xm.Executable):
        pass

    assert Gadget(name='g').name == xm.Executable('g').name == 'g'


def test_an_executor_must_say_what_it_packages_for():
    class LocalSpec(xm.ExecutorSpec):
        pass

    class Local(xm.Executor):
        backend = 'local'
        Spec = LocalSpec

    assert isinstance(Local().Spec(), LocalSpec)
    assert xm.Executor.backend == ''
    make: Any = xm.Executor
    with pytest.raises(TypeError, match='Spec'):
        make()


def test_a_packageable_reads_its_arguments_like_a_job():
    packageable = xm.binary(xm.ExecutorSpec(), 'a', args={'b': 1}, env_vars={'C': 2})
    assert packageable.executable_spec == xm.Binary('a')
    assert (packageable.args.to_argv(), packageable.env_vars) == (['--b=1'], {'C': 2})
    assert xm.binary(packageable.executor_spec, 'a', args=None).args == xm.SequentialArgs()
    with pytest.raises(ValueError, match='a name must match'):
        xm.container(xm.ExecutorSpec(), 'image', env_vars={'1': 'x'})
    with pytest.raises(ValueError, match='bare string'):
        xm.container(xm.ExecutorSpec(), 'image', args='--x')


def test_each_function_makes_its_specification():
    spec = xm.ExecutorSpec()
    entry = xm.ModuleName('m')
    made = [
        xm.bazel_binary(spec, '//a', (), ['x']),
        xm.bazel_container(spec, '//a', ['x']),
        xm.dockerfile_container(spec, '/a', '/b'),
        xm.python_container(spec, entry, '/a', 'image', ['RUN x'], True),
    ]
    assert [packageable.executable_spec for packageable in made] == [
        xm.BazelBinary('//a', bazel_args=['x']),
        xm.BazelContainer('//a', ['x']),
        xm.Dockerfile('/a', '/b'),
        xm.PythonContainer(entry, '/a', 'image', ['RUN x'], True),
    ]
