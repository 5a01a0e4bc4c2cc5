"""The user's logins to registries: what `docker login` and `podman login` have kept, and the helpers that they name."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from xmanager.errors import PackagingError
from xmanager.images.reference import DEFAULT_REGISTRY

# What `docker login` without a host writes, and what helpers know Docker Hub by.
_DOCKER_HUB: Final = 'https://index.docker.io/v1/'
_HUB_HOSTS: Final = frozenset({DEFAULT_REGISTRY, 'index.docker.io', 'registry-1.docker.io'})
# How a helper says that its secret is a token to renew a login with: docker-credential-helpers, `get`.
_TOKEN_USER: Final = '<token>'
_NOT_FOUND: Final = 'credentials not found'
_HELPER_SECONDS: Final = 30.0
_HELPER_NAME: Final = re.compile(r'[\w][\w.-]*', re.ASCII)


@attrs.frozen
class Credentials:
    """A user name and a password, or an identity token in their place. They never show in a repr."""

    username: str = attrs.field(default='', repr=False)
    password: str = attrs.field(default='', repr=False)
    identity_token: str = attrs.field(default='', repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        pair = f'{self.username}:{self.password}'.encode()
        return f'Basic {base64.b64encode(pair).decode()}'


def credentials_for(
    registry: str, environ: Mapping[str, str], repository: str = ''
) -> Credentials | None:
    """The login to a registry; None if there is none, and it is to be used as anybody.

    Looks into `$REGISTRY_AUTH_FILE`, Docker's `config.json` (`$DOCKER_CONFIG`), then Podman's `auth.json`; the first
    that knows the registry wins. Within one, a helper of the registry goes before the helper of all, and that before
    what the file holds itself. Podman's files may have logins for a part of a registry: `repository` says which.
    Raises PackagingError, without any secret in it, if a file can't be read or a helper fails.
    """
    for path in _files(environ):
        config = _read(path)
        if config is not None:
            found = _Login(path, config, environ).find(registry, repository)
            if found is not None:
                return found
    return None


def header_for(registry: str, environ: Mapping[str, str], repository: str = '') -> str:
    """The X-Registry-Auth header with which an engine pulls from a registry; '' if there is no login to it.

    https://docs.docker.com/reference/api/engine/version/v1.41/#section/Authentication
    """
    credentials = credentials_for(registry, environ, repository)
    if credentials is None:
        return ''
    fields = {'serveraddress': _DOCKER_HUB if registry in _HUB_HOSTS else registry}
    if credentials.identity_token:
        fields['identitytoken'] = credentials.identity_token
    else:
        fields |= {'username': credentials.username, 'password': credentials.password}
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    # Not Path.home(): the environment may be another one than this process's.
    home = Path(environ.get('HOME') or os.path.expanduser('~'))
    if named := environ.get('REGISTRY_AUTH_FILE'):
        yield Path(named)
    yield Path(environ.get('DOCKER_CONFIG') or home / '.docker') / 'config.json'
    if runtime := environ.get('XDG_RUNTIME_DIR'):
        yield Path(runtime) / 'containers' / 'auth.json'
    yield Path(environ.get('XDG_CONFIG_HOME') or home / '.config') / 'containers' / 'auth.json'


def _read(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PackagingError(
            f'{path}, in which logins to registries are kept, could not be read: {error.strerror}.'
        ) from None
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        # Only where: what stands there may be a secret.
        where = f' (line {error.lineno})' if isinstance(error, json.JSONDecodeError) else ''
        raise _wrong(path, f'is no JSON{where}') from None
    if not isinstance(config, dict):
        raise _wrong(path, 'holds no object')
    return config


@attrs.frozen
class _Login:
    """What one file says of logins."""

    path: Path
    config: Mapping[str, Any] = attrs.field(repr=False)
    environ: Mapping[str, str] = attrs.field(repr=False)

    def find(self, registry: str, repository: str) -> Credentials | None:
        helper = self._helper(registry)
        if helper:
            found = self._ask(helper, registry)
            if found is not None:
                return found
        return self._kept(registry, repository)

    def _helper(self, registry: str) -> str:
        for key, helper in self._table('credHelpers').items():
            if _host_of(key) == _host_of(registry):
                return self._name(helper)
        return self._name(self.config.get('credsStore') or '')

    def _name(self, helper: object) -> str:
        if not isinstance(helper, str) or (helper and not _HELPER_NAME.fullmatch(helper)):
            raise _wrong(self.path, 'names a credential helper that is no name')
        return helper

    def _table(self, key: str) -> dict[str, Any]:
        table = self.config.get(key) or {}
        if not isinstance(table, dict):
            raise _wrong(self.path, f'has something other than an object as {key}')
        return table

    def _kept(self, registry: str, repository: str) -> Credentials | None:
        entries = {_place_of(key): entry for key, entry in self._table('auths').items()}
        place = f'{_host_of(registry)}/{repository}'.rstrip('/')
        while place:
            if place in entries:
                return self._entry(entries[place], registry)
            place = place.rpartition('/')[0]
        return None

    def _entry(self, entry: object, registry: str) -> Credentials | None:
        if not isinstance(entry, dict):
            raise _wrong(self.path, f'has something other than an object for {registry}')
        fields = {key: entry.get(key) or '' for key in ('auth', 'identitytoken', *_PLAIN)}
        if not all(isinstance(value, str) for value in fields.values()):
            raise _wrong(self.path, f'has something other than text for {registry}')
        username, password = fields['username'], fields['password']
        if fields['auth']:
            username, password = self._decode(fields['auth'], registry)
        if not username and not fields['identitytoken']:
            # `docker login` leaves an empty entry where a helper has the rest.
            return None
        return Credentials(username, password, fields['identitytoken'])

    def _decode(self, text: str, registry: str) -> tuple[str, str]:
        try:
            pair = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, ValueError):
            raise _wrong(
                self.path, f'has an `auth` for {registry} that is no base64 of text'
            ) from None
        username, colon, password = pair.partition(':')
        if not colon:
            raise _wrong(self.path, f'has an `auth` for {registry} that is not NAME:PASSWORD')
        return username, password.strip('\0')

    def _ask(self, helper: str, registry: str) -> Credentials | None:
        """https://github.com/docker/docker-credential-helpers#development"""
        program = f'docker-credential-{helper}'
        output = _run(program, self._address(registry), self.path, self.environ)
        if output is None:
            return None
        try:
            answer = json.loads(output)
            username, secret = answer['Username'], answer['Secret']
        except (ValueError, TypeError, KeyError, RecursionError):
            username = secret = None
        if not isinstance(username, str) or not isinstance(secret, str):
            raise PackagingError(f'{program} did not answer with a Username and a Secret.')
        if username == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(username, secret) if username or secret else None

    @staticmethod
    def _address(registry: str) -> str:
        return _DOCKER_HUB if registry in _HUB_HOSTS else registry


