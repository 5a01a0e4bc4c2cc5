"""Units on a Slurm cluster as a user launches them: the script of one machine, with `Slurm` where `Local` stood."""

import json
import signal

import pytest
from tests.acceptance.desk import GATED
from tests.acceptance.living import supervisors_of
from tests.acceptance.polling import until

SWEEP = """
    from xmanager import xm, xm_local

    with xm_local.create_experiment('sweep') as experiment:
        spec = xm_local.Slurm.Spec()
        [sh] = experiment.package([xm.binary(spec, path='/bin/sh', args=['-c', COMMAND, 'sh'])])

        def job(*args, name='job', **options):
            options.setdefault('requirements', xm.JobRequirements(cpu=1, ram=16 * xm.MiB))
            return xm.Job(sh, xm_local.Slurm(**options), name=name, args=list(args))

        for i in range(COUNT):
            experiment.add(job(str(i)))
"""


def sweep(command, count=1, more=''):
    script = f'COMMAND = {command!r}\nCOUNT = {count}\n' + SWEEP.replace('\n    ', '\n')
    return script + ''.join(f'    {line}\n' for line in more.splitlines())


@pytest.fixture
def cluster(slurm, desk):
    """The cluster to which this desk's machine submits."""
    desk.environment |= slurm.variables
    return slurm


@pytest.fixture
def full(cluster):
    """All nodes are taken, until `full()` is called."""
    job = cluster.submit('sleep 600', '--partition=low', '--nodes=4', '--exclusive')
    until(lambda: cluster.state(job) == 'RUNNING')
    return lambda: cluster.command('scancel', job)


def jobs(cluster):
    """The numbers of the jobs that wait or run; arrays once."""
    return set(cluster.command('squeue', '-h', '-o', '%F').split())


def test_a_sweep_is_one_job_array_and_the_launcher_leaves(cluster, launch, xmanager, desk):
    result = launch(sweep('echo $0 $1 on $SLURM_JOB_ID', 30))
    assert result.code == 0, result.stderr
    assert result.stdout == ''
    *_, last = result.stderr.splitlines()
    assert last.startswith('experiment 1: 30 units submitted to Slurm (job ')
    assert xmanager('wait', '1').stdout == '1: 30 completed\n'
    assert desk.log('7').startswith(b'sh 6 on ')
    references = {unit['reference'].partition('_')[0] for unit in desk.units()}
    assert len(references) == 1
    assert f'(job {references.pop()})' in last
    [unit, *_] = desk.units()
    assert (unit['backend'], unit['attempt'], unit['jobs'][0]['exit_code']) == ('slurm', 1, 0)


def test_with_wait_the_launcher_shows_the_output_and_sums_up(cluster, launch):
    result = launch(sweep('echo one; echo two >&2; exit $1', 2), '--xm_wait')
    assert result.code == 1
    assert sorted(result.stdout.splitlines()) == [
        '[1 job] one',
        '[1 job] two',
        '[2 job] one',
        '[2 job] two',
    ]
    assert 'unit 1 completed' in result.stderr
    assert 'unit 2 failed' in result.stderr
    assert 'job job exited with code 1: two' in result.stderr
    assert 'experiment 1: 1 completed, 1 failed in ' in result.stderr
    assert 'submitted to' not in result.stderr


def test_a_script_may_wait_for_its_units(cluster, launch, desk):
    script = """
        import asyncio
        from xmanager import xm, xm_local

        async def main():
            async with xm_local.create_experiment('awaited') as experiment:
                spec = xm.binary(xm_local.Slurm.Spec(), path='/bin/sh', args=['-c', 'echo here'])
                [sh] = experiment.package([spec])
                unit = await experiment.add(xm.Job(sh, xm_local.Slurm(), name='job'))
                await unit.wait_until_complete()
                print('it printed', unit.jobs[0].log_path.read_text().strip())

        asyncio.run(main())
    """
    result = launch(script)
    assert result.code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == 'it printed here'
    assert 'submitted to' not in result.stderr


