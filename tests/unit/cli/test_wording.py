import pytest

from xmanager.cli import wording


@pytest.mark.parametrize(
    ('seconds', 'said'),
    [(-5, '0s ago'), (5, '5s ago'), (119, '1m ago'), (7300, '2h ago'), (86400 * 29, '29d ago')],
)
def test_an_age_is_told_by_its_largest_unit(seconds, said):
    assert wording.age(1e9 - seconds, 1e9) == said


def test_an_old_age_is_a_date():
    assert wording.age(1e9 - 86400 * 40, 1e9) == wording.day(1e9 - 86400 * 40)


def test_times_for_programs_are_iso_8601_in_utc():
    assert wording.iso(1_770_000_000.1236) == '2026-02-02T02:40:00.123Z'


def test_counts_tell_the_total_and_each_state():
    assert wording.counts({'failed': 2, 'completed': 1010}) == '1,012: 1,010 completed, 2 failed'
    assert wording.counts({}) == '0'
