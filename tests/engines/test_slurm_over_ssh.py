"""A real cluster used through a real sshd, by somebody who shares no folder with it: another home, another user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.engines import sshd as engine
from tests.engines.slurm import Cluster
from tests.engines.slurm_scene import SLEEP, Scene
from tests.engines.sshd import Sshd

from xmanager.backend import Deferred, Rejected, Submitted, Unit
from xmanager.backends.slurm.backend import create
from xmanager.errors import UnreachableError
from xmanager.snapshot import SnapshotStore

_USER = 'xm-test'


class Remote(Scene):
    """A scene whose back end runs on a laptop: it knows nothing of the cluster but a login."""

    def __init__(self, slurm: Cluster, home: Path, sshd: Sshd) -> None:
        super().__init__(slurm, home)
        self.backend.close()
        self.sshd = sshd
        kept = {name: v for name, v in sshd.environ.items() if not name.startswith('SLURM')}
        self.environ = {**kept, 'XM_HOME': str(home), 'HUSH': 'a "secret"\n$HOME'}
        self.backend = create(self.environ)

    @property
    def root(self) -> Path:
        return self.sshd.home / '.xmanager'

    def unit(self, *argvs: Any, names: Any = (), **settings: Any) -> Unit:
        changes = settings.pop('task', {})
        unit = super().unit(*argvs, names=names, login=self.sshd.login, **settings)
        changes = {'cwd': '/', **changes}
        tasks = tuple(
            attrs.evolve(
                task, **{**changes, 'options': {**task.options, **changes.get('options', {})}}
            )
            for task in unit.tasks
        )
        return attrs.evolve(unit, tasks=tasks)

    def submit(self, *units: Unit) -> dict[str, Unit]:
        """Also what has to wait for its code."""
        answers: dict[str, Any] = {}

        def all_taken() -> bool:
            left = [unit for unit in units if not isinstance(answers.get(unit.key), Submitted)]
            answers.update(zip([unit.key for unit in left], self.answers(*left), strict=True))
            wrong = [one for one in answers.values() if isinstance(one, Rejected)]
            assert not wrong, wrong
            return not any(isinstance(one, Deferred) for one in answers.values())

        self.slurm.wait(all_taken, 'all to be submitted')
        refs = {answers[unit.key].ref: unit for unit in units}
        self._refs |= refs
        return refs

    def code(self, **files: str) -> dict[str, Any]:
        """What a task needs to run these files as packaged Python code."""
        folder = self.home.parent / 'project'
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / f'{name}.py').write_text(text)
        store = SnapshotStore(self.home / 'snapshots')
        snapshot = store.take(folder)
        tree = str(store.tree(snapshot))
        prepended = {'PYTHONPATH': tree, 'PATH': os.path.dirname(sys.executable)}
        facts = {'kind': 'python', 'snapshot': snapshot.digest, 'tree': tree}
        return {'cwd': tree, 'executable': {**facts, 'prepended': prepended}}


@contextlib.contextmanager
def _remote(slurm: Cluster, home: Path, user: str = '') -> Iterator[Remote]:
    with engine.made(user) as sshd:
        sshd.start(slurm.variables)
        scene = Remote(slurm, home, sshd)
        try:
            yield scene
        finally:
            scene.backend.close()


@pytest.fixture
def remote(slurm_cluster: Cluster, tmp_path: Path) -> Iterator[Remote]:
    """The cluster is not in the environment of the test: only who logs in finds it."""
    with _remote(slurm_cluster, tmp_path / 'laptop' / 'home') as scene:
        yield scene
    slurm_cluster.mend()


@pytest.fixture
def user() -> Iterator[str]:
    """Another user of this machine, for the time of the test."""
    if os.geteuid() != 0:
        pytest.skip('needs root, to make a user')
    program = shutil.which('useradd', path='/usr/sbin:/usr/bin')
    if program is None:
        pytest.skip('needs useradd')
    with contextlib.suppress(KeyError):
        pwd.getpwnam(_USER)
        pytest.skip(f'there is a user {_USER} already')
    subprocess.run([program, '--no-create-home', '--shell', '/bin/sh', _USER], check=True)
    # An account without a password is locked for sshd.
    subprocess.run(['usermod', '-p', '*', _USER], check=True)
    yield _USER
    subprocess.run(['userdel', _USER], check=True)


def exit_codes(scene: Remote, refs: Mapping[str, Unit]) -> list[int | None]:
    return [task.exit_code for task in scene.ended(refs)]


def python(*argv: str) -> tuple[str, ...]:
    return (sys.executable, *argv)


TRAIN = """
import os, sys
print('hello from', os.getcwd(), sys.argv[1:])
with open(os.environ['XM_OUTPUT_DIR'] + '/model', 'wb') as file:
    file.write(bytes(3_000_000))
