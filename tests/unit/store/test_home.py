"""Where a home is."""

from pathlib import Path

from xmanager.store import Home


def test_xm_home_says_where():
    assert Home.locate({'XM_HOME': '/data/xm'}).path == Path('/data/xm')


def test_without_xm_home_it_is_in_the_users_own_directory():
    assert Home.locate({}).path == Path.home() / '.xmanager'
    assert Home.locate({'XM_HOME': ''}).path == Path.home() / '.xmanager'


def test_it_is_absolute_and_knows_the_tilde(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Home.locate({'XM_HOME': 'here'}).path == tmp_path / 'here'
    assert Home.locate({'XM_HOME': '~/there'}).path == Path.home() / 'there'


def test_everything_has_its_place():
    home = Home(Path('/h'))
    assert home.database == Path('/h/xmanager.db')
    assert home.unit_folder(7, 'a1') == Path('/h/experiments/7/a1')
