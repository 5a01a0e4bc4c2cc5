import pytest

from xmanager.store import AUXILIARY


@pytest.mark.parametrize(
    ('states', 'code', 'sentence'),
    [
        (['completed', 'completed'], 0, '1: 2 completed'),
        (['completed', 'failed'], 1, '1: 1 completed, 1 failed'),
        (['stopped'], 1, '1: 1 stopped'),
        (['lost'], 1, '1: 1 lost'),
        ([], 1, '1: no units'),
    ],
)
def test_the_exit_code_tells_whether_all_have_completed(
    run, lab, supervisor, states, code, sentence
):
    lab.experiment(*states)
    assert run('wait', 1) == (code, f'{sentence}\n', '')
    assert supervisor == []


def test_auxiliary_units_are_not_judged_unless_there_is_nothing_else(run, lab):
    lab.add(lab.experiment('completed').id, 'stopped', kind=AUXILIARY)
    assert run('wait', 1) == (0, '1: 1 completed, 1 stopped\n', '')
    lab.add(lab.experiment().id, 'stopped', kind=AUXILIARY)
    assert run('wait', 2).code == 1


def test_it_waits_until_the_last_unit_has_ended_and_wakes_the_supervisor(run, lab, monkeypatch):
    lab.experiment('running', 'queued')
    monkeypatch.setattr('xmanager.launch.wake', lambda _home, _id: None)
    steps = iter([(1, 'completed'), (2, 'starting'), (2, 'running'), (2, 'completed')])

    def sleep(_seconds):
        unit_id, state = next(steps)
        lab.move(lab.store.unit(unit_id), state)

    monkeypatch.setattr('xmanager.cli.waiting.time.sleep', sleep)
    assert run('wait', 1) == (0, '1: 2 completed\n', '')


def test_it_waits_for_a_restart_that_was_asked_for(run, lab, monkeypatch):
    lab.experiment('failed')
    lab.store.request(1, [1], 'restart', actor='somebody')
    woken = []
    monkeypatch.setattr('xmanager.launch.wake', lambda _home, id: woken.append(id))

    def sleep(_seconds):
        (request,) = lab.store.requests(1)
        for state in ('restarting', 'queued', 'starting', 'running', 'completed'):
            lab.move(lab.store.unit(1), state)
        lab.store.finish_requests([request.id])

    monkeypatch.setattr('xmanager.cli.waiting.time.sleep', sleep)
    assert run('wait', 1) == (0, '1: 1 completed\n', '')
    assert woken == [1]


def test_one_may_wait_for_single_units_of_several_experiments(run, lab):
    lab.experiment('completed', 'running')
    lab.experiment('failed')
    lab.experiment('completed')
    assert run('wait', '1.1', 3) == (0, '1.1: 1 completed\n3: 1 completed\n', '')
    assert run('wait', '1.1', 2).code == 1
