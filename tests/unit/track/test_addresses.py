"""A job learns where the other jobs of its unit run."""

import pytest

from xmanager import track


def test_hosts_are_told_by_job(monkeypatch):
    monkeypatch.setenv('XM_JOB_ADDRESSES', '{"learner": ["n1"], "actor": ["n2", "n3"]}')
    assert track.addresses() == {'learner': ['n1'], 'actor': ['n2', 'n3']}


@pytest.mark.parametrize('value', [None, ''])
def test_outside_of_a_job_there_are_none(monkeypatch, value):
    monkeypatch.delenv('XM_JOB_ADDRESSES', raising=False)
    if value is not None:
        monkeypatch.setenv('XM_JOB_ADDRESSES', value)
    assert track.addresses() == {}


@pytest.mark.parametrize('value', ['{', '[]', '3', '{"a": 3}'])
def test_what_was_changed_is_named(monkeypatch, value):
    monkeypatch.setenv('XM_JOB_ADDRESSES', value)
    with pytest.raises(RuntimeError, match=r'XM_JOB_ADDRESSES=.* must be JSON'):
        track.addresses()
