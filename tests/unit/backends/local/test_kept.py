import hashlib
import os
from pathlib import Path

import pytest

from xmanager.backends.local.kept import prepend, program_of, with_its_code
from xmanager.backends.local.programs import CannotStartError
from xmanager.snapshot import SnapshotStore


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return write(tmp_path / 'program', 'first')


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return write(tmp_path / 'copy' / 'program', 'first')


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def facts(program: Path, copy: Path | str = ''):
    status = program.stat()
    return {
        'kind': 'binary',
        'path': str(program),
        'digest': hashlib.sha256(program.read_bytes()).hexdigest(),
        'bytes': status.st_size,
        'modified': status.st_mtime,
        'inode': status.st_ino,
        'copy': str(copy),
    }


def test_an_unchanged_program_runs_at_its_own_place(program, copy):
    assert program_of(facts(program, copy), str(program)) == str(program)


def test_one_that_was_built_again_with_the_same_result_runs_at_its_own_place(program, copy):
    known = facts(program, copy)
    program.unlink()
    write(program, 'first')
    os.utime(program, (1, 1))
    assert program_of(known, str(program)) == str(program)


@pytest.mark.parametrize('text', ['other', 'longer than it was'])
def test_of_one_that_changed_the_kept_copy_runs(program, copy, text):
    known = facts(program, copy)
    write(program, text)
    os.utime(program, (1, 1))
    assert program_of(known, str(program)) == str(copy)


def test_of_one_that_was_removed_the_kept_copy_runs(program, copy):
    known = facts(program, copy)
    program.unlink()
    assert program_of(known, str(program)) == str(copy)


def test_one_of_which_no_copy_was_kept_must_be_the_same(program):
    known = facts(program)
    assert program_of(known, str(program)) == str(program)
    write(program, 'other')
    os.utime(program, (1, 1))
    with pytest.raises(CannotStartError, match='has changed since it was packaged, and no copy'):
        program_of(known, str(program))
    program.unlink()
    with pytest.raises(CannotStartError, match='was removed since it was packaged'):
        program_of(known, str(program))


def test_a_copy_that_somebody_changed_is_not_run(program, copy):
    known = facts(program, copy)
    write(program, 'other')
    os.utime(program, (1, 1))
    write(copy, 'OTHER')
    with pytest.raises(
        CannotStartError, match=r'the kept copy of .* is gone or was changed. Launch again'
    ):
        program_of(known, str(program))


def test_with_dependencies_the_copy_runs_though_the_program_is_unchanged(program, copy):
    assert program_of(facts(program, copy), str(copy)) == str(copy)


def test_another_program_is_left_alone(program, copy):
    assert program_of(facts(program, copy), '/bin/sh') == '/bin/sh'


def test_what_earlier_versions_recorded_is_run_as_it_is(program):
    known = {'kind': 'binary', 'path': str(program), 'bytes': 3, 'modified': 0.0}
    assert program_of(known, str(program)) == str(program)
    assert program_of({}, 'true') == 'true'


def test_python_code_needs_its_kept_copy(tmp_path):
    known = {'kind': 'python', 'tree': str(tmp_path / 'tree')}
    with pytest.raises(CannotStartError, match=r'the kept copy of its code .* was removed. Launch'):
        with_its_code(known)
    (tmp_path / 'tree').mkdir()
    assert with_its_code(known) == known


@pytest.mark.skipif(os.geteuid() != 0, reason='only root may write into a kept copy')
def test_a_job_of_roots_that_writes_into_its_code_changes_nothing_for_the_next(tmp_path):
    project = tmp_path / 'project'
    project.mkdir()
    (project / 'train.py').write_text('print(1)')
    store = SnapshotStore(tmp_path / 'snapshots')
    snapshot = store.take(project)
    tree = store.tree(snapshot)
    known = {
        'kind': 'python',
        'snapshot': snapshot.digest,
        'tree': str(tree),
        'prepended': {'PYTHONPATH': str(tree), 'PATH': '/env/bin'},
    }
    assert with_its_code(known) == known
    (tree / 'new.py').write_text('print(2)')
    fresh = with_its_code(known)
    assert fresh['tree'] != str(tree)
    assert set(os.listdir(fresh['tree'])) == {'train.py', '__pycache__'}
    assert fresh['prepended'] == {'PYTHONPATH': fresh['tree'], 'PATH': '/env/bin'}


def test_python_code_needs_its_environment(tmp_path):
    known = {'kind': 'python', 'environment': {'folder': str(tmp_path)}}
    with pytest.raises(CannotStartError, match=r'its Python environment .* was removed. Launch'):
        program_of(known, '/bin/python')
    write(tmp_path / 'bin' / 'python', '')
    assert program_of(known, '/bin/python') == '/bin/python'


def test_places_are_put_before_those_of_the_job():
    environment = {'PATH': '/usr/bin', 'PYTHONPATH': ''}
    prepend(environment, {'prepended': {'PATH': '/env/bin', 'PYTHONPATH': '/tree', 'NEW': '/x'}})
    assert environment == {'PATH': '/env/bin:/usr/bin', 'PYTHONPATH': '/tree', 'NEW': '/x'}
