"""What a keeper says to the engine. Light, and without the project's errors: `engine.py` is for all others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from xmanager.containers.wire import Answer, WireError, ask, message

if TYPE_CHECKING:
    from typing import Any

NoAnswer = WireError
_NEWEST = (1, 43)


class Refused(Exception):
    """The engine said no: the HTTP status (0 if it was not asked) and its own words."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


class Remote:
    """The engine at `url`. `ping` finds out its kind, and comes first."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._prefix = ''
        self.kind = 'docker'

    def ping(self) -> None:
        """Finds out who it is. Raises NoAnswer if it can't be reached."""
        answer = ask(self._url, 'GET', '/_ping', timeout=10.0)
        answer.read()
        offered = answer.headers.get('api-version', '')
        if answer.status >= 400 or not offered:
            raise WireError(f'{self._url} is no container engine, or not ready')
        self.kind = 'podman' if 'libpod-api-version' in answer.headers else 'docker'
        version = min(tuple(map(int, offered.split('.'))), _NEWEST)
        self._prefix = '/v' + '.'.join(map(str, version))

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """One request and its whole answer. Raises Refused or NoAnswer, after `timeout` seconds of silence too."""
        return self._open(method, path, query, body, timeout=timeout).json()

    def inspect(self, name: str, timeout: float | None = None) -> Any:
        """What the engine knows of a container; None if there is none."""
        try:
            return self.call('GET', f'/containers/{name}/json', timeout=timeout)
        except Refused as error:
            if error.status != 404:
                raise
            return None

    def containers(self, label: str) -> Any:
        """All containers with a label, running or not."""
        filters = json.dumps({'label': [label]})
        return self.call('GET', '/containers/json', {'all': '1', 'filters': filters})

    def has_network(self, name: str) -> bool:
        """Whether there is a network of exactly that name."""
        try:
            self.call('GET', f'/networks/{name}')
        except Refused as error:
            if error.status != 404:
                raise
            return False
        return True

    def attach(self, name: str) -> Answer:
        """The output of a container from now on, raw."""
        query = {'stream': '1', 'stdout': '1', 'stderr': '1'}
        headers = {'Connection': 'Upgrade', 'Upgrade': 'tcp'}
        return self._open('POST', f'/containers/{name}/attach', query, None, headers)

    def logs(self, name: str, *, follow: bool) -> Answer:
        """All that the engine has kept of a container's output."""
        query = {'stdout': '1', 'stderr': '1', 'follow': '1' if follow else '0'}
        return self._open('GET', f'/containers/{name}/logs', query)

    def wait(self, name: str, timeout: float) -> None:
        """Returns when a container does not run. Raises NoAnswer after `timeout` seconds."""
        query = {'condition': 'not-running'}
        self._open('POST', f'/containers/{name}/wait', query, timeout=timeout).read()

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        if not self._prefix:
            self.ping()
        target = f'{self._prefix}{path}' + (f'?{urlencode(query)}' if query else '')
        sent = dict(headers or {})
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent['Content-Type'] = 'application/json'
        answer = ask(self._url, method, target, body=data, headers=sent, timeout=timeout)
        if answer.status >= 400:
            raise Refused(answer.status, message(answer.read()) or f'HTTP status {answer.status}')
        return answer
