import os
import shutil
import sys
from pathlib import Path

import attrs
import pytest

from xmanager import xm, xm_local
from xmanager.errors import PackagingError, UsageError
from xmanager.packaging import kept_program
from xmanager.packaging.binary import package_binary
from xmanager.packaging.plan import Plan, PlannedFile
from xmanager.packaging.workshop import Workshop
from xmanager.snapshot import SnapshotStore


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / 'home')


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return write(tmp_path / 'program', '#!/bin/sh\necho first\n')


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def package(workshop: Workshop, path: Path | str, *dependencies: xm.BinaryDependency):
    packageable = xm.binary(xm_local.Local.Spec(), str(path), dependencies=dependencies)
    return package_binary(packageable, workshop)


def test_a_program_runs_at_its_own_place_and_a_copy_is_kept(workshop, program):
    packaged = package(workshop, program)
    assert packaged.command == (str(program),)
    assert packaged.facts['path'] == str(program)
    copy = Path(packaged.facts['copy'])
    assert copy.name == 'program'
    assert copy.read_text() == program.read_text()
    assert os.access(copy, os.X_OK)
    [entry] = SnapshotStore(workshop.snapshots).get(packaged.facts['kept']).entries
    assert entry.digest == packaged.facts['digest']


def test_what_is_recorded_tells_the_file_again(workshop, program):
    facts, status = package(workshop, program).facts, program.stat()
    assert facts['bytes'] == status.st_size
    assert facts['modified'] == status.st_mtime
    assert facts['inode'] == status.st_ino


def test_a_link_is_followed_for_the_content_only(workshop, tmp_path, program):
    link = tmp_path / 'other-name'
    link.symlink_to(program)
    packaged = package(workshop, link)
    assert packaged.command == (str(link),)
    # Programs that are many in one know by their name which of them is meant.
    assert Path(packaged.facts['copy']).name == 'other-name'


def test_a_program_that_is_the_same_is_not_read_again(workshop, monkeypatch):
    first = package(workshop, '/bin/sh')

    def refuse(*_, **__):
        raise AssertionError('it was read')

    monkeypatch.setattr(SnapshotStore, 'take_files', refuse)
    monkeypatch.setattr(kept_program, 'digest_of', refuse)
    assert package(workshop, '/bin/sh').facts == first.facts


def test_a_program_that_changed_is_kept_anew(workshop, program):
    first = package(workshop, program)
    write(program, '#!/bin/sh\necho other\n')
    second = package(workshop, program)
    assert first.facts['kept'] != second.facts['kept']
    assert Path(first.facts['copy']).read_text().endswith('first\n')
    assert Path(second.facts['copy']).read_text().endswith('other\n')


def test_a_snapshot_that_was_removed_is_taken_again(workshop):
    first = package(workshop, '/bin/sh')
    SnapshotStore(workshop.snapshots).gc(keep=set(), older_than=0.0)
    shutil.rmtree(workshop.snapshots, ignore_errors=True)
    assert package(workshop, '/bin/sh').facts == first.facts
    assert Path(first.facts['copy']).exists()


def test_of_a_program_above_the_limit_the_digest_alone_is_recorded(workshop, program):
    small = attrs.evolve(workshop, environ={'XM_BINARY_MAX_KEPT': '4B'})
    facts = package(small, program).facts
    assert (facts['kept'], facts['copy']) == ('', '')
    assert len(facts['digest']) == 64
    assert not workshop.snapshots.exists() or not SnapshotStore(workshop.snapshots).list()


def test_a_limit_that_is_no_size_is_refused(workshop, program):
    wrong = attrs.evolve(workshop, environ={'XM_BINARY_MAX_KEPT': 'much'})
    with pytest.raises(UsageError, match='--xm_binary_max_kept=much: expected a size'):
        package(wrong, program)


def test_no_copy_is_kept_of_the_interpreter_of_an_environment(workshop):
    # A copy of it would run with the packages of another one.
    facts = package(workshop, sys.executable).facts
    assert sys.prefix != sys.base_prefix
    assert facts['kept'] == ''
    assert facts['digest']


def test_dependencies_lie_beside_the_program(workshop, tmp_path, program):
    (tmp_path / 'data' / 'deep').mkdir(parents=True)
    (tmp_path / 'data' / 'deep' / 'x').write_text('x')
    (tmp_path / 'words.txt').write_text('words')
    packaged = package(
        workshop,
        program,
        xm.FolderDependency(str(tmp_path / 'data')),
        xm.FileDependency(str(tmp_path / 'words.txt')),
        xm.FileDependency(str(tmp_path / 'words.txt'), destination='lists/all.txt'),
    )
    [copy] = packaged.command
    folder = Path(copy).parent
    assert Path(copy).name == 'program'
    assert packaged.facts['path'] == str(program)
    assert (folder / 'data' / 'deep' / 'x').read_text() == 'x'
    assert (folder / 'words.txt').read_text() == 'words'
    assert (folder / 'lists' / 'all.txt').read_text() == 'words'


