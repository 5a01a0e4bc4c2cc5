"""`xmanager supervise`."""

from xmanager.store.presence import Presence
from xmanager.supervise.tenure import holder_of


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


def test_an_experiment_of_a_machine_that_is_no_more_is_taken_over(run, lab, supervisor):
    lab.experiment('running', 'queued')
    lab.store.claim(1, 'machine-b bob /home/xm', -1.0)
    assert run('supervise', 1, '--here').out == (
        'experiment 1 is supervised: 1 running, 1 queued\n'
    )
    assert lab.store.holder(1).name == holder_of(lab.store.home)
    assert supervisor == [1]


def test_a_supervisor_that_is_alive_is_left_alone(run, lab, supervisor):
    lab.experiment('running')
    lease = lab.store.claim(1, holder_of(lab.store.home), 30.0)
    lock = Presence(lab.store.home.experiment_folder(1)).supervise()
    assert 'experiment 1 is supervised already: ' in run('supervise', 1, '--here').out
    assert lab.store.renew(lease, 30.0)
    assert lock is not None
    lock.release()
    assert supervisor == []


def test_a_supervisor_on_another_machine_is_left_alone(run, lab, supervisor):
    lab.experiment('running')
    lab.store.claim(1, 'machine-b bob /home/xm', 30.0)
    assert run('supervise', 1, '--here').out == (
        'experiment 1 is supervised already: machine-b bob /home/xm\n'
    )
    assert supervisor == []
