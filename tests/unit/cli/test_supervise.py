def test_an_experiment_with_active_units_gets_a_supervisor(run, lab, supervisor):
    lab.experiment('running', 'queued', 'completed')
    assert run('supervise', 1) == (0, 'experiment 1 is supervised: 1 running, 1 queued\n', '')
    assert supervisor == [1]


def test_a_request_that_nobody_has_read_needs_one_too(run, lab, supervisor):
    lab.experiment('failed')
    lab.store.request(1, [1], 'restart', actor='somebody')
    assert run('supervise', 1).out == 'experiment 1 is supervised: a request\n'
    assert lab.states(1) == ['queued']


def test_an_experiment_that_has_ended_needs_none(run, lab, supervisor):
    lab.experiment('completed')
    lab.experiment()
    assert run('supervise', 1, 2).lines == [
        'experiment 1 needs no supervisor: 1 completed',
        'experiment 2 needs no supervisor: no units',
    ]
    assert supervisor == []
