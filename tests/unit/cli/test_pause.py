def test_pausing_says_what_goes_on_and_what_waits(run, lab, supervisor):
    lab.experiment('running', 'queued', 'queued', 'completed')
    said = (
        'paused experiment 1: what runs goes on, what is queued waits (1 running, 2 queued); '
        'to let it start: xmanager resume 1\n'
    )
    assert run('pause', 1) == (0, said, '')
    assert lab.store.experiment(1).paused_at is not None
    assert lab.states(1) == ['running', 'queued', 'queued', 'completed']
    assert supervisor == [1]


def test_pausing_says_that_what_another_queue_has_may_start(run, lab, supervisor):
    lab.experiment('running', 'queued')
    lab.submitted(1, 'waits: Priority', '')
    assert run('pause', 1).out == (
        'paused experiment 1: what runs goes on, what is queued waits '
        '(1 running, 2 waiting, 1 queued); what waits in Slurm may start there; '
        'to let it start: xmanager resume 1\n'
    )


def test_pausing_again_changes_nothing_and_says_since_when(run, lab, supervisor):
    lab.experiment('queued')
    run('pause', 1)
    before = lab.store.experiment(1)
    lab.now += 5
    assert run('pause', 1).out.startswith('experiment 1 was paused ')
    assert lab.store.experiment(1).paused_at == before.paused_at


def test_an_experiment_without_active_units_can_be_paused_before_more_are_added(
    run, lab, supervisor
):
    lab.experiment('completed')
    assert run('pause', 1).out == (
        'paused experiment 1: no unit is active; one that is added or restarted waits; '
        'to let it start: xmanager resume 1\n'
    )
    assert supervisor == []


def test_nothing_is_paused_when_one_of_several_does_not_exist(run, lab, supervisor):
    lab.experiment('queued')
    code, _, err = run('pause', 1, 2)
    assert code == 1
    assert 'there is no experiment 2' in err
    assert lab.store.experiment(1).paused_at is None


def test_a_unit_cannot_be_paused_alone(run, lab):
    lab.experiment('queued')
    code, _, err = run('pause', '1.1')
    assert code == 2
    assert 'pause takes whole experiments, and 1.1 is a unit of one: write 1' in err
