"""The local queue: who runs beside whom, and on which devices."""

from collections import Counter

from tests.acceptance.desk import GATED, running_together
from tests.acceptance.polling import until

SWEEP = """
    from shell_jobs import shell, xm, xm_local
    with xm_local.create_experiment('queue') as experiment:
        for requirements in REQUIREMENTS:
            needs = xm.JobRequirements(**requirements)
            experiment.add(shell(experiment, GATED, requirements=needs))
"""


def sweep(*requirements):
    return f'GATED = {GATED!r}\nREQUIREMENTS = {requirements!r}\n' + SWEEP.replace('\n    ', '\n')


def test_gpus_are_given_to_one_unit_at_a_time(start, desk):
    launcher = start(
        sweep(*[{'local_gpu': 2}] * 5, {'local_gpu': 0}), '--xm_local_resources=local_gpu=4,cpu=16'
    )
    # Unit 6 takes no GPU, so it delays nobody who waits for one.
    until(lambda: sorted(desk.started_units()) == ['1', '2', '6'])
    desk.open_gate()
    assert launcher.ended().code == 0
    together = list(running_together(desk.journal))
    assert max(map(len, together)) == 3
    for running in together:
        devices = ','.join(filter(None, running.values())).split(',')
        assert len(set(devices)) == len(devices) <= 4
    given = {unit: devices for running in together for unit, devices in running.items()}
    assert {unit: devices for unit, devices in given.items() if unit != '6'} == {
        unit: given[unit] for unit in '12345' if given[unit] in ('0,1', '2,3')
    }
    assert given['6'] == ''


def test_stated_cpus_are_honoured_and_nobody_overtakes_the_head_of_the_queue(start, desk):
    launcher = start(
        sweep({'cpu': 1}, {'cpu': 2}, {'cpu': 1}, {'cpu': 0.5}, {'cpu': 0.5}),
        '--xm_local_resources=cpu=2',
    )
    until(lambda: desk.started_units() == ['1'])
    until(lambda: desk.xmanager('show', '1').stdout.count('queued') >= 1)
    until(lambda: len(desk.units()) == 5)
    # Unit 3 would fit beside unit 1, but unit 2 came first.
    assert desk.states() == ['running', *['queued'] * 4]
    desk.open_gate()
    assert launcher.ended().code == 0
    assert desk.started_units()[:2] == ['1', '2']
    assert all(
        '2' not in running or len(running) == 1 for running in running_together(desk.journal)
    )


def test_as_many_units_run_at_once_as_there_are_cpus(start, desk):
    launcher = start(sweep(*[{}] * 7), '--xm_local_resources=cpu=3')
    until(lambda: len(desk.started_units()) == 3)
    until(lambda: Counter(desk.states()) == {'running': 3, 'queued': 4})
    assert sorted(desk.started_units()) == ['1', '2', '3']
    desk.open_gate()
    assert launcher.ended().code == 0
    assert max(map(len, running_together(desk.journal))) == 3
    assert Counter(desk.started_units()) == dict.fromkeys('1234567', 1)


def test_the_affinity_of_the_launcher_limits_the_queue(start, desk):
    script = 'import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n' + sweep(
        *[{}] * 3
    )
    launcher = start(script)
    until(lambda: desk.started_units() == ['1'])
    until(lambda: desk.states() == ['running', 'queued', 'queued'])
    desk.open_gate()
    assert launcher.ended().code == 0
    assert desk.started_units() == ['1', '2', '3']
    assert max(map(len, running_together(desk.journal))) == 1


def test_a_group_waits_until_all_its_jobs_fit(start, desk):
    launcher = start(
        f"""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('gang') as experiment:
            one = xm.JobRequirements(cpu=1)
            experiment.add(shell(experiment, {GATED!r}, requirements=one))
            both = shell(experiment, 'echo start group >>journal', requirements=one, name='')
            experiment.add(xm.JobGroup(left=both, right=both))
        """,
        '--xm_local_resources=cpu=2',
    )
    until(lambda: desk.started_units() == ['1'])
    until(lambda: desk.states() == ['running', 'queued'])
    desk.open_gate()
    assert launcher.ended().code == 0
    assert desk.journal == [
        ['start', '1'],
        ['end', '1'],
        ['start', 'group'],
        ['start', 'group'],
    ]


def test_hundreds_of_units_pass_through_a_narrow_queue_in_order(launch, desk):
    result = launch(
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('many') as experiment:
            job = shell(experiment, 'echo start $XM_WORK_UNIT_ID >>journal')
            for _ in range(300):
                experiment.add(job)
        """,
        '--xm_local_resources=cpu=1',
    )
    assert result.code == 0
    assert desk.started_units() == [str(number) for number in range(1, 301)]
    assert desk.experiment()['counts'] == {'completed': 300}
