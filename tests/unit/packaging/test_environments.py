import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest
from tests.acceptance.polling import until
from tests.unit.packaging.wheels import environ_for, make_wheel

from xmanager.errors import PackagingError
from xmanager.packaging.environments import find_environment, gc_environments, make_environment
from xmanager.packaging.workshop import Workshop

DAY = 86400.0

# Makes the environment of a lock file as a launch does, in a process of its own.
MAKER = """
import os, sys
from pathlib import Path
from xmanager.packaging.environments import make_environment
from xmanager.packaging.workshop import Workshop

def tell(name, step):
    print(step, flush=True)

print(make_environment(sys.argv[1], Workshop(Path(sys.argv[2]), os.environ, tell), 'code', 'here').folder)
"""


@attrs.frozen
class Place:
    """A folder with a lock file, wheels, and a home."""

    folder: Path
    told: list[str] = attrs.field(factory=list)

    @property
    def wheels(self) -> Path:
        return self.folder / 'wheels'

    @property
    def environ(self) -> dict[str, str]:
        return environ_for(self.wheels, dict(os.environ))

    @property
    def workshop(self) -> Workshop:
        tell = lambda name, step: self.told.append(step)  # noqa: E731
        return Workshop(self.folder / 'home', self.environ, tell)

    def write(self, name: str, text: str) -> str:
        path = self.folder / 'project' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    def make(self, lock: str):
        return make_environment(lock, self.workshop, 'code', 'here')

    def find(self, lock: str):
        return find_environment(lock, self.workshop, 'here')[0]

    def left(self) -> list[str]:
        return sorted(os.listdir(self.folder / 'home' / 'cache' / 'environments'))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    make_wheel(tmp_path / 'wheels', 'alpha')
    make_wheel(tmp_path / 'wheels', 'alpha', '2.0')
    make_wheel(tmp_path / 'wheels', 'beta')
    return Place(tmp_path)