"""


def test_code_runs_there_and_its_log_and_results_come_here(remote: Remote):
    unit = remote.unit(python('-m', 'train', '--x=1'), task=remote.code(train=TRAIN))
    refs = remote.submit(unit)
    assert exit_codes(remote, refs) == [0]
    tree = remote.root / 'snapshots' / 'trees' / unit.tasks[0].executable['snapshot']
    assert remote.log(unit) == f"hello from {tree} ['--x=1']\n"
    assert (unit.task_folder(unit.tasks[0]) / 'out' / 'model').read_bytes() == bytes(3_000_000)


def test_many_units_are_one_array_and_all_their_logs_come(remote: Remote):
    units = [
        remote.unit(('/bin/sh', '-c', 'echo "$0"', str(number)), names=['train'])
        for number in range(40)
    ]
    refs = remote.submit(*units)
    assert len({ref.partition('_')[0] for ref in refs}) == 1
    assert exit_codes(remote, refs) == [0] * 40
    assert [remote.log(unit) for unit in units] == [f'{number}\n' for number in range(40)]


def test_arguments_arrive_byte_for_byte_and_secrets_are_in_no_file(remote: Remote):
    words = ["it's", 'a "b"', 'x\ny', '$HOME `id`', 'ü\udcff', '', '--', '*']
    code = 'import os, sys; print(ascii([sys.argv[1:], os.environ["TOKEN"]]))'
    unit = remote.unit(
        ('/usr/bin/env', 'python3', '-c', code, *words), task={'secrets': {'TOKEN': 'HUSH'}}
    )
    refs = remote.submit(unit)
    assert exit_codes(remote, refs) == [0]
    assert remote.log(unit) == ascii([words, remote.environ['HUSH']]) + '\n'
    files = [path for path in remote.sshd.home.rglob('*') if path.is_file()]
    assert files
    assert not [
        path for path in files if b'"secret"' in path.read_bytes() and path.name != 'output.log'
    ]


def test_a_log_is_followed_while_its_unit_runs_and_the_unit_is_stopped(remote: Remote):
    unit = remote.unit(SLEEP)
    refs = remote.submit(unit)
    remote.running(refs)
    remote.backend.stop(refs, 5.0)
    (seen,) = remote.ended(refs)
    assert seen.signal == 15
    assert remote.log(unit) == 'begun 1\n'


def test_a_connection_that_is_lost_is_no_fault_of_the_units(remote: Remote, tmp_path: Path):
    go = remote.sshd.home / 'go'
    wait = f'echo begun; until [ -e {go} ]; do sleep 0.05; done; echo done'
    unit = remote.unit(('/bin/sh', '-c', wait))
    refs = remote.submit(unit)
    remote.running(refs)
    remote.sshd.stop()
    later = remote.unit(('/bin/true',))
    with pytest.raises(UnreachableError, match='cannot be reached'):
        remote.answers(later)
    (seen,) = remote.observe(refs, lambda task: True, 'anything')
    assert seen.state == 'running'
    go.touch()
    remote.sshd.start(remote.slurm.variables)
    assert exit_codes(remote, refs) == [0]
    assert remote.log(unit) == 'begun\ndone\n'


def test_another_process_finds_what_was_submitted(remote: Remote):
    unit = remote.unit(('/bin/sh', '-c', 'echo $XM_ATTEMPT'))
    refs = remote.submit(unit)
    remote.reopen()
    assert remote.backend.find([unit]) == {unit.key: next(iter(refs))}
    assert exit_codes(remote, refs) == [0]
    assert remote.log(unit) == '1\n'


def test_what_slurm_refuses_is_said_in_its_own_words(remote: Remote):
    unit = remote.unit(('/bin/true',), partition='nowhere')
    (answer,) = remote.answers(unit)
    assert isinstance(answer, Rejected)
    assert 'nvalid partition' in answer.reason


def test_it_works_for_another_user_of_the_cluster(
    slurm_cluster: Cluster, tmp_path: Path, user: str
):
    with _remote(slurm_cluster, tmp_path / 'laptop' / 'home', user) as remote:
        code = remote.code(train=TRAIN + '\nprint(os.getuid())')
        unit = remote.unit(python('-m', 'train'), task=code)
        refs = remote.submit(unit)
        assert exit_codes(remote, refs) == [0]
        assert remote.log(unit).splitlines()[-1] == str(pwd.getpwnam(user).pw_uid)
        assert (unit.task_folder(unit.tasks[0]) / 'out' / 'model').stat().st_uid == os.geteuid()
    slurm_cluster.mend()
