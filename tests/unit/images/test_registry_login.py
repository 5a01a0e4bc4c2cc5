"""A registry's challenges are read as they are meant, tokens are fetched, kept and renewed, passwords stay ours."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.images import faulty_registry as faulty
from tests.unit.images.faulty_registry import FaultyRegistry, wants_login
from tests.unit.images.registry_desk import Clock, client

from xmanager.errors import PackagingError
from xmanager.images.credentials import Credentials
from xmanager.images.registry_login import Challenge, Login, LoginRefusedError, parse_challenges

PUSH = ('repository:team/app:pull,push',)
BEARER = Challenge('bearer', {'realm': 'https://auth.test/token', 'service': 'registry'})


@pytest.mark.parametrize(
    ('header', 'expected'),
    [
        ('Basic realm="a"', [('basic', {'realm': 'a'})]),
        ('BASIC Realm=a', [('basic', {'realm': 'a'})]),
        (
            'Bearer realm="https://a/b?c=d",service="x, y",scope="repository:a/b:pull,push"',
            [
                (
                    'bearer',
                    {
                        'realm': 'https://a/b?c=d',
                        'service': 'x, y',
                        'scope': 'repository:a/b:pull,push',
                    },
                )
            ],
        ),
        (
            'Negotiate, Basic realm="a \\"b\\"" , charset = "UTF-8", Bearer realm=c',
            [
                ('negotiate', {}),
                ('basic', {'realm': 'a "b"', 'charset': 'UTF-8'}),
                ('bearer', {'realm': 'c'}),
            ],
        ),
        ('NTLM TlRMTVNTUAAC==, Basic realm=""', [('ntlm', {}), ('basic', {'realm': ''})]),
        ('', []),
        (',,, ', []),
        ('realm="a"', []),
        ('Basic realm="never closed', [('basic', {})]),
    ],
)
def test_challenges_are_read(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges([header]) == [Challenge(*one) for one in expected]


@given(st.lists(st.text(max_size=200), max_size=3))
def test_nonsense_is_read_without_harm(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=8)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.lists(st.tuples(NAMES, st.dictionaries(NAMES, VALUES, min_size=1)), max_size=4))
def test_what_was_written_by_the_rules_is_read_again(
    challenges: list[tuple[str, dict[str, str]]],
) -> None:
    def quoted(value: str) -> str:
        return value.replace('\\', '\\\\').replace('"', '\\"')

    text = ', '.join(
        f'{scheme} ' + ', '.join(f'{name}="{quoted(value)}"' for name, value in parameters.items())
        for scheme, parameters in challenges
    )
    assert parse_challenges([text]) == [Challenge(*one) for one in challenges]


class Tokens:
    """A server of tokens that counts."""

    def __init__(self, *answers: tuple[int, object]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        self.asked.append((method, url, headers, body))
        if self.answers:
            status, value = self.answers.pop(0)
            return status, value if isinstance(value, bytes) else json.dumps(value).encode()
        return 200, json.dumps({'token': f't{len(self.asked)}'}).encode()


ADA = Credentials('ada', 'hush')


def login(tokens: Tokens, clock: Clock, credentials: Credentials | None = ADA) -> Login:
    return Login('registry.test', lambda: credentials, tokens, clock.time)


def test_nobody_is_asked_before_the_registry_asks() -> None:
    def never() -> Credentials | None:
        raise AssertionError

    one = Login('registry.test', never, Tokens(), Clock().time)
    assert one.header(PUSH) == ''


def test_a_token_is_fetched_with_the_password_and_used_until_it_ends() -> None:
    clock, tokens = Clock(), Tokens((200, {'token': 'a', 'expires_in': 100}))
    one = login(tokens, clock)
    assert one.answer([BEARER], PUSH, '') == 'Bearer a'
    method, url, headers, _ = tokens.asked[0]
    assert (method, headers['Authorization']) == ('GET', ADA.basic)
    assert parse_qs(urlsplit(url).query) == {'service': ['registry'], 'scope': list(PUSH)}
    clock.now += 89
    assert one.header(PUSH) == 'Bearer a'
    clock.now += 2
    assert one.header(PUSH) == 'Bearer t2'


def test_a_token_that_the_registry_refuses_is_renewed_once_for_all_threads() -> None:
    tokens = Tokens()
    one = login(tokens, Clock())
    assert one.answer([BEARER], PUSH, '') == 'Bearer t1'
    assert one.answer([BEARER], PUSH, 'Bearer t1') == 'Bearer t2'
    assert one.answer([BEARER], PUSH, 'Bearer t1') == 'Bearer t2'


def test_a_mount_asks_for_both_repositories() -> None:
    tokens = Tokens()
    scopes = (*PUSH, 'repository:team/base:pull')
    challenge = Challenge('bearer', {**BEARER.parameters, 'scope': 'repository:x:pull ' + PUSH[0]})
    login(tokens, Clock()).answer([challenge], scopes, '')
    asked = parse_qs(urlsplit(tokens.asked[0][1]).query)['scope']
    assert asked == [*scopes, 'repository:x:pull']


def test_an_identity_token_is_posted() -> None:
    tokens = Tokens((200, {'access_token': 'a'}))
    one = login(tokens, Clock(), Credentials(identity_token='renew'))
    assert one.answer([BEARER], PUSH, '') == 'Bearer a'
    method, url, _, body = tokens.asked[0]
    assert (method, url) == ('POST', 'https://auth.test/token')
    assert parse_qs(body.decode())['refresh_token'] == ['renew']


def test_a_password_that_is_refused_is_not_sent_again_and_again() -> None:
    one = login(Tokens(), Clock())
    basic = Challenge('basic', {'realm': 'x'})
    assert one.answer([basic], PUSH, '') == ADA.basic
    assert one.answer([basic], PUSH, ADA.basic) is None


@pytest.mark.parametrize('status', [400, 401, 403])
@pytest.mark.parametrize('credentials', [ADA, None])
def test_a_login_that_gets_no_token_is_told(status: int, credentials: Credentials | None) -> None:
    with pytest.raises(LoginRefusedError, match=r'`docker login registry\.test`') as caught:
        login(Tokens((status, {})), Clock(), credentials).answer([BEARER], PUSH, '')
    assert 'hush' not in str(caught.value)


@pytest.mark.parametrize(
    'answer',
    [b'', b'[]', {}, {'token': 7}, {'token': 'a\r\nX: y'}, {'token': 'a', 'expires_in': 'soon'}],
)
def test_an_answer_without_a_token_is_told(answer: object) -> None:
    with pytest.raises(PackagingError, match='without a token'):
        login(Tokens((200, answer)), Clock()).answer([BEARER], PUSH, '')


@pytest.mark.parametrize('realm', ['http://auth.test/token', 'file:///etc/passwd', '/token'])
def test_a_password_is_not_sent_where_others_may_read_it(realm: str) -> None:
    tokens = Tokens()
    with pytest.raises(PackagingError):
        login(tokens, Clock()).answer([Challenge('bearer', {'realm': realm})], PUSH, '')
    assert not tokens.asked


@pytest.fixture
def server() -> Iterator[FaultyRegistry]:
    with faulty.running() as running:
        yield running


def test_a_password_is_sent_only_when_asked_for(server: FaultyRegistry, tmp_path: Path) -> None:
    auth = base64.b64encode(b'ada:hush').decode()
    (tmp_path / 'config.json').write_text(json.dumps({'auths': {server.host: {'auth': auth}}}))
    server.fail('HEAD', 'blobs', *[wants_login('Basic realm="x"', f'Basic {auth}')] * 3)
    with client(server, environ={'DOCKER_CONFIG': str(tmp_path)}) as registry:
        assert not registry.has_blob(f'sha256:{"0" * 64}')
        assert not registry.has_blob(f'sha256:{"1" * 64}')
    sent = ['authorization' in one.headers for one in server.asked]
    assert sent == [False, True, True]


def test_a_password_that_is_wrong_is_told_and_not_shown(
    server: FaultyRegistry, tmp_path: Path
) -> None:
    auth = base64.b64encode(b'ada:hush').decode()
    (tmp_path / 'config.json').write_text(json.dumps({'auths': {server.host: {'auth': auth}}}))
    server.fail('HEAD', 'blobs', *[wants_login('Basic realm="x"', 'another')] * 5)
    refused = pytest.raises(PackagingError, match='refuses the login that is kept for it')
    with client(server, environ={'DOCKER_CONFIG': str(tmp_path)}) as registry, refused as caught:
        registry.has_blob(f'sha256:{"0" * 64}')
    assert 'hush' not in str(caught.value)
    assert auth not in str(caught.value)
    assert len(server.asked) == 2


def test_a_helper_that_is_missing_is_no_trouble_where_no_login_is_wanted(
    server: FaultyRegistry, tmp_path: Path
) -> None:
    (tmp_path / 'config.json').write_text('{"credsStore": "nowhere"}')
    environ = {'DOCKER_CONFIG': str(tmp_path), 'PATH': ''}
    with client(server, environ=environ) as registry:
        assert not registry.has_blob(f'sha256:{"0" * 64}')
        server.fail('HEAD', 'blobs', faulty.replies(401, {'WWW-Authenticate': 'Basic realm=x'}))
        with pytest.raises(PackagingError, match='docker-credential-nowhere'):
            registry.has_blob(f'sha256:{"0" * 64}')
