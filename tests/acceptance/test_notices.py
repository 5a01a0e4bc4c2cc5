"""Whom `--xm_notify` names is told of failures and of the end, and can harm nothing."""

import json
import sys

import pytest
from tests.acceptance.polling import until
from tests.webhook import serving

SECRET = 'T0-hush-4f1c9a'
HOOK = '#!/bin/sh\ncat >>news; echo "$XM_EVENT $XM_WORK_UNIT_ID" >>events\n'
ONE_OF_EACH = """
    from shell_jobs import shell, xm_local
    with xm_local.create_experiment('notices') as experiment:
        experiment.add(shell(experiment, 'echo no data; exit 3'))
        experiment.add(shell(experiment, 'true'))
"""


@pytest.fixture
def hook(desk):
    """A command that writes what it is told beside the launch script."""
    desk.write('hook.sh', HOOK).chmod(0o755)
    return './hook.sh'


@pytest.fixture
def webhook():
    with serving() as webhook:
        yield webhook


def supervisor_log(home):
    return (home / 'experiments/1/supervisor.log').read_text()


def test_a_command_is_told_of_failed_units_and_of_the_end(launch, desk, hook):
    result = launch(ONE_OF_EACH, f'--xm_notify={hook}')
    assert result.code == 1
    until(lambda: desk.read('events') == 'unit-failed 1\nexperiment-ended \n')
    failed, ended = map(json.loads, desk.read('news').splitlines())
    assert failed['event'] == 'unit-failed'
    assert failed['unit']['message'] == 'job job exited with code 3: no data'
    assert ended['experiment']['state'] == 'failed'
    assert ended['text'].endswith('failed: 1 completed, 1 failed')


def test_an_experiment_that_was_restarted_tells_again_what_fails_again(
    launch, xmanager, desk, hook
):
    launch(ONE_OF_EACH, f'--xm_notify={hook}')
    until(lambda: len(desk.read('events').splitlines()) == 2)
    desk.until_quiet()
    # The setting is that of the shell in which the supervisor is started.
    assert xmanager('restart', '1', XM_NOTIFY=hook).code == 0
    until(lambda: desk.read('events') == 'unit-failed 1\nexperiment-ended \n' * 2)


def test_an_attempt_that_is_followed_by_another_one_is_no_failure(launch, desk, hook):
    launch(
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('retried') as experiment:
            twice = '[ $XM_ATTEMPT = 2 ]'
            experiment.add(shell(experiment, twice, max_restarts=1, backoff=0))
            experiment.add(shell(experiment, 'exit 3', max_restarts=2, backoff=0))
        """,
        f'--xm_notify={hook}',
    )
    assert [unit['attempt'] for unit in desk.units()] == [2, 3]
    until(lambda: desk.read('events') == 'unit-failed 2\nexperiment-ended \n')


def test_a_unit_that_is_stopped_is_no_failure(start, xmanager, desk, hook):
    launcher = start(
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('stopped') as experiment:
            experiment.add(shell(experiment, 'echo >>journal; exec sleep 600'))
        """,
        f'--xm_notify={hook}',
    )
    until(lambda: desk.journal)
    assert xmanager('stop', '1').code == 0
    launcher.ended()
    until(lambda: desk.read('events') == 'experiment-ended \n')


def test_the_end_of_a_detached_experiment_is_told_too(launch, desk, hook):
    launch(ONE_OF_EACH, '--xm_detach', f'--xm_notify={hook}')
    until(lambda: desk.read('events') == 'unit-failed 1\nexperiment-ended \n')


def test_a_webhook_is_posted_to_and_its_url_is_kept_nowhere(webhook, desk, home):
    script = desk.write(
        'launcher.py',
        """
        from absl import app
        from shell_jobs import shell, xm_local

        def main(_):
            with xm_local.create_experiment('webhook') as experiment:
                shown = 'env; tr "\\\\0" "\\\\n" </proc/$PPID/environ; exit 1'
                experiment.add(shell(experiment, shown))

        app.run(main)
        """,
    )
    url = f'{webhook.url}/{SECRET}'
    result = desk.run(sys.executable, script, f'--xm_notify={url}', no_proxy='*')
    assert result.code == 1
    until(lambda: len(webhook.posts) == 2)
    desk.until_quiet()
    assert [post.headers['X-XManager-Event'] for post in webhook.posts] == [
        'unit-failed',
        'experiment-ended',
    ]
    assert [post.path for post in webhook.posts] == [f'/{SECRET}'] * 2
    assert SECRET not in desk.xmanager('show', '1').stdout + result.stdout + result.stderr
    files = [path for path in home.rglob('*') if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ('target', 'told'),
    [
        ('./fails.sh', "unit-failed of 1.1: command './fails.sh' exited with code 7"),
        ('{url}/500?' + SECRET, 'unit-failed of 1.1: {url} answered 500 Internal Server Error'),
        ('http://127.0.0.1:9/' + SECRET, 'unit-failed of 1.1: http://127.0.0.1:9 could not be'),
    ],
)
def test_a_target_that_fails_is_logged_in_a_line_and_harms_nothing(
    launch, desk, home, webhook, target, told
):
    desk.write('fails.sh', '#!/bin/sh\nexit 7\n').chmod(0o755)
    result = launch(ONE_OF_EACH, XM_NOTIFY=target.format(url=webhook.url), no_proxy='*')
    assert result.code == 1
    assert desk.states() == ['failed', 'completed']
    desk.until_quiet()
    lines = supervisor_log(home).splitlines()
    assert len(lines) == 2
    assert told.format(url=webhook.url) in lines[0]
    assert 'experiment-ended of 1: ' in lines[1]
    assert SECRET not in ''.join(lines)


def test_a_command_that_takes_its_time_holds_up_no_unit(launch, desk):
    desk.write('slow.sh', '#!/bin/sh\nwhile [ ! -e gate ]; do sleep 0.02; done\necho >>told\n')
    (desk.folder / 'slow.sh').chmod(0o755)
    flags = ['--xm_notify=./slow.sh', '--xm_local_resources=cpu=1']  # One unit after the other.
    assert launch(ONE_OF_EACH, *flags).code == 1
    assert desk.states() == ['failed', 'completed']
    assert desk.read('told') == ''
    desk.open_gate()
    until(lambda: desk.read('told') == '\n\n')


@pytest.mark.parametrize(
    ('target', 'sentence'),
    [
        (f'htp://host/{SECRET}', '--xm_notify=htp://host/…: htp:// is no way to a webhook.'),
        (f'nowhere {SECRET}', '--xm_notify=nowhere: there is no such program on PATH.'),
        ('./nowhere.sh', '--xm_notify=./nowhere.sh: there is no such program in '),
        (f"sh -c '{SECRET}", '--xm_notify=sh …: No closing quotation.'),
    ],
)
def test_a_target_that_makes_no_sense_is_told_at_launch(launch, desk, target, sentence):
    result = launch(ONE_OF_EACH, f'--xm_notify={target}')
    assert result.code == 1
    assert f'launcher0.py:3: {sentence}' in result.stderr
    assert SECRET not in result.stderr
    assert 'Traceback' not in result.stderr
    assert desk.units() == []