_PLAIN: Final = ('username', 'password')


def _run(program: str, address: str, path: Path, environ: Mapping[str, str]) -> bytes | None:
    """What a helper prints for the address of a registry; None if it knows no login to it."""
    import shutil
    import subprocess

    named = f'the credential helper that {path} names'
    found = shutil.which(program, path=environ.get('PATH'))
    if found is None:
        raise PackagingError(
            f'{program}, {named}, is not on PATH: install it, or remove it from that file.'
        )
    try:
        done = subprocess.run(
            [found, 'get'],
            input=address.encode(),
            capture_output=True,
            env=dict(environ),
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PackagingError(
            f'{program}, {named}, gave no answer within {_HELPER_SECONDS:.0f} s for {address}.'
        ) from None
    except OSError as error:
        raise PackagingError(f'{program}, {named}, could not be run: {error.strerror}.') from None
    if not done.returncode:
        return done.stdout
    if _NOT_FOUND in done.stdout.decode(errors='replace').lower():
        return None
    # Not what it printed: nobody knows what is in there.
    raise PackagingError(
        f'{program}, {named}, failed with exit code {done.returncode} for {address}: '
        f'see `echo {address} | {program} get`.'
    )


def _host_of(key: str) -> str:
    """The host of a key of the file: `https://quay.io/v1/` and `quay.io` are the same registry."""
    return _place_of(key).partition('/')[0]


def _place_of(key: str) -> str:
    bare = key.partition('://')[2] or key
    host, _, rest = bare.rstrip('/').partition('/')
    if host in _HUB_HOSTS:
        host = DEFAULT_REGISTRY
    # The version of the protocol, which older clients wrote.
    return f'{host}/{rest}' if rest and rest not in ('v1', 'v2') else host


def _wrong(path: Path, what: str) -> PackagingError:
    return PackagingError(
        f'{path}, in which logins to registries are kept, {what}: mend it, or log in again.'
    )
