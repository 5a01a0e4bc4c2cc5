"""What a site settles once: service tiers and importance as QOS and nice values, names of GPUs."""

import pytest

from xmanager.backends.slurm.preferences import Preferences
from xmanager.errors import UsageError


def test_nothing_said_means_nice_values_for_what_can_wait():
    usual = Preferences.of({})
    assert usual == Preferences()
    assert usual.nice_of('prod', 0) == usual.nice_of('prod', 1) == 0
    assert 0 < usual.nice_of('batch', 0) < usual.nice_of('freebie', 0)
    assert usual.nice_of('prod', -1) > 0


def test_tiers_have_the_qos_that_the_site_names_and_no_nice_value_beside_it():
    site = Preferences.of({'XM_SLURM_QOS': 'prod=high, BATCH=low'})
    assert site.qos == {'prod': 'high', 'batch': 'low'}
    assert site.nice_of('batch', 0) == 0
    assert site.nice_of('freebie', 0) > 0


def test_nice_values_of_tier_and_importance_add_up():
    site = Preferences.of({'XM_SLURM_NICE': 'batch=30,low=5,high=-7'})
    assert site.nice_of('batch', -1) == 35
    assert site.nice_of('prod', 1) == -7
    assert site.nice_of('freebie', 0) == Preferences().nice_of('freebie', 0)


def test_gpus_are_called_as_the_site_calls_them():
    site = Preferences.of({'XM_SLURM_GPU_TYPES': 'a100_80gib=a100-80,L4_24TH=l4'})
    assert site.gpu_types == {'a100_80gib': 'a100-80', 'l4_24th': 'l4'}


@pytest.mark.parametrize(
    ('variable', 'text', 'message'),
    [
        (
            'XM_SLURM_QOS',
            'high',
            r"--xm_slurm_qos=high: 'high' makes no sense.*prod=high,batch=low",
        ),
        ('XM_SLURM_QOS', 'best=high', 'with names from prod, batch, freebie'),
        ('XM_SLURM_QOS', 'prod=', 'makes no sense'),
        ('XM_SLURM_QOS', 'prod=a b', "'a b' is no name"),
        ('XM_SLURM_QOS', 'prod=-p', "'-p' is no name"),
        ('XM_SLURM_NICE', 'batch=x', 'batch=x is no nice value'),
        ('XM_SLURM_GPU_TYPES', 'gtx=gtx', 'makes no sense'),
    ],
)
def test_a_setting_that_makes_no_sense_is_explained(variable, text, message):
    with pytest.raises(UsageError, match=message):
        Preferences.of({variable: text})
