"""The cluster used from a machine that is of it: commands, files, records, and links to what the nodes see."""

import os
import sys
from pathlib import Path

import attrs
import pytest

from xmanager.backend import Rejected, Task, Unit
from xmanager.backends.slurm.local_site import LocalSite
from xmanager.backends.slurm.site import NoProgramError
from xmanager.errors import UnreachableError


@pytest.fixture
def site():
    return LocalSite(os.environ, clock=lambda: 0.0)


def a_unit(folder: Path, program: str = '/bin/true', cwd: str = '/') -> Unit:
    task = Task('train', '1_train', (program,), cwd)
    return Unit(1, '3', 1, 'home.1.3.1', folder / 'home/experiments/1/3', (task,))


# --- commands


def test_a_command_says_what_it_says(site):
    answer = site.run(['/bin/sh', '-c', 'echo out; echo err >&2; exit 3'])
    assert (answer.code, answer.out, answer.err) == (3, 'out\n', 'err\n')


def test_an_addition_to_the_environment_is_one_to_what_there_is(site):
    answer = site.run(['/bin/sh', '-c', 'echo "$A${PATH:+ path}"'], env={'A': 'a'})
    assert answer.out == 'a path\n'


def test_a_command_that_takes_too_long_gave_no_answer(site):
    with pytest.raises(UnreachableError, match=r'/bin/sh gave no answer in 0.05 s \(busy\)'):
        site.run(['/bin/sh', '-c', 'echo busy >&2; exec sleep 60'], timeout=0.05)


def test_a_command_that_is_not_there_is_no_slurm(site):
    with pytest.raises(NoProgramError, match='no-such-sbatch is not on PATH'):
        site.run(['no-such-sbatch'])
    with pytest.raises(UnreachableError):
        site.start(['no-such-squeue']).poll()


def test_a_command_in_the_background_is_asked_until_it_answers(site):
    running = site.start([sys.executable, '-c', 'input(); print("done")'])
    while (answer := running.poll()) is None:
        pass
    assert answer.code == 1  # Its standard input is empty.
    assert running.poll() == answer


def test_a_command_in_the_background_can_be_cancelled(site):
    running = site.start(['/bin/sleep', '60'])
    assert running.poll() is None
    running.cancel()


# --- files


def test_files_appear_whole_and_only_for_their_owner(site, tmp_path):
    site.write({f'{tmp_path}/a/b': b'text', f'{tmp_path}/a/c': b'#!/bin/sh\n'})
    assert site.read([f'{tmp_path}/a/b', f'{tmp_path}/a/none']) == {f'{tmp_path}/a/b': b'text'}
    assert (tmp_path / 'a').stat().st_mode & 0o077 == 0
    assert sorted(os.listdir(tmp_path / 'a')) == ['b', 'c']


def test_a_place_that_can_not_be_written_is_out_of_reach(site, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UnreachableError, match='could not be written'):
        site.write({f'{tmp_path}/file/a': b''})


def test_only_folders_that_exist_are_listed(site, tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/x').touch()
    listed = site.list([f'{tmp_path}/a', f'{tmp_path}/none'])
    assert {folder: names for folder, (_, names) in listed.items()} == {f'{tmp_path}/a': ('x',)}


def test_folders_are_removed_with_all_that_is_in_them(site, tmp_path):
    site.write({f'{tmp_path}/a/b/c': b''})
    site.remove([f'{tmp_path}/a', f'{tmp_path}/none'])
    assert os.listdir(tmp_path) == []


# --- records


def record(batch: Path, name: str, content: bytes = b'job 1\nnode n1\nat 5\n') -> None:
    (batch / name).parent.mkdir(parents=True, exist_ok=True)
    (batch / name).write_bytes(content)


def test_a_look_tells_of_new_records_only(site, tmp_path):
    record(tmp_path, 'begun/0.0.0')
    record(tmp_path, 'begun/.made', b'')
    assert site.look([str(tmp_path)]).poll() == {
        str(tmp_path): {'begun/0.0.0': b'job 1\nnode n1\nat 5\n'}
    }
    assert site.look([str(tmp_path)]).poll() == {}
    record(tmp_path, 'ends/0.0.0', b'exited 0\n')
    assert site.look([str(tmp_path)]).poll() == {str(tmp_path): {'ends/0.0.0': b'exited 0\n'}}


def test_a_record_that_is_still_being_written_is_told_when_it_is_whole(site, tmp_path):
    record(tmp_path, 'begun/0.0.0', b'job 1\n')
    assert site.look([str(tmp_path)]).poll() == {}
    record(tmp_path, 'begun/0.0.0', b'job 1\nnode n1\nat 5\n')
    assert list(site.look([str(tmp_path)]).poll()) == [str(tmp_path)]


def test_of_two_records_in_one_tick_of_the_clock_none_is_missed(tmp_path):
    now = 0.0
    site = LocalSite(os.environ, clock=lambda: now)
    record(tmp_path, 'begun/0.0.0')
    changed_at = (tmp_path / 'begun').stat().st_mtime_ns
    site.look([str(tmp_path)]).poll()
    record(tmp_path, 'begun/1.0.0')
    os.utime(tmp_path / 'begun', ns=(changed_at, changed_at))
    now = 1.0
    records = site.look([str(tmp_path)]).poll() or {}
    assert [*records[str(tmp_path)]] == ['begun/1.0.0']


# --- what the nodes see


def test_without_a_shared_folder_the_nodes_see_the_home(site, tmp_path):
    unit = a_unit(tmp_path)
    assert site.folder(unit) == str(unit.folder)
    assert site.prepare([unit]) == {}
    assert not unit.folder.exists()


def test_units_lie_in_the_shared_folder_and_are_linked_to_from_the_home(tmp_path):
    site = LocalSite(os.environ, str(tmp_path / 'shared'))
    unit = a_unit(tmp_path)
    assert site.folder(unit) == f'{tmp_path}/shared/experiments/home-1/3'
    for _ in range(2):
        assert site.prepare([unit]) == {}
        assert os.readlink(unit.folder) == site.folder(unit)


def test_a_home_below_the_shared_folder_is_seen_itself(tmp_path):
    unit = a_unit(tmp_path)
    assert LocalSite(os.environ, str(tmp_path)).folder(unit) == str(unit.folder)


def test_a_folder_that_is_in_the_way_of_a_link_is_named(tmp_path):
    site = LocalSite(os.environ, str(tmp_path / 'shared'))
    unit = a_unit(tmp_path)
    (unit.folder / 'train').mkdir(parents=True)
    refusal = site.prepare([unit])[unit.key]
    assert isinstance(refusal, Rejected)
    assert str(unit.folder) in refusal.reason


def test_what_is_missing_below_the_shared_folder_is_refused(tmp_path):
    site = LocalSite(os.environ, str(tmp_path))
    program = a_unit(tmp_path, program=f'{tmp_path}/train')
    cwd = attrs.evolve(a_unit(tmp_path, cwd=f'{tmp_path}/code'), key='home.1.4.1')
    assert site.prepare([program, cwd]) == {
        program.key: Rejected(f"program '{tmp_path}/train' does not exist.", 'train'),
        cwd.key: Rejected(f"cwd '{tmp_path}/code' does not exist.", 'train'),
    }


def test_what_lies_elsewhere_may_be_there_on_the_nodes(tmp_path):
    site = LocalSite(os.environ, str(tmp_path))
    assert site.prepare([a_unit(tmp_path, program='/opt/of/the/nodes/train')]) == {}
