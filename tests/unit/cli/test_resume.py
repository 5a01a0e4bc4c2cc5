def test_resuming_wakes_the_supervisor_and_says_what_is_there_to_start(run, lab, supervisor):
    lab.experiment('running', 'queued', 'queued', 'completed')
    lab.experiment('queued')
    lab.store.set_paused(1, True, actor='test')
    assert run('resume', 1, 2).lines == [
        'resumed experiment 1: 1 running, 2 queued',
        'experiment 2 is not paused',
    ]
    assert lab.store.experiment(1).paused_at is None
    assert supervisor == [1]


def test_resuming_what_has_no_active_unit_starts_no_supervisor(run, lab, supervisor):
    lab.experiment('completed')
    lab.store.set_paused(1, True, actor='test')
    assert run('resume', 1).out == 'resumed experiment 1: no unit is active\n'
    assert supervisor == []


def test_nothing_is_resumed_when_one_of_several_does_not_exist(run, lab, supervisor):
    lab.experiment('queued')
    lab.store.set_paused(1, True, actor='test')
    assert run('resume', 1, 2).code == 1
    assert lab.store.experiment(1).paused_at is not None


def test_a_unit_cannot_be_resumed_alone(run, lab):
    lab.experiment('queued')
    assert 'resume takes whole experiments' in run('resume', '1.1').err