def said(python: Path, code: str) -> str:
    done = subprocess.run([python, '-c', code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_requirements_are_installed(place):
    environment = place.make(place.write('requirements.txt', 'alpha==1.0\n'))
    assert said(environment.python, 'import alpha; alpha.main()') == 'alpha 1.0'
    assert environment.brings('alpha')
    assert not environment.brings('alph')


def test_programs_of_packages_work_where_the_environment_is(place):
    environment = place.make(place.write('requirements.txt', 'alpha==1.0\n'))
    done = subprocess.run(
        [environment.folder / 'bin' / 'alpha-run'], capture_output=True, text=True, check=True
    )
    assert done.stdout == 'alpha 1.0\n'


def test_the_lines_of_uv_are_told(place):
    place.make(place.write('requirements.txt', 'alpha==1.0\n'))
    assert 'building the environment: + alpha==1.0' in place.told


def test_a_uv_lock_is_installed_without_the_project_itself(place):
    project = '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["alpha<2"]\n'
    folder = Path(place.write('pyproject.toml', project)).parent
    uv = str(Path(sys.executable).with_name('uv'))
    lock = [uv, 'lock', '--quiet', '--directory', str(folder)]
    subprocess.run(lock, env=place.environ, check=True)
    environment = place.make(str(folder / 'uv.lock'))
    assert said(environment.python, 'import alpha; print(alpha.VERSION)') == '1.0'
    assert not environment.brings('mine')


def test_a_pylock_is_installed(place):
    source = place.write('requirements.in', 'beta')
    lock = Path(source).with_name('pylock.toml')
    wheel = place.wheels / 'beta-1.0-py3-none-any.whl'
    digest = subprocess.getoutput(f'sha256sum {wheel}').split()[0]
    lock.write_text(
        'lock-version = "1.0"\ncreated-by = "tests"\n[[packages]]\nname = "beta"\nversion = "1.0"\n'
        f'wheels = [{{name = "{wheel.name}", url = "{wheel.as_uri()}", hashes = {{sha256 = "{digest}"}}}}]\n'
    )
    assert place.make(str(lock)).brings('beta')


def test_the_second_time_nothing_is_made(place):
    lock = place.write('requirements.txt', 'alpha\n')
    place.make(lock)
    place.told.clear()
    place.make(lock)
    assert place.told == []


def test_another_lock_has_another_environment(place):
    old = place.make(place.write('requirements.txt', 'alpha==1.0\n'))
    new = place.make(place.write('requirements.txt', 'alpha==2.0\n'))
    assert said(old.python, 'import alpha; print(alpha.VERSION)') == '1.0'
    assert said(new.python, 'import alpha; print(alpha.VERSION)') == '2.0'


def test_included_files_count(place):
    lock = place.write('requirements.txt', '-r inner/base.txt\n-c limits.txt\n')
    place.write('inner/base.txt', 'alpha\n')
    place.write('limits.txt', 'alpha<2\n')
    first = place.make(lock)
    assert said(first.python, 'import alpha; print(alpha.VERSION)') == '1.0'
    place.write('limits.txt', 'alpha<3\n')
    assert place.find(lock) != first


def test_what_it_was_made_from_is_kept_with_it(place):
    lock = place.write('requirements.txt', '-r inner/base.txt\n')
    place.write('inner/base.txt', 'alpha==1.0\n')
    environment = place.make(lock)
    place.write('inner/base.txt', 'alpha==2.0\n')
    assert environment.facts()['requirements'] == 'requirements.txt'
    kept = environment.folder / 'lock'
    assert (kept / 'requirements.txt').read_text() == '-r inner/base.txt\n'
    assert (kept / 'inner' / 'base.txt').read_text() == 'alpha==1.0\n'


def test_a_file_above_may_be_included(place):
    place.write('base.txt', 'beta\n')
    assert place.make(place.write('jobs/requirements.txt', '-r ../base.txt\n')).brings('beta')


def test_a_wheel_beside_the_lock_file_is_installed(place):
    lock = place.write('requirements.txt', './gamma-1.0-py3-none-any.whl\n')
    make_wheel(Path(lock).parent, 'gamma')
    assert place.make(lock).brings('gamma')


@pytest.mark.parametrize(
    'line',
    ['-e .', '--editable=../x', './lib', '../lib', '/lib', 'mine @ file:///lib', 'file:///lib', 'mine @ ./lib'],
)  # fmt: skip
def test_what_lies_on_this_machine_is_refused(place, line):
    lock = place.write('requirements.txt', f'alpha\n{line}\n')
    with pytest.raises(PackagingError, match=r'requirements.txt asks for') as caught:
        place.make(lock)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('uv.lock', '[[package]]\nname = "lib"\nsource = { editable = "../lib" }\n'),
        ('uv.lock', '[[package]]\nname = "lib"\nsource = { directory = "lib" }\n'),
        ('pylock.toml', '[[packages]]\nname = "lib"\ndirectory = { path = "lib" }\n'),
        ('pylock.toml', '[[packages]]\nname = "lib"\nwheels = [{ path = "lib.whl" }]\n'),
    ],
)
def test_locks_that_name_folders_are_refused(place, name, text):
    place.write('pyproject.toml', '')
    with pytest.raises(PackagingError, match=r'asks for lib from .*lies on this machine'):
        place.make(place.write(name, text))


@pytest.mark.parametrize(
    ('name', 'text', 'sentence'),
    [
        ('uv.lock', '', 'there is no pyproject.toml beside'),
        ('pylock.toml', '][', 'is no TOML'),
        ('environment.yml', '', 'expected a uv.lock, a pylock.toml or a requirements.txt'),
        ('requirements.txt', '-r other.txt', "name 'other.txt', which is not in the folder"),
        ('requirements.txt', '-r /etc/other.txt', "name '/etc/other.txt'"),
    ],
)
def test_a_file_that_is_no_lock_is_refused(place, name, text, sentence):
    with pytest.raises(PackagingError, match=sentence):
        place.make(place.write(name, text))


def test_a_missing_lock_file_is_named(place):
    with pytest.raises(PackagingError, match=r"environment='/nowhere/uv.lock' is no file"):
        place.make('/nowhere/uv.lock')


def test_a_failure_shows_the_last_lines_of_uv_and_leaves_nothing(place):
    with pytest.raises(PackagingError, match=r'(?s)requirements.txt can.t be installed:.*nonesuch'):
        place.make(place.write('requirements.txt', 'nonesuch\n'))
    assert place.left() == []


def test_without_uv_a_sentence_says_how_to_get_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, 'uv', None)
    workshop = Workshop(place.folder / 'home', {'PATH': ''})
    with pytest.raises(PackagingError, match=r"pip install 'xmanager\[uv\]'"):
        make_environment(place.write('requirements.txt', 'alpha'), workshop, 'code', 'here')
    assert place.left() == []


def start(place: Place, lock: str, environ: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, '-c', MAKER, lock, str(place.folder / 'home')]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


