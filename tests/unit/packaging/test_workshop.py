"""Where what is packaged is kept: in the home, or where the machines of a cluster see it."""

from pathlib import Path

import pytest

from xmanager import xm, xm_local
from xmanager.packaging import Workshop
from xmanager.packaging.workshop import shared_home

HOME = Path('/home/ada/.xmanager')


def home_of(spec, environ):
    packageable = xm.binary(spec, '/bin/true')
    return Workshop(HOME, environ).where_it_runs(packageable).home


@pytest.mark.parametrize('shared', ['', '/home/ada', '/home/ada/.xmanager', '/'])
def test_a_home_that_the_nodes_see_serves_for_them_too(shared):
    assert home_of(xm_local.Slurm.Spec(), {'XM_SHARED': shared}) == HOME


def test_else_there_is_a_place_for_this_home_below_what_the_nodes_see():
    mine = home_of(xm_local.Slurm.Spec(), {'XM_SHARED': '/scratch/ada'})
    assert mine.parent == Path('/scratch/ada/homes')
    other = shared_home(Path('/home/ada/other'), {'XM_SHARED': '/scratch/ada'})
    assert other.parent == mine.parent
    assert other != mine


def test_what_runs_on_this_machine_stays_in_the_home():
    assert home_of(xm_local.Local.Spec(), {'XM_SHARED': '/scratch/ada'}) == HOME
