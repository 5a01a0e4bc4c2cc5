"""The name of an image: registry, repository, tag and digest, read as Docker reads it."""

from __future__ import annotations

import re
from typing import Final

import attrs

from xmanager.errors import PackagingError

DEFAULT_REGISTRY: Final = 'docker.io'
_OFFICIAL: Final = 'library'
_LONGEST_NAME: Final = 255

# https://github.com/distribution/reference: the grammar of names.
_LABEL = r'[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?'
_HOST: Final = re.compile(
    rf'(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]{{2,45}}\])(?::[0-9]{{1,5}})?', re.ASCII
)
_PART: Final = re.compile(r'[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*', re.ASCII)
_TAG: Final = re.compile(r'\w[\w.-]{0,127}', re.ASCII)
_DIGEST: Final = re.compile(r'sha256:[0-9a-f]{64}', re.ASCII)
_HEX: Final = re.compile(r'[0-9a-f]{64}', re.ASCII)


def is_digest(text: object) -> bool:
    """Whether it is `sha256:` and 64 hexadecimal digits: no other algorithm is in use for images."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


@attrs.frozen
class Reference:
    """Where an image lies. `tag` is empty only if a digest says more; `digest` is empty if none was given."""

    registry: str
    repository: str
    tag: str = ''
    digest: str = ''

    @classmethod
    def parse(cls, text: str) -> Reference:
        """`python` is `docker.io/library/python:latest`. Raises PackagingError, one sentence for each fault."""
        name, at, digest = text.partition('@')
        if at and not is_digest(digest):
            raise _fault(text, f'the digest {digest!r} is not sha256: and 64 hexadecimal digits')
        name, tag = _split_tag(name)
        if name == 'sha256' and tag and _HEX.fullmatch(tag):
            raise _fault(text, 'it is the id of an image in an engine, not a name')
        if tag is not None and not _TAG.fullmatch(tag):
            raise _fault(
                text, f'the tag {tag!r} has something other than letters, digits and ._- in it'
            )
        registry, repository = _split_registry(name)
        _check_registry(text, registry)
        _check_repository(text, registry, repository)
        return cls(registry, repository, tag or ('' if digest else 'latest'), digest)

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f'{self.registry}/{self.repository}'

    @property
    def familiar(self) -> str:
        """As people and engines write it: without what Docker fills in."""
        name = self.name
        if self.registry == DEFAULT_REGISTRY:
            name = self.repository.removeprefix(f'{_OFFICIAL}/')
        return name + self._suffix

    @property
    def manifest(self) -> str:
        """What a registry is asked for: the digest if there is one, else the tag."""
        return self.digest or self.tag

    def with_digest(self, digest: str) -> Reference:
        """The same place, fixed to its content."""
        return attrs.evolve(self, tag='', digest=digest)

    def with_tag(self, tag: str) -> Reference:
        return attrs.evolve(self, tag=tag, digest='')

    def __str__(self) -> str:
        return self.name + self._suffix

    @property
    def _suffix(self) -> str:
        tag = f':{self.tag}' if self.tag else ''
        return tag + (f'@{self.digest}' if self.digest else '')


def _split_tag(name: str) -> tuple[str, str | None]:
    head, colon, tag = name.rpartition(':')
    if not colon or '/' in tag or (not head.count('/') and head.startswith('[')):
        return name, None
    return head, tag


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition('/')
    if slash and ('.' in first or ':' in first or first == 'localhost' or first != first.lower()):
        registry, repository = first, rest
    else:
        registry, repository = DEFAULT_REGISTRY, name
    if registry == f'index.{DEFAULT_REGISTRY}':
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and repository and '/' not in repository:
        repository = f'{_OFFICIAL}/{repository}'
    return registry, repository


def _check_registry(text: str, registry: str) -> None:
    if not _HOST.fullmatch(registry):
        raise _fault(text, f'{registry!r} is no host of a registry')
    port = registry.rpartition(':')[2] if not registry.endswith(']') else ''
    if port.isdigit() and ':' in registry and not 0 < int(port) < 65536:
        raise _fault(text, f'{port} is no port: those go from 1 to 65535')


def _check_repository(text: str, registry: str, repository: str) -> None:
    if not repository:
        raise _fault(text, 'it has no name')
    if len(registry) + 1 + len(repository) > _LONGEST_NAME:
        raise _fault(text, f'it is longer than {_LONGEST_NAME} characters')
    if registry == DEFAULT_REGISTRY and _HEX.fullmatch(repository.removeprefix(f'{_OFFICIAL}/')):
        raise _fault(text, 'it is the id of an image in an engine, not a name')
    for part in repository.split('/'):
        if not _PART.fullmatch(part):
            hint = ' (names are in lower case)' if part != part.lower() else ''
            raise _fault(text, f'the part {part!r} is not made of a-z, 0-9 and single ._-{hint}')


def _fault(text: str, what: str) -> PackagingError:
    shown = text if len(text) <= 300 else f'{text[:300]}…'
    return PackagingError(
        f'{shown!r} is no name of an image: {what}. Expected REGISTRY/NAME:TAG or NAME@sha256:DIGEST.'
    )