def test_a_changed_dependency_is_another_snapshot(workshop, tmp_path, program):
    words = tmp_path / 'words.txt'
    words.write_text('one')
    first = package(workshop, program, xm.FileDependency(str(words)))
    words.write_text('two')
    second = package(workshop, program, xm.FileDependency(str(words)))
    assert first.facts['digest'] == second.facts['digest']
    assert first.command != second.command


def test_a_dependency_that_is_not_there_is_named(workshop, tmp_path, program):
    missing = xm.FileDependency(str(tmp_path / 'missing'))
    with pytest.raises(PackagingError, match=r'missing does not exist. Paths are relative'):
        package(workshop, program, missing)


def test_a_file_is_no_folder_and_a_folder_no_file(workshop, tmp_path, program):
    with pytest.raises(PackagingError, match=r'is no folder. Give a file as xm.FileDependency'):
        package(workshop, program, xm.FolderDependency(str(program)))
    with pytest.raises(PackagingError, match=r'is no file. Give a folder as xm.FolderDependency'):
        package(workshop, program, xm.FileDependency(str(tmp_path)))


@pytest.mark.parametrize('destination', ['', 'program', 'program/inside'])
def test_two_things_in_one_place_are_refused(workshop, tmp_path, program, destination):
    other = write(tmp_path / 'elsewhere' / 'program', 'x')
    with pytest.raises(PackagingError, match='Give one of them another `destination`'):
        package(workshop, program, xm.FileDependency(str(other), destination))


@pytest.mark.parametrize('destination', ['../x', '/x', 'a//b', 'a/', './x', 'a\0'])
def test_a_destination_stays_beside_the_binary(destination):
    with pytest.raises(ValueError, match='expected a place beside the binary'):
        xm.FileDependency('x', destination)


def test_a_dependency_of_an_unknown_kind_is_refused(workshop, program):
    class Odd(xm.BinaryDependency):
        def __repr__(self):
            return 'Odd()'

    with pytest.raises(PackagingError, match=r'Odd\(\) is no dependency that can be packaged'):
        package(workshop, program, Odd())


def test_a_large_program_with_dependencies_needs_a_higher_limit(workshop, tmp_path, program):
    (tmp_path / 'words').touch()
    small = attrs.evolve(workshop, environ={'XM_BINARY_MAX_KEPT': '4B'})
    with pytest.raises(PackagingError, match='Set --xm_binary_max_kept=1MiB'):
        package(small, program, xm.FileDependency(str(tmp_path / 'words')))


def test_paths_of_dependencies_are_relative_to_the_launch_script(tmp_path, monkeypatch):
    monkeypatch.setenv('XM_LAUNCH_SCRIPT', str(tmp_path / 'launch.py'))
    assert xm.FileDependency('x').path == str(tmp_path / 'x')
    assert xm.FolderDependency('../x').path == str(tmp_path.parent / 'x')


def test_a_dry_run_tells_of_files_and_keeps_nothing(workshop, tmp_path, program):
    (tmp_path / 'words').write_text('12345')
    dry = attrs.evolve(workshop, dry_run=True)
    packaged = package(dry, program, xm.FileDependency(str(tmp_path / 'words')))
    digest = kept_program.digest_of(str(program))
    assert Plan.of(packaged.facts).files == (
        PlannedFile(str(program), program.stat().st_size, digest, None, True),
        PlannedFile(str(tmp_path / 'words'), 5, '', None, True),
    )
    assert not workshop.home.exists()


def test_a_dry_run_tells_that_a_copy_is_kept_already(workshop):
    dry = attrs.evolve(workshop, dry_run=True)
    [before] = Plan.of(package(dry, '/bin/sh').facts).files
    package(workshop, '/bin/sh')
    [after] = Plan.of(package(dry, '/bin/sh').facts).files
    assert (before.exists, after.exists) == (False, True)


def test_what_runs_on_a_cluster_is_kept_where_its_nodes_see_it(tmp_path, program):
    shared = tmp_path / 'shared'
    workshop = Workshop(tmp_path / 'home', {'XM_SHARED': str(shared)})
    packageable = xm.binary(xm_local.Slurm.Spec(), str(program))
    packaged = package_binary(packageable, workshop)
    assert Path(packaged.facts['copy']).is_relative_to(shared)
    assert Path(packaged.facts['copy']).read_text() == program.read_text()
    assert not workshop.home.exists()
    package(workshop, program)
    assert (workshop.home / 'snapshots').exists()
