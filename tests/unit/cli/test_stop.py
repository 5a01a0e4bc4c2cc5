import pytest


def test_stopping_an_experiment_says_what_happened(run, lab, supervisor):
    lab.experiment('running', 'queued', 'starting', 'completed', 'failed')
    code, out, err = run('stop', 1, '-m', 'diverges')
    assert (code, out, err) == (0, 'stopped 3 units of experiment 1; 2 had ended before\n', '')
    assert lab.states(1) == ['stopped', 'stopped', 'stopped', 'completed', 'failed']
    assert lab.store.unit_by_label(1, '1').message == 'diverges'
    assert supervisor == [1]


def test_one_unit_can_be_stopped(run, lab, supervisor):
    lab.experiment('running', 'running')
    assert run('stop', '1.2').out == 'stopped unit 1.2\n'
    assert lab.states(1) == ['running', 'stopped']


def test_units_of_several_experiments_can_be_stopped_at_once(run, lab, supervisor):
    lab.experiment('running', 'running', 'running')
    lab.experiment('queued')
    assert run('stop', '1.1', '1.3', '1.1', 2).lines == [
        'stopped 2 units of experiment 1',
        'stopped 1 unit of experiment 2',
    ]
    assert lab.states(1) == ['stopped', 'running', 'stopped']
    assert supervisor == [1, 2]


@pytest.mark.parametrize(
    ('where', 'sentence'),
    [
        ('1', 'experiment 1 had ended before: 1 completed, 1 stopped'),
        ('1.2', '1.2 had ended before: 1 stopped'),
        ('2', 'experiment 2 has no units'),
    ],
)
def test_stopping_what_has_ended_says_so_and_asks_for_nothing(
    run, lab, supervisor, where, sentence
):
    lab.experiment('completed', 'stopped')
    lab.experiment()
    assert run('stop', where) == (0, f'{sentence}\n', '')
    assert supervisor == []
    assert lab.store.requests(1) == []


def test_units_that_end_by_themselves_meanwhile_are_told_apart(run, lab, monkeypatch):
    lab.experiment('running', 'running')

    def wake(_home, _experiment_id):
        lab.move(lab.store.unit_by_label(1, '1'), 'completed')
        lab.move(lab.store.unit_by_label(1, '2'), 'stopped')

    monkeypatch.setattr('xmanager.launch.wake', wake)
    assert (
        run('stop', 1).out
        == 'stopped 1 unit of experiment 1; 1 completed before they could be stopped\n'
    )


def test_one_may_ask_without_waiting(run, lab, monkeypatch):
    lab.experiment('running', 'completed')
    monkeypatch.setattr('xmanager.launch.wake', lambda _home, _experiment_id: None)
    assert (
        run('stop', 1, '--no-wait').out
        == 'asked to stop 1 unit of experiment 1; 1 had ended before\n'
    )
    (request,) = lab.store.requests(1)
    assert (request.verb, request.unit_id, request.outcome) == ('stop', None, 'stopped')
    assert '(xmanager stop)' in request.actor


def test_an_interrupt_while_waiting_says_that_the_request_stands(run, lab, monkeypatch):
    lab.experiment('running')

    def wake(_home, _experiment_id):
        def interrupt(_seconds):
            raise KeyboardInterrupt

        monkeypatch.setattr('xmanager.cli.waiting.time.sleep', interrupt)

    monkeypatch.setattr('xmanager.launch.wake', wake)
    code, out, err = run('stop', 1)
    assert (code, out) == (130, '')
    assert err.strip() == 'xmanager: no longer waiting; the request to stop stands'
    assert len(lab.store.requests(1)) == 1


def test_nothing_is_stopped_when_one_of_several_does_not_exist(run, lab, supervisor):
    lab.experiment('running')
    code, _, err = run('stop', 1, '2.1')
    assert code == 1
    assert 'there is no experiment 2' in err
    assert lab.states(1) == ['running']
