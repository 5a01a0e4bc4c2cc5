"""What the fake back end offers to those who test a supervisor."""

import pytest

from xmanager.backend import Rejected, Submitted, Task, Unit
from xmanager.errors import ExecutorError
from xmanager.testing.fake_backend import FakeBackend, FakeEngine, Outcome


@pytest.fixture
def make_unit(tmp_path):
    def make_unit(*argv, number=1, attempt=1, **requirements):
        task = Task('train', '', argv, '/', requirements=requirements)
        return Unit(
            1, str(number), attempt, f'k.{number}.{attempt}', tmp_path / str(number), (task,)
        )

    return make_unit


def submit(backend, unit, grant=None):
    (answer,) = backend.submit([backend.render(unit, grant or {})])
    return answer


def test_an_outcome_may_depend_on_the_attempt(make_unit):
    backend = FakeBackend(
        outcome=lambda unit, task: Outcome(exit_code=1 if unit.attempt == 1 else 0)
    )
    for attempt, code in ((1, 1), (2, 0)):
        unit = make_unit(attempt=attempt)
        ref = submit(backend, unit).ref
        assert backend.observe({ref: unit})[ref]['train'].exit_code == code


def test_time_passes_by_the_clock_that_was_given(make_unit):
    now = [100.0]
    backend = FakeBackend(clock=lambda: now[0])
    unit = make_unit('run', '5')
    ref = submit(backend, unit).ref
    assert backend.engine.running(now[0]) == {'1'}
    now[0] = 104.9
    assert backend.observe({ref: unit})[ref]['train'].state == 'running'
    now[0] = 105.0
    assert backend.observe({ref: unit})[ref]['train'].ended_at == 105.0
    assert backend.engine.running(now[0]) == set()


def test_a_fault_is_raised_once_by_the_verb_it_is_for(make_unit):
    backend = FakeBackend()
    backend.faults['submit'] = [ConnectionError('engine is away')]
    with pytest.raises(ConnectionError):
        submit(backend, make_unit('exit', '0'))
    assert isinstance(submit(backend, make_unit('exit', '0')), Submitted)


def test_one_key_is_submitted_once(make_unit):
    engine = FakeEngine()
    refs = {submit(FakeBackend(engine=engine), make_unit('run')).ref for _ in range(3)}
    assert len(refs) == len(engine.requests) == 1


def test_the_engine_remembers_what_it_was_asked(make_unit):
    backend = FakeBackend()
    unit, grant = make_unit('run'), {'train': {'local_gpu': ('1',)}}
    ref = submit(backend, unit, grant).ref
    backend.stop({ref: unit}, 5.0)
    assert [request.grant for request in backend.engine.requests] == [grant]
    assert backend.engine.stops == [(ref, 5.0)]


def test_an_unknown_command_is_rejected_and_a_vanishing_one_vanishes(make_unit):
    backend = FakeBackend()
    assert submit(backend, make_unit('nonsense')) == Rejected(
        "program 'nonsense' does not exist.", 'train'
    )
    unit = make_unit('vanish', number=2)
    ref = submit(backend, unit).ref
    assert backend.observe({ref: unit})[ref]['train'].state == 'vanished'


def test_what_can_never_fit_is_an_error(make_unit):
    backend = FakeBackend(amounts={'cpu': 2})
    backend.check(make_unit('run', cpu=2).tasks)
    with pytest.raises(ExecutorError, match='FakeBackend has 2 cpu, and 3 is asked for'):
        backend.check(make_unit('run', cpu=3).tasks)
    FakeBackend().check(make_unit('run', cpu=300).tasks)


def test_strangers_come_and_go_as_a_test_says():
    backend = FakeBackend(strangers={'local_gpu': ['1']})
    assert backend.strangers() == {'local_gpu': {'1'}}
    backend.others = {'local_gpu': ()}
    assert backend.strangers() == {} == FakeBackend().strangers()
