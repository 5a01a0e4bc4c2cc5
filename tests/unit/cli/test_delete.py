import pytest


@pytest.fixture
def terminal(monkeypatch):
    """Answers as a user at a terminal would."""

    def answer(text):
        monkeypatch.setattr('sys.stdin.isatty', lambda: True, raising=False)
        monkeypatch.setattr('click.termui.visible_prompt_func', lambda _prompt: text)

    return answer


def ids(lab):
    return [record.id for record in lab.store.experiments()]


def test_experiments_are_deleted_with_their_folders(run, lab):
    folder = lab.experiment('completed').folder
    lab.experiment('failed')
    assert run('delete', 1, 2, '--yes') == (0, 'deleted experiment 1\ndeleted experiment 2\n', '')
    assert ids(lab) == []
    assert not folder.exists()


def test_active_units_forbid_it_and_nothing_is_deleted(run, lab):
    lab.experiment('completed')
    lab.experiment('running', 'queued', 'completed')
    code, out, err = run('delete', 1, 2, '--yes')
    assert (code, out) == (1, '')
    assert err == (
        'xmanager: experiment 2 cannot be deleted while units are active (1 running, 1 queued): '
        'xmanager stop 2 first\n'
    )
    assert ids(lab) == [2, 1]


def test_without_a_terminal_it_does_not_ask(run, lab):
    lab.experiment('completed')
    code, _, err = run('delete', 1)
    assert code == 2
    assert 'say --yes to delete without being asked' in err
    assert ids(lab) == [1]


@pytest.mark.parametrize(
    ('text', 'left', 'said'), [('y', [], 'deleted'), ('n', [1], 'kept'), ('', [1], 'kept')]
)
def test_at_a_terminal_it_asks(run, lab, terminal, text, left, said):
    lab.experiment('completed')
    terminal(text)
    assert run('delete', 1).out.splitlines()[-1] == f'{said} experiment 1'
    assert ids(lab) == left
