"""How a registry lets us in: challenges are read, answered by password or token, and tokens renewed in time."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import quote, urlencode

import attrs

from xmanager.errors import PackagingError
from xmanager.images.credentials import Credentials
from xmanager.images.transport_address import Origin, is_loopback

# A token lives this long if the server doesn't say: https://distribution.github.io/distribution/spec/auth/token/
_TOKEN_SECONDS: Final = 60.0
_MARGIN_SECONDS: Final = 10.0
_CLIENT: Final = 'xmanager'

# RFC 9110, 11.6.1. What follows a scheme is either one token68 or parameters.
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_ITEM: Final = re.compile(
    rf'[\s,]*(?:(?P<name>{_NAME})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>{_NAME}))(?=\s*(?:,|$))'
    rf'|(?P<scheme>{_NAME})(?:[ \t]+(?P<token68>[A-Za-z0-9._~+/-]+=*)(?=\s*(?:,|$)))?(?=[\s,]|$))'
)
_TOKEN: Final = re.compile(r'[!-~]+')


@attrs.frozen
class Challenge:
    """One way to log in that a registry offers: `basic` or `bearer`, with its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Reads WWW-Authenticate headers; what makes no sense in them is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        position = 0
        while item := _ITEM.match(header, position):
            position = item.end()
            if item['scheme']:
                found.append((item['scheme'].lower(), {}))
            elif found:
                text = item['quoted']
                value = item['bare'] if text is None else re.sub(r'\\(.)', r'\1', text)
                found[-1][1].setdefault(item['name'].lower(), value)
    return [Challenge(scheme, parameters) for scheme, parameters in found]


@attrs.frozen
class _Token:
    header: str = attrs.field(repr=False)
    renew_at: float


class LoginRefusedError(PackagingError):
    """The server of tokens gives none for what was asked for."""


class Ask(Protocol):
    """A request without a login: the status and the body of its answer."""

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]: ...


class Login:
    """The login to one registry; thread-safe. Who the user is, is asked for when the registry wants to know."""

    def __init__(
        self,
        registry: str,
        credentials: Callable[[], Credentials | None],
        ask: Ask,
        clock: Callable[[], float],
        plain: frozenset[str] = frozenset(),
    ) -> None:
        self._registry = registry
        self._find_credentials = credentials
        self._ask = ask
        self._clock = clock
        self._plain = plain
        self._lock = threading.Lock()
        self._found: Credentials | None = None
        self._looked = False
        self._basic = ''
        self._bearer: Mapping[str, str] | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}

    @property
    def known(self) -> bool:
        """Whether there are credentials for it, as far as was asked."""
        return self._found is not None

    def header(self, scopes: tuple[str, ...]) -> str:
        """The Authorization header to begin with; '' as long as the registry has not asked for one."""
        with self._lock:
            if self._basic or self._bearer is None:
                return self._basic
            token = self._tokens.get(scopes)
            if token is None or token.renew_at <= self._clock():
                token = self._fetch(self._bearer, scopes)
            return token.header

    def answer(
        self, challenges: Sequence[Challenge], scopes: tuple[str, ...], refused: str
    ) -> str | None:
        """Another Authorization header than the one refused; None if there is none to be had."""
        with self._lock:
            for challenge in challenges:
                if challenge.scheme == 'bearer' and challenge.parameters.get('realm'):
                    token = self._tokens.get(scopes)
                    if token is None or token.header == refused:
                        token = self._fetch(challenge.parameters, scopes)
                    return token.header
            if any(one.scheme == 'basic' for one in challenges):
                credentials = self._credentials()
                self._basic = credentials.basic if credentials else ''
                return self._basic if self._basic != refused else None
        return None

    def _credentials(self) -> Credentials | None:
        if not self._looked:
            self._found = self._find_credentials()
            self._looked = True
        return self._found

    def _fetch(self, parameters: Mapping[str, str], scopes: tuple[str, ...]) -> _Token:
        realm = parameters['realm']
        self._check_realm(realm)
        wanted = list(dict.fromkeys((*scopes, *parameters.get('scope', '').split())))
        status, body = self._request(realm, parameters.get('service', ''), wanted)
        if status in (400, 401, 403):
            raise LoginRefusedError(self._refusal(realm))
        if status != 200:
            raise PackagingError(
                f'{Origin.of(realm).address}, which gives the tokens for {self._registry}, answered with {status}.'
            )
        token = self._read(body, realm)
        # Its scope was of that one request.
        self._bearer = {key: value for key, value in parameters.items() if key != 'scope'}
        self._tokens[scopes] = token
        return token

    def _request(self, realm: str, service: str, scopes: Sequence[str]) -> tuple[int, bytes]:
        """https://distribution.github.io/distribution/spec/auth/: oauth for identity tokens, token for others."""
        credentials = self._credentials()
        fields = [('service', service)] if service else []
        if credentials and credentials.identity_token:
            form = [
                ('grant_type', 'refresh_token'),
                *fields,
                ('client_id', _CLIENT),
                ('scope', ' '.join(scopes)),
                ('refresh_token', credentials.identity_token),
            ]
            kind = {'Content-Type': 'application/x-www-form-urlencoded'}
            return self._ask('POST', realm, kind, urlencode(form).encode())
        fields += [('scope', scope) for scope in scopes]
        query = urlencode(fields, quote_via=quote, safe=':,/')
        url = f'{realm}{"&" if "?" in realm else "?"}{query}'
        return self._ask(
            'GET', url, {'Authorization': credentials.basic} if credentials else {}, b''
        )

    def _check_realm(self, realm: str) -> None:
        origin = Origin.of(realm)
        if origin.scheme == 'https' or is_loopback(origin.host) or origin.address in self._plain:
            return
        raise PackagingError(
            f'{self._registry} sends to {origin.address} for a token without TLS, where anybody could '
            f'read the password: refused. If that is meant, add {origin.address} to XM_INSECURE_REGISTRIES.'
        )

    def _read(self, body: bytes, realm: str) -> _Token:
        try:
            answer = json.loads(body)
            text = answer.get('token') or answer.get('access_token')
            lifetime = float(answer.get('expires_in') or _TOKEN_SECONDS)
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            text, lifetime = None, 0.0
        if not isinstance(text, str) or not _TOKEN.fullmatch(text):
            raise PackagingError(
                f'{Origin.of(realm).address}, which gives the tokens for {self._registry}, answered without a token.'
            )
        return _Token(
            f'Bearer {text}', self._clock() + lifetime - min(_MARGIN_SECONDS, lifetime / 5)
        )

    def _refusal(self, realm: str) -> str:
        if self._found is None:
            return f'{self._registry} wants a login: run `{login_command(self._registry)}`.'
        return (
            f'{Origin.of(realm).address}, which gives the tokens for {self._registry}, refuses the login '
            f'that is kept for it: run `{login_command(self._registry)}` again.'
        )


def login_command(registry: str) -> str:
    """What the user types to log in."""
    return 'docker login' if registry == 'docker.io' else f'docker login {registry}'