def test_what_slurm_would_never_run_is_refused_at_add_in_its_words(cluster, launch, desk):
    result = launch(sweep('true', 0, "experiment.add(job(partition='nosuch'))"))
    assert result.code == 1
    assert 'Invalid partition name specified' in result.stderr
    assert '--partition=nosuch' in result.stderr
    assert 'Traceback' not in result.stderr
    assert desk.units() == []
    assert jobs(cluster) == set()


def test_arguments_arrive_byte_for_byte(cluster, launch, xmanager, desk):
    words = ['', 'a b', '"\'`$HOME$(id)', '-n', 'two\nlines\n', 'ünï ✓', '\\', '*', '%A_%a']
    result = launch(sweep('printf \'%s\\0\' "$@"', 0, f'experiment.add(job(*{words!r}))'))
    assert result.code == 0, result.stderr
    assert xmanager('wait', '1').code == 0
    assert desk.log().decode().split('\0')[:-1] == words


def test_what_waits_in_slurm_is_told_with_its_reason_and_can_be_stopped(
    cluster, full, launch, xmanager, desk
):
    assert launch(sweep('echo never', 3)).code == 0
    until(lambda: 'waits: ' in xmanager('show', '1').stdout)
    out = xmanager('show', '1').stdout
    assert ' 3: 3 waiting\n' in out
    assert xmanager('list').stdout.splitlines()[1].split()[2:6] == ['queued', '3:', '3', 'waiting']
    line = xmanager('queue').stdout.splitlines()[0]
    assert line.startswith('experiment 1 unit 1 and 2 more like it wait in Slurm since ')
    [told] = xmanager('queue', '--json').json['waiting']
    assert line.endswith(f': {told["engine_reason"]}')
    assert told['engine_reason'] in ('Priority', 'Resources')
    assert xmanager('stop', '1.2').code == 0
    assert xmanager('wait', '1.2').stdout == '1.2: 1 stopped\n'
    until(lambda: desk.states() == ['starting', 'stopped', 'starting'])
    assert xmanager('stop', '1').code == 0
    assert xmanager('wait', '1').stdout == '1: 3 stopped\n'
    assert len(jobs(cluster)) == 1
    full()


def test_ctrl_c_stops_what_waits_and_what_runs(cluster, start, desk):
    launcher = start(sweep(GATED, 2), '--xm_wait')
    until(lambda: len(desk.started_units()) == 2)
    until(lambda: desk.states() == ['running', 'running'])
    launcher.send(signal.SIGINT)
    result = launcher.ended()
    assert result.code != 0
    assert 'experiment 1: 2 stopped in ' in result.stderr
    assert desk.states() == ['stopped', 'stopped']
    until(lambda: jobs(cluster) == set())


def test_local_units_and_those_of_slurm_share_an_experiment(cluster, launch, xmanager, desk):
    more = 'experiment.add(xm.Job(sh, xm_local.Local(), name="local", args=["x"]))'
    result = launch(sweep('echo here', 1, more))
    assert result.code == 0, result.stderr
    assert 'unit 2 completed' in result.stderr
    assert 'experiment 1: 1 unit submitted to Slurm' in result.stderr
    assert xmanager('wait', '1').stdout == '1: 2 completed\n'


def test_another_supervisor_finds_what_was_submitted_and_nothing_runs_twice(
    cluster, launch, xmanager, desk
):
    assert launch(sweep(GATED, 3)).code == 0
    until(lambda: len(desk.started_units()) == 3)
    desk.kill_supervisor()
    assert 'nobody supervises experiment 1' in xmanager('show', '1').stderr
    waiter = desk.start_command(['xmanager', 'wait', '1'])
    desk.open_gate()
    assert waiter.ended().stdout == '1: 3 completed\n'
    assert sorted(desk.started_units()) == ['1', '2', '3']


def test_a_supervisor_on_demand_leaves_and_comes_when_somebody_looks(
    cluster, launch, xmanager, home, desk
):
    assert launch(sweep(GATED, 2), '--xm_supervise=on-demand').code == 0
    until(lambda: len(desk.started_units()) == 2)
    until(lambda: not supervisors_of(home))
    until(lambda: desk.states() == ['running', 'running'])
    assert xmanager('show', '1').stderr == ''
    assert 'running' in xmanager('list').stdout
    desk.open_gate()
    assert xmanager('wait', '1').stdout == '1: 2 completed\n'


