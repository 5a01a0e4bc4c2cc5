"""What a waiting unit is known by before it may start."""

import pytest

from xmanager.backend import Task
from xmanager.supervise.admission import longest


def task(**options):
    return Task(name='job', full_name='', argv=('true',), cwd='/', options=options)


@pytest.mark.parametrize(
    ('tasks', 'seconds'),
    [
        ([task(timeout=60.0)], 70.0),  # Ten seconds from TERM to KILL, unless stated.
        ([task(timeout=60.0, grace=None)], 70.0),
        ([task(timeout=60.0, grace=0.0)], 60.0),
        ([task(timeout=60.0, grace=5.0), task(timeout=90.0, grace=1.0)], 91.0),
        ([task(timeout=60.0), task()], None),
    ],
)
def test_a_unit_has_ended_when_the_last_of_its_jobs_is_killed_for_being_late(tasks, seconds):
    assert longest(tasks) == seconds
