"""Images between the engine of this machine and registries: pulled and pushed by the engine, with the user's logins."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from xmanager.errors import EngineError, PackagingError
from xmanager.packaging.loading import local_name
from xmanager.packaging.workshop import Workshop

if TYPE_CHECKING:
    from xmanager.containers import Engine
    from xmanager.images.reference import Reference

_LOOPBACK: Final = re.compile(r'(localhost|127\.[\d.]+|\[::1\])(:\d+)?')
_REFUSED: Final = re.compile(
    r'unauthori[sz]ed|authentication required|denied|forbidden|no basic auth|invalid username', re.I
)
_UNKNOWN: Final = re.compile(
    r'not found|manifest unknown|name unknown|no such image|not exist', re.I
)
_LAYER_BEGUN: Final = re.compile(r'(?P<layer>[0-9a-f]{12}): (?:Pulling fs layer|Already exists)')
_LAYER_DONE: Final = re.compile(r'(?P<layer>[0-9a-f]{12}): (?:Pull complete|Already exists)')


def pull(
    name: str, reference: Reference, asked: str, executable: str, engine: Engine, workshop: Workshop
) -> None:
    """Has the engine fetch an image. Raises PackagingError: no such image, no login, no such registry."""
    from xmanager.images.credentials import header_for

    begun: set[str] = set()
    done: set[str] = set()

    def tell(line: str) -> None:
        for known, pattern in ((begun, _LAYER_BEGUN), (done, _LAYER_DONE)):
            if match := pattern.match(line):
                known.add(match['layer'])
        layers = f' ({len(done)} of {len(begun)} layers)' if begun else ''
        workshop.tell(executable, f'pulling {name}{layers}')

    workshop.tell(executable, f'pulling {name}')
    auth = header_for(reference.registry, workshop.environ, reference.repository)
    try:
        engine.pull(str(reference), auth, tell)
    except EngineError as error:
        raise PackagingError(_why_not_pulled(str(error), reference, asked, engine)) from None


def push_from_engine(image: str, name: str, engine: Engine, workshop: Workshop) -> str:
    """Has the engine send an image below `workshop.push`; returns `registry/path/name@sha256:…`."""
    from xmanager.images.credentials import header_for
    from xmanager.images.reference import Reference

    below = local_name(name, image).removeprefix('xmanager/')
    target = Reference.parse(f'{workshop.push.rstrip("/")}/{below}')
    workshop.tell(name, f'uploading {target.familiar}')
    engine.tag(image, str(target))
    query = {'tag': target.tag}
    if engine.kind == 'podman' and _LOOPBACK.fullmatch(target.registry):
        query['tlsVerify'] = 'false'  # As Docker does by itself.
    # The engine refuses a push without this header, be it empty.
    auth = header_for(target.registry, workshop.environ, target.repository) or 'e30='
    answer = engine.request(
        'POST', f'/images/{target.name}/push', query=query, headers={'X-Registry-Auth': auth}
    )
    digest = _pushed_digest(answer.read(), target)
    return str(target.with_digest(digest))


def refuse_output(asked: str, workshop: Workshop) -> None:
    """Raises PackagingError if an image that an engine holds is to become an OCI layout."""
    if workshop.output:
        raise PackagingError(
            f'{asked}: --output {workshop.output} is not supported for images that an engine builds or holds. '
            'Leave it out, give --push REGISTRY/PATH, or make the image by xm.python_container.'
        )


def _why_not_pulled(said: str, reference: Reference, asked: str, engine: Engine) -> str:
    registry = reference.registry
    if _REFUSED.search(said) and _LOOPBACK.fullmatch(registry) is None and registry == 'docker.io':
        # Docker Hub says the same of what isn't there and of what one may not see.
        return (
            f'{asked}: the engine at {engine.url} has no such image, and Docker Hub has none that you may see. '
            'Correct the name, build it first, or run `docker login`.'
        )
    if _REFUSED.search(said):
        return f'{asked}: the registry {registry} refuses it. Run `docker login {registry}`.'
    if _UNKNOWN.search(said):
        return (
            f'{asked}: there is no such image, neither in the engine at {engine.url} nor in the registry {registry}. '
            'Correct the name, or build and tag it first.'
        )
    words = said.partition(' refused: ')[2] or said
    return f'{asked}: the engine at {engine.url} has no such image, and could not pull it: {words}'


def _pushed_digest(data: bytes, target: Reference) -> str:
    from xmanager.images.reference import is_digest

    digest = ''
    for line in data.splitlines():
        said = _record(line)
        if error := said.get('error'):
            hint = f' Run `docker login {target.registry}`.' if _REFUSED.search(str(error)) else ''
            raise PackagingError(f'{target.familiar} could not be pushed: {error}.{hint}')
        aux = said.get('aux')
        if isinstance(aux, dict) and is_digest(aux.get('Digest')):
            digest = str(aux['Digest'])
        elif match := re.search(r'digest: (sha256:[0-9a-f]{64})', str(said.get('status', ''))):
            digest = match[1]
    if not digest:
        raise PackagingError(f'{target.familiar}: the engine did not say that it was pushed.')
    return digest


def _record(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