def test_a_preempted_unit_goes_on_with_its_files(cluster, launch, xmanager, desk):
    command = 'ls $XM_OUTPUT_DIR; touch $XM_OUTPUT_DIR/saved.$XM_ATTEMPT; ' + GATED
    options = "max_restarts=2, partition='low', exclusive=True"
    assert launch(sweep(command, 0, f'experiment.add(job({options}))')).code == 0
    until(lambda: desk.states() == ['running'])
    until(lambda: len(desk.started_units()) == 1)
    urgent = cluster.submit('sleep 0.1', '--partition=high', '--nodes=4', '--exclusive')
    until(lambda: cluster.state(urgent) == 'COMPLETED')
    until(lambda: len(desk.started_units()) == 2)
    desk.open_gate()
    assert xmanager('wait', '1').code == 0
    [unit] = desk.units()
    assert unit['attempt'] == 2
    assert desk.log() == b'saved.1\n'
    assert xmanager('logs', '1.1', '--attempt', '1').code == 0
    history = xmanager('show', '1.1', '--json').json['unit']['history']
    assert [move['to'] for move in history].count('restarting') == 1
    assert any('restart 1 of 2' in move['why'] for move in history)


def test_a_group_starts_together_and_its_jobs_know_where_the_others_are(
    cluster, launch, xmanager, desk
):
    more = (
        "experiment.add(xm.JobGroup(learner=job(name='learner', exclusive=True), "
        "actor=job(name='actor', exclusive=True, nodes=2)))"
    )
    result = launch(sweep('echo "$XM_JOB_ADDRESSES"', 0, more))
    assert result.code == 0, result.stderr
    assert xmanager('wait', '1').code == 0
    addresses = json.loads(desk.log(job='learner'))
    assert {name: len(hosts) for name, hosts in addresses.items()} == {'learner': 1, 'actor': 2}
    # How Slurm itself reaches its nodes, which here are all on one machine.
    assert {*addresses['learner'], *addresses['actor']} == {'127.0.0.1'}


def test_slurm_being_down_fails_no_unit(cluster, start, xmanager, desk):
    cluster.kill_controller()
    launcher = start(sweep('echo here', 3), '--xm_wait')
    until(lambda: 'units wait: ' in launcher.stderr or not launcher.is_running)
    assert launcher.is_running, launcher.stderr
    cluster.start_controller()
    result = launcher.ended()
    assert result.code == 0, result.stderr
    assert desk.states() == ['completed'] * 3


def test_a_later_shell_whose_settings_make_no_sense_loses_no_unit(
    cluster, launch, xmanager, home, desk
):
    more = 'experiment.add(xm.Job(sh, xm_local.Local(), name="local", args=["x"]))'
    assert launch(sweep(GATED, 1, more), '--xm_detach').code == 0
    until(lambda: len(desk.started_units()) == 2)
    desk.kill_supervisor()
    waiter = desk.start_command(['xmanager', 'wait', '1'], {'XM_SLURM_QOS': 'nonsense'})
    desk.open_gate()
    result = waiter.ended()
    assert result.code == 1
    assert 'supervisor.log says why' in result.stderr
    assert '--xm_slurm_qos=nonsense' in (home / 'experiments/1/supervisor.log').read_text()
    assert desk.states()[1] == 'completed'
    assert xmanager('wait', '1').stdout == '1: 2 completed\n'


def test_what_is_deleted_is_gone_from_the_shared_folder_too(
    cluster, launch, xmanager, desk, tmp_path
):
    shared = tmp_path / 'scratch'
    desk.environment['XM_SHARED'] = str(shared)
    assert launch(sweep('echo here', 2)).code == 0
    assert xmanager('wait', '1').stdout == '1: 2 completed\n'
    assert len([*(shared / 'experiments').glob('*/*/job/output.log')]) == 2
    assert xmanager('delete', '1', '--yes').code == 0
    assert [*(shared / 'experiments').iterdir()] == []
