"""Creating experiments and finding them again."""

import pytest

from xmanager.errors import NotFoundError, UsageError
from xmanager.launch.experiments import create_experiment, get_experiment, list_experiments


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv('XM_HOME', str(tmp_path / 'home'))


def test_an_experiment_is_found_by_its_id():
    created = create_experiment('a title')
    found = get_experiment(created.experiment_id)
    assert found.record == created.record
    assert [each.experiment_id for each in list_experiments()] == [created.experiment_id]


@pytest.mark.parametrize('id', ['abc', '1', 1.0, None, True])
def test_what_is_no_id_is_told_in_a_sentence(id):
    with pytest.raises(UsageError, match=r'get_experiment\(.*Expected the number of an experiment'):
        get_experiment(id)


@pytest.mark.parametrize('id', [5, 0, -1, 2**70])
def test_an_experiment_that_is_not_there_is_not_found(id):
    with pytest.raises(NotFoundError, match='experiment'):
        get_experiment(id)


def test_a_file_of_settings_that_is_not_there_is_named_by_all(monkeypatch, tmp_path):
    monkeypatch.setenv('XM_DB_YAML_CONFIG_PATH', '/x.yaml')
    for call in (lambda: create_experiment('t'), lambda: get_experiment(1), list_experiments):
        with pytest.raises(UsageError, match=r'--xm_db_yaml_config_path=/x.yaml: there is no file'):
            call()
    assert not (tmp_path / 'home').exists()


def test_the_database_that_a_file_beside_the_launch_script_names_is_used(monkeypatch, tmp_path):
    (tmp_path / 'launch').mkdir()
    config = tmp_path / 'launch' / 'db.yaml'
    config.write_text('sql_connector: sqlite\nsql_connection_settings:\n  db_name: team.db\n')
    monkeypatch.setenv('XM_DB_YAML_CONFIG_PATH', 'db.yaml')
    monkeypatch.setenv('XM_LAUNCH_SCRIPT', str(tmp_path / 'launch' / 'launcher.py'))
    assert create_experiment('t').experiment_id == 1
    assert (tmp_path / 'launch' / 'team.db').exists()
    assert not (tmp_path / 'home' / 'xmanager.db').exists()
