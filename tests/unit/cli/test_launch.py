"""`xmanager launch`: which words are the script's."""

import pytest

from xmanager.cli.main import main


@pytest.fixture
def arguments(tmp_path, monkeypatch, capsys):
    """What the script sees as its arguments when `xmanager launch` is given these words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XM_DETACH', 'false')
    (tmp_path / 'f.py').write_text('import sys; print(*sys.argv[1:])')

    def arguments(*words):
        assert main(['launch', *words]) == 0
        return capsys.readouterr().out.split()

    return arguments


@pytest.mark.parametrize(
    ('words', 'seen'),
    [
        ('f.py', ''),
        ('f.py a -- b', 'a -- b'),
        ('f.py -- a -- b', 'a -- b'),
        ('f.py -- -- b', '-- b'),
        ('-- f.py a', 'a'),
        ('--xm_detach f.py -- a -- b', 'a -- b'),
        ('--xm_detach f.py a -- b', 'a -- b'),
        ('--lr=1 f.py -- a --xm_detach', '--lr=1 a'),
    ],
)
def test_only_the_dashes_after_the_file_are_ours(arguments, words, seen):
    assert arguments(*words.split()) == seen.split()
