import pytest


def test_what_did_not_complete_is_restarted(run, lab, supervisor):
    lab.experiment('failed', 'completed', 'lost', 'running', 'stopped')
    assert run('restart', 1) == (
        0,
        'restarting 3 units of experiment 1 (1 failed, 1 lost, 1 stopped); '
        'to wait for them: xmanager wait 1\n',
        '',
    )
    assert lab.states(1) == ['queued', 'completed', 'queued', 'running', 'queued']
    assert lab.store.unit_by_label(1, '1').attempt == 2
    assert supervisor == [1]


def test_completed_units_are_restarted_on_demand(run, lab, supervisor):
    lab.experiment('failed', 'completed')
    assert run('restart', 1, '--all').out.startswith('restarting 2 units of experiment 1')
    assert lab.states(1) == ['queued', 'queued']


def test_one_unit_can_be_restarted(run, lab, supervisor):
    lab.experiment('failed', 'failed')
    assert run('restart', '1.2').out == (
        'restarting unit 1.2, which was failed; to follow it: xmanager logs 1.2 -f\n'
    )
    assert lab.states(1) == ['failed', 'queued']


@pytest.mark.parametrize(
    ('where', 'sentence'),
    [
        (
            '1',
            'nothing to restart in 1: 1 completed, 1 running (--all restarts the completed ones too)',
        ),
        ('1.1', 'nothing to restart in 1.1: 1 completed (--all restarts the completed ones too)'),
        ('1.2', 'nothing to restart in 1.2: 1 running'),
        ('2', 'nothing to restart in 2: no units'),
    ],
)
def test_with_nothing_to_restart_it_says_so(run, lab, supervisor, where, sentence):
    lab.experiment('completed', 'running')
    lab.experiment()
    assert run('restart', where) == (0, f'{sentence}\n', '')
    assert supervisor == []
