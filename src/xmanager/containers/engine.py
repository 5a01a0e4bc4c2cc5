"""A client of the Docker Engine API, which Docker and Podman serve on a socket: what packaging and cleaning up need."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from xmanager.containers.wire import Answer, Body, WireError, ask, message
from xmanager.errors import EngineError

OLDEST = (1, 40)
"""Docker 19.03: the first that gives GPUs to containers by itself."""
NEWEST = (1, 43)
"""What this client was written for; engines keep to older versions for years."""


class Engine:
    """One engine at `url` (`unix:///path` or `tcp://host:port`), which has answered.

    `kind` is `docker` or `podman`, `api_version` what is spoken with it, `version` its own.
    """

    def __init__(self, url: str, kind: str, api_version: str, version: str = '') -> None:
        self.url = url
        self.kind = kind
        self.api_version = api_version
        self.version = version

    def __repr__(self) -> str:
        return f'Engine({self.url!r}, {self.kind!r}, {self.api_version!r})'

    @staticmethod
    def connect(url: str, timeout: float | None = 10.0) -> Engine:
        """Asks the engine at `url` who it is. Raises WireError if none answers, EngineError if it can't be used."""
        answer = ask(url, 'GET', '/_ping', timeout=timeout)
        data = answer.read()
        if answer.status >= 400 or 'api-version' not in answer.headers:
            said = message(data) or f'HTTP status {answer.status}'
            raise EngineError(f'what answers at {url} is no container engine: {said[:200]}')
        offered = answer.headers['api-version']
        kind = 'podman' if 'libpod-api-version' in answer.headers else 'docker'
        server = answer.headers.get('server', '')
        version = answer.headers.get('libpod-api-version') or server[: server.find(' (')]
        return Engine(url, kind, _agreed(offered, url), version.rpartition('/')[2])

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Body | Mapping[str, Any] = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> Answer:
        """One request below the API's version: `engine.request('GET', '/info').json()`.

        A mapping is sent as JSON, pieces of bytes as they come. Values of the query that are no text are sent as JSON.
        The body of the answer has arrived, unless it is a `stream`: then read `pieces` and `close`. Raises EngineError
        with the engine's own words if it refuses or breaks off, or is silent for `timeout` seconds.
        """
        sent = dict(headers or {})
        if isinstance(body, Mapping):
            body = json.dumps(body).encode()
            sent.setdefault('Content-Type', 'application/json')
        target = f'/v{self.api_version}{quote(path, safe="/:@+")}'
        if query:
            words = {n: v if isinstance(v, str) else json.dumps(v) for n, v in query.items()}
            target += f'?{urlencode(words)}'
        try:
            answer = ask(self.url, method, target, body=body, headers=sent, timeout=timeout)
            if answer.status >= 400:
                said = message(answer.read()) or f'HTTP status {answer.status}'
                raise EngineError(f'{self._name} refused: {said}', status=answer.status)
            if not stream:
                answer.preload()
            return answer
        except WireError as error:
            raise self._broken(error) from error

    def inspect_image(self, name: str) -> dict[str, Any] | None:
        """What the engine knows of an image, None if it has none of that name or id."""
        return self._inspect(f'/images/{name}/json')

    def inspect_container(self, name: str) -> dict[str, Any] | None:
        """What the engine knows of a container, None if there is none."""
        return self._inspect(f'/containers/{name}/json')

    def load(self, chunks: Iterable[bytes]) -> str:
        """Loads a docker archive, given in pieces; returns what the engine said, such as the id of the image."""
        answer = self.request(
            'POST',
            '/images/load',
            body=chunks,
            query={'quiet': '1'},
            headers={'Content-Type': 'application/x-tar'},
        )
        return ''.join(str(line.get('stream', '')) for line in self._progress(answer)).strip()

    def export(self, name: str) -> Iterator[bytes]:
        """An image as a docker archive, in pieces."""
        answer = self.request('GET', f'/images/{name}/get', stream=True)
        try:
            yield from answer.pieces()
        except WireError as error:
            raise self._broken(error) from error
        finally:
            answer.close()

    def pull(self, name: str, auth: str, tell: Callable[[str], None]) -> None:
        """Fetches an image. `auth` is a value for the header X-Registry-Auth or '', `tell` hears of the progress."""
        headers = {'X-Registry-Auth': auth} if auth else {}
        query = {'fromImage': name}
        answer = self.request('POST', '/images/create', query=query, headers=headers, stream=True)
        try:
            for line in self._progress(answer):
                if line.get('status'):
                    layer = f'{line["id"]}: ' if line.get('id') else ''
                    tell(f'{layer}{line["status"]}')
        finally:
            answer.close()

    def tag(self, image_id: str, name: str) -> None:
        """Gives an image one more name, `repository:tag`."""
        repository, _, tag = name.rpartition(':')
        if not repository or '/' in tag:
            repository, tag = name, 'latest'
        self.request('POST', f'/images/{image_id}/tag', query={'repo': repository, 'tag': tag})

    @property
    def _name(self) -> str:
        return f'{self.kind.capitalize()} ({self.url})'

    def _inspect(self, path: str) -> dict[str, Any] | None:
        try:
            found = self.request('GET', path).json()
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        assert isinstance(found, dict)
        return found

    def _progress(self, answer: Answer) -> Iterator[dict[str, Any]]:
        """The JSON lines with which an engine tells of long work; an error among them is raised."""
        rest = b''
        try:
            for piece in answer.pieces():
                *lines, rest = (rest + piece).split(b'\n')
                yield from filter(None, map(self._line, lines))
        except WireError as error:
            raise self._broken(error) from error
        line = self._line(rest)
        if line:
            yield line

    def _line(self, line: bytes) -> dict[str, Any] | None:
        try:
            said = json.loads(line)
        except ValueError:
            return None
        if not isinstance(said, dict):
            return None
        if said.get('error'):
            raise EngineError(f'{self._name} refused: {said["error"]}')
        return said

    def _broken(self, error: WireError) -> EngineError:
        return EngineError(
            f'{self._name} did not finish what it was asked for: {error}. Is it still running?'
        )


def _agreed(offered: str, url: str) -> str:
    try:
        version = tuple(int(part) for part in offered.split('.'))
    except ValueError:
        raise EngineError(f'the engine at {url} speaks version {offered!r} of the API.') from None
    if version < OLDEST:
        raise EngineError(
            f'the container engine at {url} is too old: it speaks version {offered} of the API and '
            f'{_spoken(OLDEST)} is needed. Use Docker 19.03 or Podman 3, or later ones.'
        )
    return _spoken(min(version, NEWEST))


def _spoken(version: tuple[int, ...]) -> str:
    return '.'.join(map(str, version))
