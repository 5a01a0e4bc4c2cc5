import pytest


def importance(lab, experiment_id=1):
    return [unit.importance for unit in lab.store.units(experiment_id)]


def test_an_experiment_is_moved_but_for_what_has_ended(run, lab, supervisor):
    lab.experiment('running', 'queued', 'queued', 'completed', 'failed')
    said = 'moved 3 units of experiment 1 to high; 2 had ended before\n'
    assert run('move', 1, '--importance', 'high') == (0, said, '')
    assert importance(lab) == [1, 1, 1, 0, 0]
    assert supervisor == [1]


def test_units_of_several_experiments_are_moved_at_once(run, lab, supervisor):
    lab.experiment('queued', 'queued', 'queued')
    lab.experiment('queued')
    assert run('move', '1.1', '2.1', '1.3', '1.1', '--importance', 'low').lines == [
        'moved 2 units of experiment 1 to low',
        'moved unit 2.1 to low',
    ]
    assert importance(lab) == [-1, 0, -1]
    assert importance(lab, 2) == [-1]
    assert supervisor == [1, 2]


def test_what_another_queue_has_is_said_to_keep_its_place(run, lab, supervisor):
    lab.experiment('queued')
    lab.submitted(1, 'waits: Priority', '')
    assert run('move', 1, '--importance', 'high').out == (
        'moved 3 units of experiment 1 to high; '
        '2 of them, in the queue of Slurm, keep their place there\n'
    )


def test_what_is_there_already_is_told_apart_and_wakes_nobody(run, lab, supervisor):
    lab.experiment('queued', 'queued', 'queued')
    run('move', '1.1', '1.2', '--importance', 'high')
    assert run('move', 1, '--importance', 'high').out == (
        'moved 1 unit of experiment 1 to high; 2 were so already\n'
    )
    assert supervisor == [1, 1]
    assert run('move', '1.1', '--importance', 'high').out == 'unit 1.1 is high already\n'
    assert supervisor == [1, 1]
    assert run('move', '1.1', '--importance', 'normal').out == 'moved unit 1.1 to normal\n'
    assert importance(lab) == [0, 1, 1]


@pytest.mark.parametrize(
    ('where', 'sentence'),
    [
        ('1', 'nothing to move in experiment 1: 2 units had ended before'),
        ('1.2', 'nothing to move in experiment 1: 1 unit had ended before'),
        ('2', 'experiment 2 has no units'),
    ],
)
def test_moving_what_has_ended_says_so(run, lab, supervisor, where, sentence):
    lab.experiment('completed', 'stopped')
    lab.experiment()
    assert run('move', where, '--importance', 'high') == (0, f'{sentence}\n', '')
    assert supervisor == []


def test_the_history_says_who_moved_a_unit(run, lab, supervisor):
    lab.experiment('queued')
    run('move', 1, '--importance', 'high')
    assert '(xmanager move)' in run('show', '1.1').lines[-1]


def test_nothing_is_moved_when_one_of_several_does_not_exist(run, lab, supervisor):
    lab.experiment('queued')
    code, _, err = run('move', 1, '2.1', '--importance', 'high')
    assert code == 1
    assert 'there is no experiment 2' in err
    assert importance(lab) == [0]
