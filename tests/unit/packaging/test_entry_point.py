import subprocess

import pytest

from xmanager import xm
from xmanager.errors import PackagingError
from xmanager.packaging.entry_point import check_entrypoint, entrypoint_of


def run(commands, *arguments, path='/usr/bin:/bin'):
    argv = [*entrypoint_of(xm.CommandList(commands)), *arguments]
    done = subprocess.run(argv, env={'PATH': path}, capture_output=True, check=True, text=True)
    return done.stdout


def test_a_module_is_run_by_python():
    assert entrypoint_of(xm.ModuleName('a.b')) == ['python3', '-m', 'a.b']


def test_lines_run_in_their_order_and_the_last_gets_the_arguments_untouched():
    arguments = ['a b', '$HOME', '"', "it's", '', '*', '`id`', 'line\nline']
    said = run(['X=1', 'echo first $X', 'printf "[%s]"'], *arguments)
    assert said == 'first 1\n' + ''.join(f'[{one}]' for one in arguments)


@pytest.mark.parametrize('last', ['printf "[%s]" $@', 'printf "[%s]" "$@"'])
def test_arguments_that_the_last_line_names_are_not_given_twice(last):
    assert run([last], 'a', 'b') == '[a][b]'


def test_bash_runs_the_lines_where_there_is_one():
    assert run(['echo ${BASH_VERSION:+bash}']) == 'bash\n'


def test_sh_runs_them_where_there_is_none(tmp_path):
    (tmp_path / 'sh').symlink_to('/bin/sh')
    assert run(['echo ${BASH_VERSION:-sh}'], path=str(tmp_path)) == 'sh\n'


FILES = ['train.py', 'pkg/__init__.py', 'pkg/eval.py', 'tool/__main__.py', 'pkg/sub/run.py']


def check(module, *, deep=False, installs=False, files=FILES):
    before = 'app/' if deep else ''
    check_entrypoint(xm.ModuleName(module), before, files, 'asked', installs=installs)


@pytest.mark.parametrize('module', ['train', 'pkg.eval', 'tool', 'tool.__main__', 'pkg.sub.run'])
def test_modules_and_packages_that_can_be_run_are_found(module):
    check(module)
    check(f'app.{module}', deep=True)


@pytest.mark.parametrize(
    ('module', 'said'),
    [
        ('trian', "neither trian.py nor trian/__main__.py. Did you mean 'train'?"),
        ('eval', "Did you mean 'pkg.eval'?"),
        ('pkg.evil', "Did you mean 'pkg.eval'"),
        ('pkg', "'pkg' is a package without pkg/__main__.py"),
        ('train.py', 'neither train/py.py'),
        ('a b', "'a b' is no name of a module"),
        ('-c', "'-c' is no name of a module"),
        ('', "'' is no name of a module"),
    ],
)
def test_a_module_that_is_not_there_is_refused_with_those_near_it(module, said):
    with pytest.raises(PackagingError) as caught:
        check(module)
    assert said in str(caught.value)


def test_a_deep_module_begins_with_the_name_of_the_folder():
    with pytest.raises(PackagingError, match="its name begins with 'app'") as caught:
        check('train', deep=True)
    assert "Did you mean 'app.train'" in str(caught.value)


def test_a_module_of_python_or_of_what_is_installed_need_not_be_in_the_folder():
    check('http.server')
    check('torch.distributed.run', installs=True)
    with pytest.raises(PackagingError, match='there is neither'):
        check('torch.distributed.run')
    with pytest.raises(PackagingError, match='there is neither'):
        check('pkg.missing', installs=True)


def test_a_list_of_no_commands_is_refused():
    with pytest.raises(PackagingError, match='runs nothing'):
        check_entrypoint(xm.CommandList([]), '', [], 'asked', installs=False)
