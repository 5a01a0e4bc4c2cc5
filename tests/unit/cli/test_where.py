import os

import pytest


def test_folders_are_printed(run, lab):
    record = lab.experiment('queued')
    assert run('where', '1').out == f'{record.folder}\n'
    assert run('where', '1.1').out == f'{record.folder}/1\n'
    assert run('where', '1.1.train').out == f'{record.folder}/1/train\n'


@pytest.mark.parametrize(
    ('where', 'sentence'),
    [('2', 'no experiment 2'), ('1.2', 'no unit 2'), ('1.1.x', 'no job x: it has train')],
)
def test_what_is_not_there_has_no_folder(run, lab, where, sentence):
    lab.experiment('queued')
    code, out, err = run('where', where)
    assert (code, out) == (1, '')
    assert sentence in err


def test_a_path_that_is_no_text_is_printed_as_it_is(start, lab, monkeypatch):
    lab.experiment()
    strange = os.fsencode(lab.home.path) + b'\xff'
    os.rename(lab.home.path, strange)
    monkeypatch.setenv('XM_HOME', os.fsdecode(strange))
    out, _ = start('where', 1).communicate(timeout=30)
    assert out == strange + b'/experiments/1\n'
