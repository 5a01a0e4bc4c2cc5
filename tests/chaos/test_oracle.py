"""The oracle of the chaos test notices what it is there for, and excuses what nobody could help."""

import pytest
from tests.chaos.model import Behaviour, Launch, Plan, PlannedJob, PlannedUnit
from tests.chaos.oracle import Deeds, Oracle, complaints

from xmanager.backend import TaskObservation
from xmanager.store import (
    COMPLETED,
    FAILED,
    LOST,
    RUNNING,
    STARTING,
    STOPPED,
    Change,
    Home,
    NewExperiment,
    Store,
)
from xmanager.testing.store_fixtures import a_task, a_unit

GOOD = 'start 1 100\nend 1 0\n'
BAD = 'start 1 100\nend 1 7\n'
UNIT = (1, '1')


@pytest.fixture
def told(tmp_path):
    """`told(state, lines, deeds)`: the complaints of a unit of one job that ended so by the store and so by its job."""
    oracle = Oracle(tmp_path / 'oracle')
    oracle.folder.mkdir()
    job = PlannedJob('job0', (Behaviour('exit', 0, 0.1),), {})
    unit = PlannedUnit((job,), 'normal')
    plan = Plan(0, 2, 0, (Launch('chaos-0', (unit,), False, '', False),), ())

    def told(state, lines, deeds=None, exit_code=None):
        (oracle.folder / '1.1.job0').write_text(lines)
        with Store.open(Home(tmp_path / 'home')) as store:
            experiment = store.create_experiment(NewExperiment('chaos-0', 'user', 'host'))
            [(unit, _)] = store.add_units(
                experiment.id, [a_unit(tasks=(a_task('job0'),))], actor='test'
            )
            ends = {'job0': TaskObservation('exited', exit_code=exit_code)} if state else {}
            for to in (STARTING, RUNNING, state):
                tasks = ends if to == state else {}
                store.move([Change(unit.id, to, tasks=tasks)] if to else [], actor='test')
            return ' '.join(complaints(plan, deeds or Deeds(), oracle, store))

    return told


def deeds(stopped=False, bereft=False):
    found = Deeds()
    found.stops[UNIT] += stopped
    found.runners_killed |= {UNIT} if bereft else set()
    return found


@pytest.mark.parametrize(
    ('state', 'lines', 'exit_code', 'what'),
    [
        (COMPLETED, GOOD, 0, deeds()),
        (FAILED, BAD, 7, deeds()),
        (STOPPED, 'start 1 100\n', None, deeds(stopped=True)),
        (STOPPED, '', None, deeds(stopped=True)),
        (LOST, 'start 1 100\n', None, deeds(bereft=True)),
        (LOST, GOOD, None, deeds(bereft=True)),
    ],
)
def test_nothing_is_wrong_with_what_agrees(told, state, lines, exit_code, what):
    assert told(state, lines, what, exit_code) == ''


@pytest.mark.parametrize(
    ('state', 'lines', 'exit_code', 'complaint'),
    [
        ('', GOOD, None, 'it has not ended'),
        (COMPLETED, 'start 1 100\n', 0, 'the jobs tell of these ends'),
        (COMPLETED, BAD, 0, 'the jobs tell of these ends'),
        (COMPLETED, GOOD + 'start 1 101\n', 0, 'job0 started 2 times in attempt 1'),
        (COMPLETED, GOOD + 'start 2 101\n', 0, 'job0 ran in attempt 2'),
        (COMPLETED, GOOD + 'clash 1 0\n', 0, 'job0: clash 1 0'),
        (COMPLETED, GOOD, 7, 'job0 ended with 0, and 7 was recorded'),
        (FAILED, GOOD, 7, 'all its jobs have ended well'),
        (FAILED, 'start 1 100\n', 7, 'none of its jobs has failed'),
        (FAILED, BAD, 8, 'job0 ended with 7, and 8 was recorded'),
        (STOPPED, GOOD, None, 'nobody asked it to stop'),
        (LOST, BAD, None, 'somebody could know how it ended'),
    ],
)
def test_what_does_not_agree_is_noticed(told, state, lines, exit_code, complaint):
    assert complaint in told(state, lines, exit_code=exit_code)
