"""A job finds its checkpoints again in every attempt, and runs outside of an experiment as well."""

import pytest

from xmanager import track


@pytest.fixture
def outside(monkeypatch, tmp_path):
    for name in ('XM_OUTPUT_DIR', 'XM_ATTEMPT'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_checkpoints_are_in_the_output_folder_of_the_job(outside, tmp_path):
    outside.setenv('XM_OUTPUT_DIR', str(tmp_path / 'unit' / 'out'))
    folder = track.checkpoint_dir()
    assert folder == tmp_path / 'unit' / 'out' / 'checkpoints'
    assert folder.is_dir()


def test_the_next_attempt_finds_what_the_last_one_saved(outside, tmp_path):
    outside.setenv('XM_OUTPUT_DIR', str(tmp_path))
    (track.checkpoint_dir() / 'step').write_text('7')
    outside.setenv('XM_ATTEMPT', '2')
    assert (track.checkpoint_dir() / 'step').read_text() == '7'


@pytest.mark.parametrize('empty', [False, True])
def test_outside_of_an_experiment_they_are_in_the_current_folder(outside, tmp_path, empty):
    if empty:
        outside.setenv('XM_OUTPUT_DIR', '')
    assert track.checkpoint_dir() == tmp_path / 'checkpoints'
    assert (tmp_path / 'checkpoints').is_dir()


def test_a_file_in_the_way_is_named(outside, tmp_path):
    (tmp_path / 'checkpoints').touch()
    with pytest.raises(RuntimeError, match=rf'{tmp_path}/checkpoints is a file.*elsewhere'):
        track.checkpoint_dir()


def test_attempts_are_counted_from_one(outside):
    assert track.attempt() == 1
    outside.setenv('XM_ATTEMPT', '3')
    assert track.attempt() == 3


def test_an_attempt_that_is_no_number_is_named(outside):
    outside.setenv('XM_ATTEMPT', 'two')
    with pytest.raises(RuntimeError, match="XM_ATTEMPT='two' must be a number"):
        track.attempt()
