from pathlib import Path

import pytest

from xmanager.errors import PackagingError
from xmanager.packaging.docker_ignore import kept_files

FILES = (
    'Dockerfile',
    'README.md',
    'README-secret.md',
    'a/b/c.py',
    'a/b/c.txt',
    'a/b/foo/keep',
    'a/b/foo/x',
    'docs/a.md',
    'docs/sub/b.md',
    '[odd].txt',
    'sp ace.txt',
    '.hidden/f',
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('')
    return tmp_path


def left_out(folder: Path, *lines: str) -> set[str]:
    return set(FILES) - set(kept_files(folder, lines))


# What Docker 20.10 makes of each line was seen by building `FROM scratch`, `COPY . /` from these very files.
@pytest.mark.parametrize(
    ('lines', 'ignored'),
    [
        (['*.md'], {'README.md', 'README-secret.md'}),
        (['*.md', '!README*.md', 'README-secret.md'], {'README-secret.md'}),
        (['**/*.md'], {'README.md', 'README-secret.md', 'docs/a.md', 'docs/sub/b.md'}),
        (['/docs', '!docs/sub'], {'docs/a.md'}),
        (['docs/**', '!docs/sub/b.md'], {'docs/a.md'}),
        (['a/*/c.*'], {'a/b/c.py', 'a/b/c.txt'}),
        (['a/b/../b/foo/'], {'a/b/foo/keep', 'a/b/foo/x'}),
        (['a/**/keep'], {'a/b/foo/keep'}),
        (['# *', '', '.', '  docs  '], {'docs/a.md', 'docs/sub/b.md'}),
        (['[[]odd*'], {'[odd].txt'}),
        (['\\[odd\\].txt'], {'[odd].txt'}),
        (['[^a-zA-Z.[]*'], set()),
        (['?p ace.txt'], {'sp ace.txt'}),
        (['.*'], {'.hidden/f'}),
        (['**'], set(FILES)),
    ],
)
def test_a_file_is_left_out_as_the_engine_does_it(folder, lines, ignored):
    assert left_out(folder, *lines) == ignored


def test_what_is_taken_back_is_found_below_folders_that_are_left_out(folder):
    assert set(FILES) - left_out(folder, '*', '!**/*.py') == {'a/b/c.py'}
    assert left_out(folder, '**/foo', '!a/b/foo/keep') == {'a/b/foo/x'}


def test_links_are_not_followed(folder):
    (folder / 'again').symlink_to('a')
    assert 'again' in set(kept_files(folder, ()))
    assert 'again/b' not in set(kept_files(folder, ()))


@pytest.mark.parametrize('line', ['[', 'a[', '[]', 'a\\', '[z-a]'])
def test_a_bad_pattern_is_named(folder, line):
    with pytest.raises(PackagingError, match=r'\.dockerignore.*no pattern'):
        set(kept_files(folder, [line]))
