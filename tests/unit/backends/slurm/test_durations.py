"""Slurm's way to write how long something takes."""

import pytest

from xmanager.backends.slurm.durations import minutes_for, seconds_of


@pytest.mark.parametrize(
    'text', ['', '-', '1:', ':5', '1-', '1:2:3:4', '1-1:1:1:1', '٣', ' 5', '-5']
)
def test_what_slurm_would_not_read_is_no_duration(text):
    with pytest.raises(ValueError, match='no duration'):
        seconds_of(text)


@pytest.mark.parametrize(
    ('text', 'seconds'), [('5', 300), ('5:30', 330), ('1:5:30', 3930), ('2-12', 216000)]
)
def test_a_duration_is_minutes_unless_more_is_said(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(('seconds', 'minutes'), [(0.1, 1), (60, 1), (61, 2), (3600, 60)])
def test_minutes_are_never_shorter_than_asked_for(seconds, minutes):
    assert minutes_for(seconds) == minutes
