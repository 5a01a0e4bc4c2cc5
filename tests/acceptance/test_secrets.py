"""Secrets reach the job that asks for them, and nothing else that can be read."""

import json

VALUE = 'hunter2-4f1c9a'


def test_a_secret_reaches_the_job_and_is_never_written(launch, xmanager, desk, home):
    result = launch(
        """
        from shell_jobs import shell, xm, xm_local
        SEEN = '[ "$(printf %s "$PASS" | md5sum)" = "$(printf %s "$API" | md5sum)" ] && echo ${#PASS}'
        with xm_local.create_experiment('secret') as experiment:
            secret = {'PASS': xm.Secret('API')}
            experiment.add(shell(experiment, SEEN, env_vars=secret))
            experiment.add(shell(experiment, 'exit 1', env_vars=secret))
        """,
        API=VALUE,
    )
    assert result.stdout == f'[1 job] {len(VALUE)}\n'
    found = [
        path for path in home.rglob('*') if path.is_file() and VALUE.encode() in path.read_bytes()
    ]
    assert found == []
    shown = [xmanager('show', '1.1'), xmanager('show', '1.1', '--json'), result]
    assert not [view for view in shown if VALUE in view.stdout + view.stderr]
    assert desk.units()[0]['jobs'][0]['env'] == {'PASS': '<secret API>'}


def test_a_restarted_job_gets_its_secret_from_whoever_restarts_it(launch, xmanager, desk):
    launch(
        """
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('secret') as experiment:
            test = '[ "$PASS" = second ] && echo got it'
            experiment.add(shell(experiment, test, env_vars={'PASS': xm.Secret('API')}))
        """,
        API='first',
    )
    assert desk.states() == ['failed']
    assert xmanager('restart', '1', API='second').code == 0
    assert xmanager('wait', '1').code == 0
    assert desk.log() == b'got it\n'
    # And without one, the unit says what is missing.
    assert xmanager('restart', '1', '--all').code == 0
    assert xmanager('wait', '1').code == 1
    assert 'API is not set' in desk.units()[0]['message']


def test_a_missing_secret_is_an_error_at_the_addition(launch, desk):
    result = launch("""
        from shell_jobs import shell, xm, xm_local
        with xm_local.create_experiment('secret') as experiment:
            experiment.add(shell(experiment, 'true', env_vars={'PASS': xm.Secret('NOWHERE')}))
    """)
    assert result.code == 1
    assert (
        "launcher0.py:4: env_vars['PASS'] = xm.Secret('NOWHERE'): NOWHERE is not set"
        in result.stderr
    )
    assert 'export NOWHERE=' in result.stderr
    assert desk.units() == []


def test_a_secret_given_by_value_is_masked_in_every_view_and_warned_of_once(launch, xmanager, home):
    result = launch(f"""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('by value') as experiment:
            for width in (1, 2, 3):
                experiment.add(
                    shell(experiment, 'true', env_vars={{'HUB_TOKEN': '{VALUE}', 'WIDTH': width}}),
                    args={{'args': {{'api_key': '{VALUE}', 'width': width}}}},
                )
    """)
    assert result.code == 0
    assert result.stderr.count('HUB_TOKEN') == 2  # Once as given, once as it should be given.
    assert result.stderr.count('looks like a secret') == 1
    views = [
        result,
        xmanager('show', '1'),
        xmanager('show', '1.1'),
        xmanager('show', '1', '--json'),
        xmanager('show', '1.1', '--json'),
        xmanager('list', '--json'),
    ]
    assert not [view for view in views if VALUE in view.stdout + view.stderr]
    job = views[4].json['unit']['jobs'][0]
    assert job['env'] == {'HUB_TOKEN': '***', 'WIDTH': '1'}
    assert '--api_key=***' in job['argv']
    # What has to be recorded is for the owner's eyes only.
    command = home / 'experiments/1/1/job/command.json'
    assert json.loads(command.read_text())['env']['HUB_TOKEN'] == VALUE
    assert command.stat().st_mode & 0o077 == 0
    assert (home / 'xmanager.db').stat().st_mode & 0o077 == 0 or home.stat().st_mode & 0o077 == 0
