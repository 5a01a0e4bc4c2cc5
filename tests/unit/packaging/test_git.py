import os
import subprocess
import time
from pathlib import Path

import pytest

from xmanager.packaging.git import GitQuestion, mask_credentials

_IDENTITY = ('-c', 'user.name=T', '-c', 'user.email=t@example.org')


def git(folder: Path, *words: str) -> str:
    command = ['git', '-C', str(folder), *_IDENTITY, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def ask(folder: Path, **options: float):
    with GitQuestion(str(folder), **options) as question:
        return question.answer()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, 'init', '--quiet', '--initial-branch=main')
    (tmp_path / 'code').mkdir()
    (tmp_path / 'code' / 'a.py').write_text('1')
    (tmp_path / 'other.py').write_text('1')
    git(tmp_path, 'add', '.')
    git(tmp_path, 'commit', '--quiet', '-m', 'first')
    return tmp_path


def test_commit_branch_and_remote_are_told(repository):
    git(repository, 'remote', 'add', 'origin', 'https://me:secret@example.org/x.git')
    assert ask(repository / 'code') == {
        'commit': git(repository, 'rev-parse', 'HEAD'),
        'branch': 'main',
        'remote': 'https://***@example.org/x.git',
        'dirty': False,
    }


def test_only_changes_in_the_folder_make_it_dirty(repository):
    (repository / 'other.py').write_text('changed')
    assert not ask(repository / 'code')['dirty']
    (repository / 'code' / 'a.py').write_text('changed')
    assert ask(repository / 'code')['dirty']


def test_a_file_that_git_does_not_know_makes_it_dirty(repository):
    (repository / 'code' / 'new.py').write_text('new')
    assert ask(repository / 'code')['dirty']


def test_a_repository_without_a_commit_has_a_branch_alone(tmp_path):
    git(tmp_path, 'init', '--quiet', '--initial-branch=main')
    assert ask(tmp_path) == {'branch': 'main', 'dirty': False}


def test_a_detached_head_has_no_branch(repository):
    git(repository, 'checkout', '--quiet', '--detach')
    assert 'branch' not in ask(repository)


def test_nothing_is_told_outside_of_a_repository(tmp_path):
    assert ask(tmp_path) == {}


def test_nothing_is_told_where_there_is_no_git(repository, monkeypatch):
    monkeypatch.setenv('PATH', str(repository / 'nothing'))
    assert ask(repository) == {}


def test_the_index_is_left_as_it_is(repository):
    later = time.time() + 100
    os.utime(
        repository / 'code' / 'a.py', (later, later)
    )  # `git status` would note that by itself.
    before = (repository / '.git' / 'index').stat()
    ask(repository)
    after = (repository / '.git' / 'index').stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_a_git_that_takes_long_is_not_waited_for(repository, tmp_path, monkeypatch):
    slow = tmp_path / 'bin' / 'git'
    slow.parent.mkdir()
    slow.write_text(
        '#!/bin/sh\nfor word; do [ "$word" = status ] && exec sleep 1000; done\n'
        f'exec {subprocess.getoutput("command -v git")} "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv('PATH', f'{slow.parent}{os.pathsep}{os.environ["PATH"]}')
    assert ask(repository, patience=0.5) == {
        'commit': git(repository, 'rev-parse', 'HEAD'),
        'branch': 'main',
    }


def test_a_git_that_runs_the_launcher_names_no_repository_for_it(repository, monkeypatch):
    monkeypatch.setenv('GIT_DIR', '/nowhere')
    assert ask(repository)['branch'] == 'main'


def test_an_error_meanwhile_ends_what_was_asked(repository):
    with pytest.raises(KeyError), GitQuestion(str(repository)) as question:
        raise KeyError
    assert question.answer().keys() <= {'commit', 'branch', 'remote', 'dirty'}


@pytest.mark.parametrize(
    ('given', 'shown'),
    [
        ('https://token@example.org/x', 'https://***@example.org/x'),
        ('ssh://git@example.org/x', 'ssh://git@example.org/x'),
        ('ssh://me:pass@example.org/x', 'ssh://me:***@example.org/x'),
        ('git@example.org:x', 'git@example.org:x'),
        ('see http://a:b@c/d and http://e/f', 'see http://***@c/d and http://e/f'),
    ],
)
def test_addresses_are_shown_without_credentials(given, shown):
    assert mask_credentials(given) == shown
