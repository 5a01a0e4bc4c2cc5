"""The examples on a cluster: the name of the executor is all that changes."""

import shutil
from pathlib import Path

import pytest
from tests.acceptance.desk import Desk
from tests.acceptance.polling import until
from tests.engines.slurm import Cluster

EXAMPLES = Path(__file__).parents[2] / 'examples'


def copied(example: str, desk: Desk, **changes: str) -> Path:
    """The launch script of an example for a cluster; `changes` are further replacements in it."""
    folder = desk.folder / example
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns('__pycache__'))
    script = folder / 'launcher.py'
    text = script.read_text().replace('xm_local.Local', 'xm_local.Slurm')
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    script.write_text(text)
    return script


@pytest.mark.parametrize('example', ['actor_learner', 'pipeline'])
def test_an_example_runs_on_a_cluster(slurm: Cluster, desk: Desk, example: str):
    result = desk.run('xmanager', 'launch', copied(example, desk))
    assert result.code == 0, result.stderr
    assert desk.xmanager('wait', '1').code == 0
    units = desk.xmanager('show', '1', '--json').json['experiment']['units']
    assert {unit['state'] for unit in units} == {'completed'}


def test_training_goes_on_from_its_checkpoint_after_a_preemption(slurm: Cluster, desk: Desk):
    script = copied(
        'digits',
        desk,
        **{
            'LEARNING_RATES = (0.0003, 0.003, 0.03)': 'LEARNING_RATES = (0.003,)',
            'WIDTHS = (16, 64)': 'WIDTHS = (16,)',
            'SEEDS = (1, 2)': 'SEEDS = (1,)',
            "'seed': seed}": "'seed': seed, 'epochs': 60}",
        },
    )
    launched = desk.start_command(['xmanager', 'launch', script], {})
    folder = desk.home / 'experiments' / '1' / '1' / 'train'
    log, first_log = folder / 'output.log', folder / 'output.1.log'
    until(lambda: log.exists() and 'epoch  5' in log.read_text())
    urgent = slurm.submit('true', '--partition=high', '--nodes=4', '--exclusive')
    until(lambda: slurm.state(urgent) == 'COMPLETED')
    result = launched.ended(120)
    assert result.code == 0, result.stderr
    assert 'epoch  5' in first_log.read_text()
    [goes_on, *_] = [line for line in log.read_text().splitlines() if 'goes on' in line]
    assert int(goes_on.split()[-1]) >= 5
    assert 'epoch  1 ' not in log.read_text()
    unit = desk.xmanager('show', '1.1', '--json').json['unit']
    assert (unit['state'], unit['attempt']) == ('completed', 2)
