"""Logins are found where docker and podman keep them, by helpers too, and never shown."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from xmanager.errors import PackagingError
from xmanager.images import credentials as module
from xmanager.images.credentials import Credentials, credentials_for, header_for

ADA = {'auth': base64.b64encode(b'ada:hu:sh').decode()}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / 'bin').mkdir()
    return {'HOME': str(tmp_path), 'PATH': f'{tmp_path / "bin"}:/usr/bin:/bin'}


def write(path: Path, config: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def helper(environ: dict[str, str], name: str, script: str) -> None:
    path = Path(environ['HOME'], 'bin', f'docker-credential-{name}')
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)


def test_a_login_of_docker_is_read(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / '.docker/config.json', {'auths': {'registry.test:5000': ADA}})
    assert credentials_for('registry.test:5000', environ) == Credentials('ada', 'hu:sh')
    assert credentials_for('registry.test', environ) is None


def test_docker_config_names_another_folder(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / 'elsewhere/config.json', {'auths': {'registry.test': ADA}})
    found = credentials_for(
        'registry.test', environ | {'DOCKER_CONFIG': str(tmp_path / 'elsewhere')}
    )
    assert found == Credentials('ada', 'hu:sh')


@pytest.mark.parametrize('key', ['https://index.docker.io/v1/', 'docker.io', 'index.docker.io'])
def test_docker_hub_has_many_names(key: str, tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / '.docker/config.json', {'auths': {key: ADA}})
    assert credentials_for('docker.io', environ) == Credentials('ada', 'hu:sh')


@pytest.mark.parametrize(
    'place', ['REGISTRY_AUTH_FILE', 'run/containers/auth.json', '.config/containers/auth.json']
)
def test_a_login_of_podman_is_read(place: str, tmp_path: Path, environ: dict[str, str]) -> None:
    path = write(tmp_path / place, {'auths': {'registry.test/team': ADA}})
    environ |= {'XDG_RUNTIME_DIR': str(tmp_path / 'run')}
    if place == 'REGISTRY_AUTH_FILE':
        environ[place] = str(path)
    assert credentials_for('registry.test', environ, 'team/app') == Credentials('ada', 'hu:sh')
    assert credentials_for('registry.test', environ, 'other/app') is None


def test_an_identity_token_goes_to_the_engine_too(tmp_path: Path, environ: dict[str, str]) -> None:
    entry = {'auth': base64.b64encode(b'00000000-0:').decode(), 'identitytoken': 'renew'}
    write(tmp_path / '.docker/config.json', {'auths': {'registry.test': entry}})
    header = json.loads(base64.urlsafe_b64decode(header_for('registry.test', environ)))
    assert header == {'serveraddress': 'registry.test', 'identitytoken': 'renew'}


def test_the_header_for_an_engine_has_the_password(tmp_path: Path, environ: dict[str, str]) -> None:
    assert header_for('docker.io', environ) == ''
    write(tmp_path / '.docker/config.json', {'auths': {'docker.io': ADA}})
    assert json.loads(base64.urlsafe_b64decode(header_for('docker.io', environ))) == {
        'serveraddress': 'https://index.docker.io/v1/',
        'username': 'ada',
        'password': 'hu:sh',
    }


@pytest.mark.parametrize('key', ['credHelpers', 'credsStore'])
def test_a_helper_is_asked_by_standard_input(
    key: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    named = 'vault' if key == 'credsStore' else {'registry.test': 'vault'}
    write(tmp_path / '.docker/config.json', {key: named, 'auths': {'registry.test': {}}})
    script = 'read -r host || :; echo "{\\"Username\\": \\"$1 $host\\", \\"Secret\\": \\"s\\"}"'
    helper(environ, 'vault', script)
    assert credentials_for('registry.test', environ) == Credentials('get registry.test', 's')


def test_a_helper_may_give_an_identity_token(tmp_path: Path, environ: dict[str, str]) -> None:
    write(tmp_path / '.docker/config.json', {'credsStore': 'vault'})
    helper(environ, 'vault', """echo '{"Username": "<token>", "Secret": "renew"}'""")
    assert credentials_for('registry.test', environ) == Credentials(identity_token='renew')


def test_what_a_helper_does_not_know_the_file_may(tmp_path: Path, environ: dict[str, str]) -> None:
    write(
        tmp_path / '.docker/config.json', {'credsStore': 'vault', 'auths': {'registry.test': ADA}}
    )
    helper(environ, 'vault', 'echo credentials not found in native keychain; exit 1')
    assert credentials_for('registry.test', environ) == Credentials('ada', 'hu:sh')
    assert credentials_for('other.test', environ) is None


@pytest.mark.parametrize(
    ('script', 'said'),
    [
        ('exit 3', 'failed with exit code 3 for registry.test'),
        ('echo hush; echo hush >&2; exit 1', 'failed with exit code 1 for registry.test'),
        ('echo hush', 'did not answer with a Username and a Secret'),
        ("""echo '["hush"]'""", 'did not answer with a Username and a Secret'),
        (
            """echo '{"Username": 1, "Secret": "hush"}'""",
            'did not answer with a Username and a Sec',
        ),
        ('exec sleep 60', 'gave no answer within 0 s'),
    ],
)
def test_a_helper_that_fails_is_told_in_a_sentence_without_what_it_said(
    script: str,
    said: str,
    tmp_path: Path,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if 'sleep' in script:
        monkeypatch.setattr(module, '_HELPER_SECONDS', 0.2)
    write(tmp_path / '.docker/config.json', {'credsStore': 'vault'})
    helper(environ, 'vault', script)
    with pytest.raises(PackagingError, match=said) as caught:
        credentials_for('registry.test', environ)
    assert 'hush' not in str(caught.value)


def test_a_helper_that_is_not_there_is_told_with_the_file_that_names_it(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    path = write(tmp_path / '.docker/config.json', {'credsStore': 'vault'})
    with pytest.raises(PackagingError, match=r'docker-credential-vault.*not on PATH') as caught:
        credentials_for('registry.test', environ)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('name', ['../bin/vault', 'a b', '', 7, '-x'])
def test_the_name_of_a_helper_is_no_path(
    name: Any, tmp_path: Path, environ: dict[str, str]
) -> None:
    write(tmp_path / '.docker/config.json', {'credHelpers': {'registry.test': name}})
    if name == '':
        assert credentials_for('registry.test', environ) is None
        return
    with pytest.raises(PackagingError, match='no name'):
        credentials_for('registry.test', environ)


@pytest.mark.parametrize(
    'config',
    [
        '{"auths": hush',
        '["hush"]',
        {'auths': ['hush']},
        {'auths': {'registry.test': 'hush'}},
        {'auths': {'registry.test': {'auth': 'hush!'}}},
        {'auths': {'registry.test': {'auth': ['hush']}}},
        {'auths': {'registry.test': {'auth': base64.b64encode(b'hush').decode()}}},
    ],
)
def test_a_file_that_makes_no_sense_is_named_and_not_shown(
    config: Any, tmp_path: Path, environ: dict[str, str]
) -> None:
    path = write(tmp_path / '.docker/config.json', config)
    with pytest.raises(PackagingError) as caught:
        credentials_for('registry.test', environ)
    assert str(path) in str(caught.value)
    assert 'hush' not in str(caught.value)


def test_no_secret_is_in_a_repr() -> None:
    assert repr(Credentials('ada', 'hush', 'renew')) == 'Credentials()'