def slow_uv(place: Place) -> dict[str, str]:
    """A uv that counts its calls, and installs when the file `go` is there."""
    program = place.folder / 'bin' / 'uv'
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho $$ $1 >>{place.folder}/calls\n'
        f'[ "$1" = venv ] || until [ -e {place.folder}/go ]; do sleep 0.02; done\n'
        f'exec {Path(sys.executable).with_name("uv")} "$@"\n'
    )
    program.chmod(0o755)
    return place.environ | {'PATH': f'{program.parent}{os.pathsep}{os.environ["PATH"]}'}


def calls(place: Place) -> list[list[str]]:
    file = place.folder / 'calls'
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def test_of_many_at_once_one_makes_it_and_the_others_wait_and_say_so(place):
    lock = place.write('requirements.txt', 'alpha==1.0\n')
    environ = slow_uv(place)
    with contextlib.ExitStack() as stack:
        makers = [stack.enter_context(start(place, lock, environ)) for _ in range(10)]
        # The one that makes it tells of that, each of the others that it waits.
        outputs = [maker.stdout for maker in makers if maker.stdout]
        first = [output.readline() for output in outputs]
        (place.folder / 'go').touch()
        folders = {output.read().splitlines()[-1] for output in outputs}
    assert [verb for _, verb in calls(place)] == ['venv', 'pip']
    assert sum(line.startswith('waiting for another launch') for line in first) == 9
    assert folders == {str(place.find(lock).folder)}


def test_one_that_is_killed_leaves_nothing_that_is_used(place):
    lock = place.write('requirements.txt', 'alpha==1.0\n')
    with start(place, lock, slow_uv(place)) as maker:
        until(lambda: [verb for _, verb in calls(place)] == ['venv', 'pip'])
        maker.kill()
    assert not place.find(lock).exists
    os.kill(int(calls(place)[-1][0]), signal.SIGKILL)  # Its uv, which nobody waits for any more.
    assert place.make(lock).brings('alpha')
    assert place.left() == [place.find(lock).key]


def test_an_environment_whose_interpreter_is_gone_is_made_again(place):
    environment = place.make(place.write('requirements.txt', 'alpha==1.0\n'))
    environment.python.unlink()
    assert not environment.exists
    assert place.make(environment.lock).brings('alpha')


def test_what_is_old_and_not_kept_is_removed(place):
    old = place.make(place.write('requirements.txt', 'alpha==1.0\n'))
    kept = place.make(place.write('requirements.txt', 'alpha==2.0\n'))
    new = place.make(place.write('requirements.txt', 'beta\n'))
    long_ago = time.time() - 2 * DAY
    for environment in (old, kept):
        os.utime(environment.folder / 'xmanager.json', (long_ago, long_ago))
    cache = place.folder / 'home' / 'cache'
    assert gc_environments(cache, DAY, {kept.key}, dry_run=True) == [old.folder]
    assert old.exists
    assert gc_environments(cache, DAY, {kept.key}) == [old.folder]
    assert place.left() == sorted([kept.key, new.key])


def test_using_an_environment_keeps_it(place):
    lock = place.write('requirements.txt', 'alpha==1.0\n')
    environment = place.make(lock)
    long_ago = time.time() - 2 * DAY
    os.utime(environment.folder / 'xmanager.json', (long_ago, long_ago))
    place.make(lock)
    assert gc_environments(place.folder / 'home' / 'cache', DAY, set()) == []


def test_what_a_removal_that_was_killed_has_left_is_in_nobodys_way(place):
    environment = place.make(place.write('requirements.txt', 'alpha==1.0\n'))
    left = environment.folder.with_name(f'.{environment.key}-gone')
    (left / 'bin').mkdir(parents=True)
    long_ago = time.time() - 2 * DAY
    for path in (environment.folder / 'xmanager.json', left):
        os.utime(path, (long_ago, long_ago))
    assert gc_environments(place.folder / 'home' / 'cache', DAY, set()) == [environment.folder]
    assert place.left() == []


def test_an_environment_that_is_removed_meanwhile_is_made_again(place, monkeypatch):
    lock = place.write('requirements.txt', 'alpha==1.0\n')
    environment = place.make(lock)
    touch = os.utime

    def removed_first(path, *times):
        if environment.exists:
            shutil.rmtree(environment.folder)
        touch(path, *times)

    monkeypatch.setattr(os, 'utime', removed_first)
    assert place.make(lock).exists
