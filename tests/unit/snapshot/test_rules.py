import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.unit.snapshot.conftest import put

from xmanager.snapshot import SnapshotStore

needs_git = pytest.mark.skipif(shutil.which('git') is None, reason='git is not installed')

PARTS = st.sampled_from(['a', 'b', 'ab', 'x.py', 'build', 'b.txt'])
GLOBS = st.sampled_from(['a', 'b', '*', '*.py', 'b*', '?', '[ab]', 'build', '**', 'x.py', '*.txt'])
PATTERNS = st.builds(
    lambda negated, top, parts, below: f'{negated}{top}{"/".join(parts)}{below}',
    st.sampled_from(['', '', '!']),
    st.sampled_from(['', '', '/']),
    st.lists(GLOBS, min_size=1, max_size=3),
    st.sampled_from(['', '', '/']),
)
RULES = st.lists(PATTERNS, max_size=5).map('\n'.join)
FILES = st.sets(st.lists(PARTS, min_size=1, max_size=4).map('/'.join), min_size=1, max_size=12)


def files_of(survey):
    return {entry.path for entry in survey.entries if entry.kind == 'file'}


def git(folder, *arguments):
    settings = ('-c', 'core.excludesFile=', '-c', 'user.name=x', '-c', 'user.email=x@localhost')
    command = ['git', *settings, '-C', str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout.decode()


def git_keeps(folder):
    said = git(folder, 'ls-files', '-z', '--cached', '--others', '--exclude-standard')
    return {name for name in said.split('\0') if name}


@needs_git
@settings(
    max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    names=FILES,
    rules=st.dictionaries(st.sampled_from(['', 'a', 'a/b', 'build']), RULES),
    exclude=RULES,
)
@example(names={'a', 'b/a'}, rules={}, exclude='**/*')
@example(names={'a/b/c'}, rules={'': '*/**\n!a/b/'}, exclude='')
def test_what_is_left_out_is_what_git_ignores(tmp_path_factory, names, rules, exclude):
    folder = tmp_path_factory.mktemp('git')
    git(folder, 'init', '-q')
    put(folder / '.git' / 'info' / 'exclude', exclude)
    for name in sorted(names):
        if (
            not any(parent.is_file() for parent in (folder / name).parents)
            and not (folder / name).is_dir()
        ):
            put(folder / name)
    for at, text in rules.items():
        if (folder / at).is_dir():
            put(folder / at / '.gitignore', text)
    survey = SnapshotStore(folder / '.git' / 'snapshots').survey(folder)
    assert files_of(survey) == git_keeps(folder)


@needs_git
def test_what_git_tracks_is_kept_though_its_rules_leave_it_out(store, code):
    git(code, 'init', '-q')
    put(code / '.gitignore', '*.bin\nbuild/\n')
    for name in ('model.bin', 'other.bin', 'build/keep.py', 'build/drop.py', 'never.pyc'):
        put(code / name)
    git(code, 'add', '-f', 'model.bin', 'build/keep.py', 'never.pyc')
    kept = {'.gitignore', 'model.bin', 'build/keep.py'}
    assert files_of(store.survey(code)) == kept
    assert store.survey(code).omitted == {
        'build': '.gitignore: build/',
        'other.bin': '.gitignore: *.bin',
        'never.pyc': 'built in',
        '.git': 'built in',
    }
    snapshot = store.take(code)
    assert store.take(code) == snapshot
    git(code, 'add', '-f', 'other.bin')
    assert store.take(code).files == 4
    (code / 'other.bin').unlink()
    assert store.take(code) == snapshot


@needs_git
def test_rules_of_a_repository_count_for_a_folder_within_it(store, code):
    git(code, 'init', '-q')
    put(code / '.gitignore', '/src/out\n*.log\n/main.py\n')
    for name in ('src/out/x', 'src/main.py', 'src/a.log', 'src/in/out/x'):
        put(code / name)
    assert files_of(store.survey(code / 'src')) == {'main.py', 'in/out/x'}
    assert store.survey(code / 'src').omitted['a.log'] == '../.gitignore: *.log'
    first = store.take(code / 'src')
    put(code / '.gitignore', '')
    assert store.take(code / 'src').files == first.files + 2


@needs_git
def test_a_linked_work_tree_has_the_rules_of_its_repository(store, code, tmp_path):
    git(code, 'init', '-q')
    put(code / 'a.py')
    git(code, 'add', '.')
    git(code, 'commit', '-qm', 'a')
    put(code / '.git' / 'info' / 'exclude', '*.log\n')
    git(code, 'worktree', 'add', '-q', str(tmp_path / 'linked'))
    put(tmp_path / 'linked' / 'x.log')
    assert files_of(store.survey(tmp_path / 'linked')) == {'a.py'}


def test_xmignore_goes_before_everything_else(store, code):
    put(code / '.gitignore', '*.bin\n')
    put(code / '.xmignore', '!weights.bin\n!node_modules/\nnotes/\n')
    for name in ('weights.bin', 'other.bin', 'node_modules/x.js', 'notes/x', 'in/notes'):
        put(code / name)
    kept = {'.gitignore', '.xmignore', 'weights.bin', 'node_modules/x.js', 'in/notes'}
    assert files_of(store.survey(code)) == kept


def test_without_git_rules_hold_all_the_same(store, code, monkeypatch):
    (code / '.git').mkdir()
    put(code / '.gitignore', '*.log\n')
    put(code / 'a.log')
    monkeypatch.setenv('PATH', '/nonexistent')
    assert files_of(store.survey(code)) == {'.gitignore'}


def test_virtual_environments_are_left_out_whatever_their_name(store, code):
    put(code / 'mine' / 'bin' / 'python')
    put(code / 'a.py')
    assert store.take(code).files == 2
    put(code / 'mine' / 'pyvenv.cfg')
    assert files_of(store.survey(code)) == {'a.py'}
    assert store.survey(code).omitted == {'mine': 'built in: a virtual environment'}
    put(code / '.xmignore', '!mine/\n')
    assert 'mine/pyvenv.cfg' in files_of(store.survey(code))


def test_a_change_of_rules_is_seen_at_every_depth(store, code):
    put(code / 'a' / 'b' / 'c.txt')
    put(code / 'a' / 'b' / 'c.py')
    assert store.take(code).files == 2
    put(code / '.xmignore', '*.txt\n')
    assert store.take(code).files == 2
    put(code / 'a' / '.gitignore', '*.py\n')
    assert store.take(code).files == 2
    os.unlink(code / '.xmignore')
    assert files_of(store.survey(code)) == {'a/.gitignore', 'a/b/c.txt'}
    assert store.take(code).files == 2


def test_a_pattern_that_makes_no_sense_is_passed_over(store, code):
    put(code / '.gitignore', '[z-a].py\n!\n\\\n# comment\n   \n*.log\n')
    put(code / 'a.log')
    put(code / 'a.py')
    assert files_of(store.survey(code)) == {'.gitignore', 'a.py'}
