import pytest

from xmanager.errors import UsageError
from xmanager.launch import kept_settings


@pytest.fixture
def keep(lab):
    """`keep(XM_SHARED='/a')`: a launch with these settings; returns its environment afterwards."""

    def launch(**environ):
        kept_settings.keep(lab.store, lab.experiment.id, environ)
        return environ

    return launch


@pytest.fixture
def environment(lab):
    """`environment(XM_SHARED='/b')`: what a supervisor is told that is started from a shell with these settings."""
    return lambda **environ: kept_settings.environment(lab.home, lab.experiment.id, environ)


def test_a_relative_ledger_is_that_of_the_launch_for_every_supervisor(
    keep, environment, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    keep(XM_LOCAL_LEDGER='ledger')
    assert environment() == {'XM_LOCAL_LEDGER': str(tmp_path / 'ledger')}


def test_only_settings_are_kept(keep, environment):
    keep(PATH='/bin', XM_LOCAL_RESOURCES='cpu=2', XM_SLURM_CONTAINERS='podman', WANDB_API_KEY='x')
    assert environment() == {'XM_LOCAL_RESOURCES': 'cpu=2', 'XM_SLURM_CONTAINERS': 'podman'}


def test_who_starts_a_supervisor_may_say_something_else_of_the_host(keep, environment):
    keep(XM_LOCAL_RESOURCES='cpu=2', XM_SLURM_QOS='prod=high')
    told = environment(XM_LOCAL_RESOURCES='cpu=4', HOME='/root')
    assert told == {
        'XM_LOCAL_RESOURCES': 'cpu=4',
        'XM_SLURM_QOS': 'prod=high',
        'HOME': '/root',
    }


@pytest.mark.parametrize('name', ['XM_SHARED', 'SLURM_CONF', 'SLURM_CLUSTERS'])
def test_where_units_were_submitted_stays_what_it_was_at_the_launch(keep, environment, name):
    keep(**{name: '/here'})
    assert environment(**{name: '/elsewhere'}) == {name: '/here'}
    keep()
    assert environment(**{name: '/elsewhere'}) == {}


def test_an_experiment_of_which_nothing_was_kept_goes_by_the_shell(environment):
    assert environment(XM_SHARED='/here') == {'XM_SHARED': '/here'}


def test_the_shared_folder_may_change_while_no_unit_needs_it(lab, keep, environment):
    lab.add('running', backend='local')
    keep(XM_SHARED='/a')
    keep(XM_SHARED='/b')
    assert environment() == {'XM_SHARED': '/b'}


def test_another_shared_folder_is_refused_once_a_unit_is_in_one(lab, keep, environment):
    keep(XM_SHARED='/a')
    lab.add('completed', backend='slurm')
    with pytest.raises(UsageError, match=r'--xm_shared=/b: experiment 1 has .* files are in /a'):
        keep(XM_SHARED='/b')
    assert environment() == {'XM_SHARED': '/a'}
    assert keep() == {'XM_SHARED': '/a'}


def test_the_home_is_a_shared_folder_like_any_other(lab, keep):
    keep()
    lab.add('running', backend='slurm')
    with pytest.raises(UsageError, match=f'files are in {lab.home.path}'):
        keep(XM_SHARED='/b')
