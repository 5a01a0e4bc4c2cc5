"""What is packaged for a cluster, as a user sees it: kept where nodes see it, for them and beside what runs here."""

from pathlib import Path

import pytest

MIXED = """
    import pathlib
    from xmanager import xm, xm_local

    code = pathlib.Path('code')
    code.mkdir(exist_ok=True)
    (code / 'where.py').write_text("import sys; print(__file__, *sys.argv[1:])")

    with xm_local.create_experiment('mixed') as experiment:
        here, there = (
            xm.python_package(spec, str(code), entrypoint=xm.ModuleName('where'))
            for spec in (xm_local.Local.Spec(), xm_local.Slurm.Spec())
        )
        shell = xm.binary(xm_local.Slurm.Spec(), path='/bin/sh', args=['-c', 'echo "$0"'])
        here, there, shell = experiment.package([here, there, shell])
        (code / 'where.py').write_text('raise SystemExit(1)')
        experiment.add(xm.Job(here, xm_local.Local(), name='job', args=['a b']))
        experiment.add(xm.Job(there, xm_local.Slurm(), name='job', args=['a b']))
        experiment.add(xm.Job(shell, xm_local.Slurm(), name='job', args=["$HOME 'x'"]))
"""

PACKAGED_FOR_LOCAL = """
    from xmanager import xm, xm_local

    with xm_local.create_experiment('local') as experiment:
        [echo] = experiment.package([xm.binary(xm_local.Local.Spec(), path='/bin/echo')])
        experiment.add(xm.Job(echo, xm_local.Slurm(), name='job', args=['hello']))
"""

PLANNED = """
    from xmanager import xm, xm_local

    with xm_local.create_experiment('planned') as experiment:
        [echo] = experiment.package([xm.binary(xm_local.Slurm.Spec(), path='/bin/echo')])
        executor = xm_local.Slurm(xm.JobRequirements(a100=1), partition='high', array_parallelism=8)
        for lr in range(100):
            experiment.add(xm.Job(echo, executor, name='job'), args={'args': {'lr': lr}})
"""


@pytest.fixture
def shared(slurm, desk) -> Path:
    """A folder that the nodes see, in which the home does not lie."""
    folder: Path = desk.home.with_name('shared')
    desk.environment |= {**slurm.variables, 'XM_SHARED': str(folder)}
    return folder


def test_code_for_both_is_packaged_in_one_call_and_runs_as_it_was(shared, desk):
    result = desk.launch(MIXED, '--xm_wait')
    assert result.code == 0, result.stderr
    assert desk.states() == ['completed'] * 3
    on_this_machine, on_a_node = (desk.log(unit).decode().split() for unit in '12')
    assert on_this_machine[1:] == on_a_node[1:] == ['a', 'b']
    assert Path(on_this_machine[0]).is_relative_to(desk.home)
    assert Path(on_a_node[0]).is_relative_to(shared)
    assert desk.log('3') == b"$HOME 'x'\n"


def test_the_code_that_ran_there_can_be_had_again(shared, desk):
    assert desk.launch(MIXED, '--xm_wait').code == 0
    del desk.environment['XM_SHARED']
    digest = desk.units()[1]['jobs'][0]['executable']['snapshot']
    restored = desk.xmanager('snapshot', 'restore', digest, 'again')
    assert restored.code == 0, restored.stderr
    assert 'print(__file__' in (desk.folder / 'again' / 'where.py').read_text()


def test_a_script_that_changed_its_executor_only_runs_where_nodes_see_the_home(slurm, desk):
    desk.environment |= slurm.variables
    result = desk.launch(PACKAGED_FOR_LOCAL, '--xm_wait')
    assert result.code == 0, result.stderr
    assert desk.log() == b'hello\n'


def test_else_it_is_told_what_to_change(shared, desk):
    result = desk.launch(PACKAGED_FOR_LOCAL)
    assert result.code == 1
    assert 'Package it for xm_local.Slurm.Spec().' in result.message


def test_a_dry_run_shows_what_slurm_would_be_told(slurm, desk):
    desk.environment |= slurm.variables
    result = desk.launch(PLANNED, '--xm_dry_run')
    assert result.code == 0, result.stderr
    command = 'sbatch --array=0-99%8 --partition=high --gres=gpu:a100:1 --no-requeue'
    assert f'  {command}  (units 1, 2, … 100)' in result.stdout.splitlines()
    assert slurm.command('squeue', '-h') == ''
    refused = desk.launch(PLANNED.replace("'high'", "'none'"), '--xm_dry_run')
    assert refused.code == 1
    assert 'invalid partition specified: none' in refused.message
