"""What would run is told before anything runs, and nothing has changed by it."""

import json

SWEEP = """
    import asyncio
    from xmanager import xm, xm_local
    from shell_jobs import shell

    async def later(unit, n):
        first = await unit.experiment.add(shell(unit.experiment, 'touch ran', name='first'))
        await first.wait_until_complete()
        unit.add(shell(unit.experiment, 'touch ran', n))

    async def main():
        async with xm_local.create_experiment('a sweep') as experiment:
            print('this is', experiment.experiment_id)
            job = shell(experiment, 'touch ran', env_vars={'HUB_TOKEN': xm.Secret('HUB_TOKEN')})
            for n in range(500):
                experiment.add(job, args={'args': {'n': n, 'password': 'hush'}})
            experiment.add(later, args={'n': 3})
            experiment.add(xm.AuxiliaryUnitJob(job, termination_delay_secs=1))
        print('left')

    asyncio.run(main())
"""


def test_a_launch_that_is_only_tried_tells_all_and_changes_nothing(desk):
    desk.write('launcher.py', SWEEP)
    result = desk.run('xmanager', 'launch', 'launcher.py', '--', '--xm_dry_run', HUB_TOKEN='hush')
    assert result.code == 0, result.stderr
    assert 'this is 0\n' in result.stdout
    assert 'a sweep  502 work units, 1 auxiliary unit\n' in result.stdout
    assert '  … and 500 more\n' in result.stdout
    assert "HUB_TOKEN='<secret HUB_TOKEN>'" in result.stdout
    assert result.stdout.endswith('left\n')
    assert 'hush' not in result.stdout + result.stderr
    assert not desk.home.exists()
    assert not desk.home.with_name('ledger').exists()
    assert not (desk.folder / 'ran').exists()


def test_python_alone_tries_it_as_well(desk):
    desk.write('launcher.py', SWEEP)
    result = desk.run('python', 'launcher.py', HUB_TOKEN='hush', XM_DRY_RUN='1')
    assert result.code == 0, result.stderr
    assert 'dry run: nothing was packaged, recorded or started\n' in result.stdout
    assert not desk.home.exists()


def test_a_program_reads_every_unit(desk):
    desk.write('launcher.py', SWEEP)
    words = ('package', 'launcher.py', '--dry-run', '--json')
    result = desk.run('xmanager', *words, HUB_TOKEN='hush')
    assert result.code == 0, result.stderr
    [experiment] = result.json['planned_experiments']
    assert len(experiment['units']) == 503
    [job] = experiment['units'][7]['jobs']
    assert job['argv'] == ['/bin/sh', '-c', 'touch ran', 'sh', '--n=7', '--password=***']
    assert job['takes'] == {'cpu': 1.0}
    assert 'hush' not in json.dumps(result.json)


def test_a_unit_that_could_never_run_is_told_as_a_launch_would(desk):
    text = SWEEP.replace("'touch ran', env", "'touch ran', cwd='/not/here', env")
    desk.write('launcher.py', text)
    results = [
        desk.run('xmanager', 'launch', 'launcher.py', '--', *flags, HUB_TOKEN='hush')
        for flags in ([], ['--xm_dry_run'])
    ]
    assert [result.code for result in results] == [1, 1]
    assert 'Make that folder, or set Local(cwd=...).' in results[1].stderr
    assert results[0].stderr == results[1].stderr


def test_packaging_for_good_records_and_starts_nothing(desk):
    desk.write('launcher.py', SWEEP)
    result = desk.run('xmanager', 'package', 'launcher.py')
    assert (result.code, result.stdout) == (0, 'sh  binary  /bin/sh\n'), result.stderr
    assert not (desk.home / 'xmanager.db').exists()
    assert not (desk.folder / 'ran').exists()


def test_an_experiment_that_is_recorded_stays_as_it_is(desk):
    desk.write('launcher.py', SWEEP)
    desk.write(
        'again.py',
        """
        from xmanager import xm_local
        from shell_jobs import shell
        with xm_local.get_experiment(1) as experiment:
            experiment.add(shell(experiment, 'touch ran'))
        """,
    )
    desk.write(
        'first.py',
        """
        from xmanager import xm_local
        xm_local.create_experiment('first')
        """,
    )
    assert desk.run('xmanager', 'launch', 'first.py').code == 0
    result = desk.run('xmanager', 'launch', 'again.py', '--', '--xm_dry_run')
    assert result.code == 1
    assert "a dry run changes nothing that is recorded, so it can't add to experiment 1." in (
        result.message
    )
    assert not (desk.folder / 'ran').exists()
