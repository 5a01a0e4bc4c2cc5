import json
import os
import shlex
import signal
import socket

import pytest
from tests.acceptance.polling import until
from tests.webhook import serving

from xmanager.cli import delivering, notify
from xmanager.launch.notify_target import Command
from xmanager.launch.notify_target import Webhook as Target

# Runs until it is killed, with a child; whoever reads `pipe` sees its end when both are gone.
HANGING = 'exec 3>pipe; echo started >&3; sleep 600 & wait'


@pytest.fixture
def webhook(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with serving() as webhook:
        yield webhook


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the experiment was launched; the command runs elsewhere."""
    folder = tmp_path / 'launched'
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('XM_NOTIFY', raising=False)
    return folder


@pytest.fixture
def hook(folder):
    """`hook('text')`: a command in that folder."""

    def write(text):
        path = folder / 'hook.sh'
        path.write_text(f'#!/bin/sh\n{text}\n')
        path.chmod(0o755)
        return './hook.sh'

    return write


@pytest.fixture
def failed(lab, folder):
    """An experiment with a failed unit and a completed one."""
    record = lab.experiment(title='digits', cwd=str(folder), argv=('--api_key=hush',))
    (unit,) = lab.add(record.id, 'running', args={'args': {'lr': 0.1, 'token': 'hush'}})
    lab.move(unit, 'failed', 'job train exited with code 3', exit_code=3)
    lab.add(record.id, 'completed')
    return record


@pytest.fixture
def pipe(folder):
    """What a hanging command holds open."""
    os.mkfifo(folder / 'pipe')
    descriptor = os.open(folder / 'pipe', os.O_RDONLY | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def is_let_go(pipe):
    try:
        return os.read(pipe, 100) == b''
    except BlockingIOError:  # Somebody holds it, and says nothing.
        return False


def test_a_command_reads_the_unit_and_what_happened_to_it(run, failed, folder, hook):
    command = hook('cat >got; echo "$XM_EVENT $XM_EXPERIMENT_ID $XM_WORK_UNIT_ID $1" >said')
    code, out, err = run('notify', '1.1', '--event', 'unit-failed', '--to', f"{command} 'a b'")
    assert (code, out, err) == (0, "told command './hook.sh' unit-failed of 1.1\n", '')
    assert (folder / 'said').read_text() == 'unit-failed 1 1 a b\n'
    notice = json.loads((folder / 'got').read_text())
    shown = run('show', '1.1', '--json').json
    assert notice.pop('event') == 'unit-failed'
    assert notice.pop('text') == (
        "unit 1.1 of 'digits' failed (lr=0.1 token=***): job train exited with code 3"
    )
    assert notice == shown
    assert 'hush' not in (folder / 'got').read_text()


def test_a_command_reads_the_experiment_and_its_units(run, failed, folder, hook, monkeypatch):
    monkeypatch.setenv('XM_WORK_UNIT_ID', '7')  # As in a job that calls it.
    monkeypatch.setenv('XM_NOTIFY', hook('cat >got; echo "$XM_EVENT,$XM_WORK_UNIT_ID" >said'))
    assert run('notify', 1).code == 0
    assert (folder / 'said').read_text() == 'experiment-ended,\n'
    notice = json.loads((folder / 'got').read_text())
    assert notice['event'] == 'experiment-ended'
    assert notice['text'] == "experiment 1, 'digits', failed: 1 completed, 1 failed"
    assert [unit['state'] for unit in notice['experiment']['units']] == ['failed', 'completed']
    assert 'hush' not in (folder / 'got').read_text()


def test_each_address_is_delivered_by_itself_and_one_failure_spares_the_others(
    run, failed, folder, hook
):
    command = hook('cat >/dev/null; echo $XM_WORK_UNIT_ID >>said; [ $XM_WORK_UNIT_ID != 1 ]')
    code, out, err = run('notify', '1.1', '1.2', '1.1', '--to', command)
    assert code == 1
    assert (folder / 'said').read_text() == '1\n2\n'
    assert out == "told command './hook.sh' unit-failed of 1.2\n"
    assert err == "xmanager: unit-failed of 1.1: command './hook.sh' exited with code 1\n"


def test_a_command_need_not_read_what_it_is_told(run, lab, folder):
    record = lab.experiment(cwd=str(folder))
    lab.add(record.id, *['queued'] * 3, args={'text': 'word ' * 30_000})
    assert run('notify', 1, '--to', 'true').code == 0


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('kill -9 $$', "command './hook.sh' was killed by SIGKILL"),
        ('exit 3', "command './hook.sh' exited with code 3"),
    ],
)
def test_a_command_that_fails_says_how(run, failed, hook, text, sentence):
    code, _, err = run('notify', 1, '--to', hook(text))
    assert (code, err) == (1, f'xmanager: experiment-ended of 1: {sentence}\n')


def test_a_command_that_cannot_be_started_says_why(run, failed, folder):
    (folder / 'hook').write_text('#!/nowhere\n')
    (folder / 'hook').chmod(0o755)
    code, _, err = run('notify', 1, '--to', './hook')
    assert code == 1
    assert f"command './hook' could not be started in {folder}: No such file" in err


def test_a_command_that_hangs_is_killed_with_what_it_started(folder, pipe):
    command = Command(('sh', '-c', HANGING), str(folder))
    said = delivering.deliver(command, b'x' * 1_000_000, {}, {}, seconds=0.5)
    assert said == "command 'sh' did not end within 0.5 s and was killed"
    until(lambda: is_let_go(pipe))


def test_a_notify_that_is_terminated_ends_its_command(start, failed, hook, pipe):
    process = start('notify', 1, '--to', hook(HANGING))
    until(lambda: not is_let_go(pipe))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    until(lambda: is_let_go(pipe))


def test_a_webhook_is_posted_the_same_json(run, failed, webhook):
    code, out, err = run('notify', 1, '1.1', '--to', f'{webhook.url}/T0/hush?key=hush')
    assert (code, err) == (0, '')
    assert out.splitlines() == [
        f'told {webhook.url} experiment-ended of 1',
        f'told {webhook.url} unit-failed of 1.1',
    ]
    first, second = webhook.posts
    assert (first.method, first.path) == ('POST', '/T0/hush?key=hush')
    assert first.headers['Content-Type'] == 'application/json'
    assert first.headers['X-XManager-Event'] == 'experiment-ended'
    assert second.headers['X-XManager-Event'] == 'unit-failed'
    shown = run('show', '1.1', '--json').json
    assert shown.items() <= json.loads(second.body).items()
    assert b'hush' not in first.body + second.body


def test_a_webhook_that_refuses_fails_the_notice_without_naming_its_path(run, failed, webhook):
    code, out, err = run('notify', '1.1', '1.2', '--to', f'{webhook.url}/500?hush')
    assert (code, out) == (1, '')
    assert err.splitlines() == [
        f'xmanager: unit-failed of 1.{unit}: {webhook.url} answered 500 Internal Server Error'
        for unit in (1, 2)
    ]


def test_a_webhook_that_is_down_fails_the_notice(run, failed, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))  # It does not listen.
        url = f'http://127.0.0.1:{taken.getsockname()[1]}'
        code, _, err = run('notify', 1, '--to', f'{url}/hush')
    sentence = f'{url} could not be reached: Connection refused'
    assert (code, err) == (1, f'xmanager: experiment-ended of 1: {sentence}\n')


def test_a_webhook_that_hangs_is_given_up(webhook):
    said = delivering.deliver(Target(f'{webhook.url}/hang'), b'{}', {}, {}, seconds=0.3)
    assert said == f'{webhook.url} did not answer within 0.3 s'


def test_a_webhook_that_breaks_off_says_so(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with socket.create_server(('127.0.0.1', 0)) as server:
        import threading

        def slam():
            connection, _ = server.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=slam)
        thread.start()
        url = f'http://127.0.0.1:{server.getsockname()[1]}'
        said = delivering.deliver(Target(f'{url}/hush'), b'{}', {}, {}, seconds=30)
        thread.join()
    assert said.startswith(f'{url} broke off: ')


def test_a_redirect_within_the_scheme_is_followed(webhook):
    again = Target(f'{webhook.url}/again?{webhook.url}/here')
    assert delivering.deliver(again, b'{"a":1}', {}, {'X-A': 'b'}) == ''
    post = webhook.posts[-1]
    assert (post.method, post.path, post.body) == ('POST', '/here', b'{"a":1}')
    assert post.headers['X-A'] == 'b'
    assert delivering.deliver(Target(f'{webhook.url}/see?{webhook.url}/there'), b'{}', {}, {}) == ''
    assert webhook.posts[-1][:2] == ('GET', '/there')


@pytest.mark.parametrize('way', ['again', 'see'])
@pytest.mark.parametrize('elsewhere', ['ftp://127.0.0.1', 'https://127.0.0.1:1'])
def test_a_redirect_to_another_scheme_is_not_followed(webhook, way, elsewhere):
    target = Target(f'{webhook.url}/{way}?{elsewhere}/hush')
    said = delivering.deliver(target, b'{}', {}, {})
    assert said == f'{webhook.url} redirects to {elsewhere}: give that URL if you trust it'


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['1'], 'there is nobody to notify: say --to TARGET, or set XM_NOTIFY'),
        (
            ['1', '--event', 'unit-failed', '--to', 'true'],
            'unit-failed is said of a unit: write 1.3 for unit 3',
        ),
        (
            ['1.1', '--event', 'experiment-ended', '--to', 'true'],
            'experiment-ended is said of an experiment: write 1',
        ),
        (['1', '--to', 'ftp://host/hush'], '--to=ftp://host/…: ftp:// is no way to a webhook.'),
        (['1', '--to', 'nowhere hush'], '--to=nowhere: there is no such program on PATH.'),
    ],
)
def test_misuse_is_told_in_a_sentence(run, failed, arguments, sentence):
    code, out, err = run('notify', *arguments)
    assert (code, out) == (2, '')
    assert sentence in err
    assert 'hush' not in err


def test_a_bad_setting_is_named_as_such(run, failed, monkeypatch):
    monkeypatch.setenv('XM_NOTIFY', 'htp://host/hush')
    assert run('notify', 1).err.startswith('xmanager: XM_NOTIFY=htp://host/…: ')


def test_nothing_is_delivered_when_one_of_several_does_not_exist(run, failed, folder, hook):
    code, _, err = run('notify', '1.1', '1.9', '--to', shlex.quote(hook('touch told')))
    assert code == 1
    assert 'experiment 1 has no unit 9' in err
    assert not (folder / 'told').exists()


def test_a_notice_of_very_many_units_tells_of_those_that_did_not_complete(
    run, lab, tmp_path, monkeypatch
):
    monkeypatch.setattr(notify, 'MOST_UNITS', 3)
    states = ('completed', 'failed', 'completed', 'lost', 'stopped', 'failed')
    lab.experiment(*states, cwd=str(tmp_path))
    got = tmp_path / 'got'
    assert run('notify', 1, '--to', f'dd of={got} status=none').code == 0
    told = json.loads(got.read_text())['experiment']
    assert [unit['state'] for unit in told['units']] == ['failed', 'lost', 'stopped']
    assert told['units_left_out'] == 3
