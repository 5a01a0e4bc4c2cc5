import pytest

from xmanager.errors import UsageError
from xmanager.launch.notify_target import Command, Webhook, check, parse


@pytest.mark.parametrize(
    'url', ['https://hooks.example.com/T0/hush?key=hush', 'http://[::1]:8080', 'HTTPS://host/']
)
def test_a_url_is_a_webhook_of_which_only_the_host_is_shown(url, tmp_path):
    webhook = parse(f' {url} ', str(tmp_path))
    assert webhook == Webhook(url)
    assert 'hush' not in webhook.name + repr(webhook)


def test_a_command_is_split_as_a_shell_would(tmp_path):
    command = parse("sh -c 'cat >got' --token=hush", str(tmp_path))
    assert command == Command(('sh', '-c', 'cat >got', '--token=hush'), str(tmp_path))
    assert command.name == "command 'sh'"
    assert 'hush' not in repr(command)
    # A URL that is an argument is none of ours.
    assert isinstance(parse('sh https://host', str(tmp_path)), Command)


def test_a_relative_program_is_relative_to_where_the_experiment_was_launched(tmp_path, monkeypatch):
    (tmp_path / 'launched').mkdir()
    hook = tmp_path / 'launched' / 'hook.sh'
    hook.write_text('#!/bin/sh\n')
    hook.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    check('./hook.sh', str(hook.parent))
    with pytest.raises(UsageError, match='there is no such program in'):
        check('./hook.sh', str(tmp_path))
    hook.chmod(0o644)
    with pytest.raises(UsageError, match=r'chmod \+x'):
        check('./hook.sh', str(hook.parent))


@pytest.mark.parametrize(
    ('target', 'sentence'),
    [
        ('ftp://host/hush', '--xm_notify=ftp://host/…: ftp:// is no way to a webhook. Expected'),
        ('htp://host/hush', '--xm_notify=htp://host/…: htp:// is no way to a webhook. Expected'),
        ('file:///etc/hush', '--xm_notify=file:///…: file:// is no way to a webhook. Expected'),
        ('https:///hush', '--xm_notify=https:///…: it names no host. Expected a URL such as'),
        ('http://host:hush/', '--xm_notify=http://…: its host or port makes no sense. Expected'),
        ('http://[::1/hush', '--xm_notify=http://…: its host or port makes no sense. Expected'),
        ('http://ada:hush@host/', '--xm_notify=http://host/…: a user or password in a URL'),
        ('http://host/hush hush', '--xm_notify=http://host/…: it has characters that no URL'),
        ('http://host/hüsh', '--xm_notify=http://host/…: it has characters that no URL may have.'),
        ('curl -H "hush', '--xm_notify=curl …: No closing quotation. Expected a command'),
        ('nowhere --token hush', '--xm_notify=nowhere: there is no such program on PATH. Expected'),
        ('  ', '--xm_notify=…: expected a command, or the URL of a webhook.'),
        ("'' hush", '--xm_notify=…: expected a command, or the URL of a webhook.'),
    ],
)
def test_what_nobody_can_be_told_by_gets_a_sentence_that_keeps_its_secrets(
    target, sentence, tmp_path
):
    with pytest.raises(UsageError) as caught:
        check(target, str(tmp_path))
    assert str(caught.value).startswith(sentence)
    assert 'hush' not in str(caught.value)
