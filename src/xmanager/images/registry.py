"""One repository of a registry over its HTTP API: manifests and blobs are read, verified, and written.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import hashlib
import platform as host
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import attrs

from xmanager.errors import PackagingError
from xmanager.images.manifests import (
    CONFIG_BYTES,
    MANIFEST_BYTES,
    Index,
    Manifest,
    read_manifest,
)
from xmanager.images.reference import Reference, is_digest
from xmanager.images.registry_download import Download
from xmanager.images.registry_login import LoginRefusedError
from xmanager.images.registry_patience import Patience
from xmanager.images.registry_session import Session
from xmanager.images.registry_uploads import Blob, Upload
from xmanager.images.transport import Transport
from xmanager.images.values import INDEXES, MANIFESTS, Descriptor, Platform, digest_of

_ACCEPT: Final = ', '.join(sorted(MANIFESTS) + sorted(INDEXES))
_STORED: Final = frozenset({200, 201, 202, 204})
_NO_MOUNT: Final = frozenset({400, 401, 403, 404, 405})
# GOARCH by what the kernel calls the machine.
_ARCHITECTURES: Final = {
    'x86_64': ('amd64', ''),
    'aarch64': ('arm64', ''),
    'armv7l': ('arm', 'v7'),
    'armv6l': ('arm', 'v6'),
    'i686': ('386', ''),
    'i386': ('386', ''),
}


def this_platform() -> Platform:
    """Linux on the architecture of this machine."""
    machine = host.machine()
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ''))
    return Platform(architecture, 'linux', variant)


def _nobody(step: str) -> None:
    pass


def _nothing(count: int) -> None:
    pass


class Registry:
    """The repository that a reference names, and the manifest there that it names. Thread-safe; to be closed.

    Its connections and logins are shared with those that `at` makes. Whatever comes from the registry is compared
    with its digest. Every method raises PackagingError: refused, not there, unreachable after several attempts, a lie.
    """

    def __init__(
        self,
        reference: Reference,
        environ: Mapping[str, str],
        tell: Callable[[str], None] = _nobody,
        *,
        patience: Patience | None = None,
    ) -> None:
        transport = Transport(environ)
        session = Session(reference, environ, patience or Patience(tell), transport)
        self._set_up(reference, session, transport)

    def _set_up(self, reference: Reference, session: Session, transport: Transport) -> None:
        self.reference = reference
        self._session = session
        self._transport = transport
        self._path = f'/v2/{reference.repository}'
        self._pull = (f'repository:{reference.repository}:pull',)
        self._push = (f'repository:{reference.repository}:pull,push',)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections, those of `at` too."""
        self._transport.close()

    def abort(self) -> None:
        """Ends what other threads are doing with it, there and then."""
        self._transport.abort()

    def at(self, reference: Reference) -> Registry:
        """Another repository or tag of the same registry, over the same connections and with the same login."""
        assert reference.registry == self.reference.registry
        other = Registry.__new__(Registry)
        other._set_up(reference, self._session, self._transport)
        return other

    def get_manifest(self, platform: Platform | None = None) -> Manifest:
        """The manifest, chosen from an index for `platform`, else for Linux on an architecture like this machine's."""
        found = self._manifest(self.reference)
        if isinstance(found, Index):
            chosen = found.choose(platform or this_platform(), str(self.reference))
            found = self._manifest(self.reference.with_digest(chosen.digest))
        if isinstance(found, Index):
            raise PackagingError(f'{self.reference} is an index of indexes, which is not read.')
        return found

    def has_manifest(self, digest: str) -> bool:
        """Whether there is a manifest with this digest, and so all its blobs."""
        path = f'{self._path}/manifests/{digest}'
        what = f'Looking for {self.reference.name}@{digest}'
        reply = self._session.request(
            what, 'HEAD', path, self._push, ok={200, 404}, headers={'Accept': _ACCEPT}
        )
        return reply.status == 200

    def _manifest(self, reference: Reference) -> Manifest | Index:
        path = f'{self._path}/manifests/{reference.manifest}'
        reply = self._session.request(
            f'Reading {reference}',
            'GET',
            path,
            self._pull,
            ok={200},
            headers={'Accept': _ACCEPT},
            limit=MANIFEST_BYTES,
        )
        said = reply.headers.get('Docker-Content-Digest', '')
        if is_digest(said):
            self._compare(said, digest_of(reply.body), f'the manifest of {reference}')
        media_type = reply.headers.get('Content-Type', '')
        return read_manifest(
            reply.body, str(reference), digest=reference.digest, media_type=media_type
        )

    def get_config(self, manifest: Manifest) -> bytes:
        """The configuration of an image: JSON, not parsed, but with the digest that the manifest says."""
        if manifest.config.size > CONFIG_BYTES:
            raise PackagingError(
                f'The configuration of {self.reference} has {manifest.config.size} bytes; '
                f'at most {CONFIG_BYTES} are read.'
            )
        return b''.join(self.get_blob(manifest.config))

    def get_blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob, block by block; the last block comes only if all have the digest and the size."""
        return Download(
            self._session, f'{self._path}/blobs/{descriptor.digest}', self._pull, descriptor
        ).blocks()

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob."""
        # 302, 307: where its bytes are, which shows that it is there.
        reply = self._session.request(
            f'Looking for {digest} in {self.reference.name}',
            'HEAD',
            f'{self._path}/blobs/{digest}',
            self._push,
            ok={200, 302, 307, 404},
        )
        return reply.status != 404

    def mount(self, digest: str, source: str) -> bool:
        """Makes a blob of the repository `source` one of this repository too; False if the registry won't."""
        query = urlencode({'mount': digest, 'from': source}, quote_via=quote, safe=':/')
        try:
            reply = self._session.request(
                f'Mounting {digest} in {self.reference.name}',
                'POST',
                f'{self._path}/blobs/uploads/?{query}',
                (*self._push, f'repository:{source}:pull'),
                ok={201, 202, *_NO_MOUNT},
            )
        except LoginRefusedError:
            return False  # For both repositories; for the one alone there may well be a token.
        if reply.status == 201:
            self._stored(reply.headers, digest)
        return reply.status == 201

    def upload(
        self, descriptor: Descriptor, content: bytes | Path, sent: Callable[[int], None] = _nothing
    ) -> None:
        """Sends a blob. `sent` is told how many bytes went out since the last call, negative if they must go again."""
        self._send(Blob(descriptor.digest, descriptor.size, content), sent)

    def upload_stream(
        self, descriptor: Descriptor, source: Registry, sent: Callable[[int], None] = _nothing
    ) -> None:
        """Sends a blob of another registry as it arrives: it is never kept here."""
        content = attrs.evolve(descriptor, platform=None)
        self._send(Blob(descriptor.digest, descriptor.size, lambda: source.get_blob(content)), sent)

    def _send(self, blob: Blob, sent: Callable[[int], None]) -> None:
        upload = Upload(self._session, self.reference, self._push, blob, sent, self.has_blob)
        headers = upload.run()
        if headers is not None:
            self._stored(headers, blob.digest)

    def put_manifest(self, data: bytes, media_type: str, tag: str = '') -> str:
        """Writes a manifest, under its digest and, if given, a tag; returns the digest."""
        digest = digest_of(data)
        reply = self._session.request(
            f'Pushing {self.reference.name}{f":{tag}" if tag else ""}',
            'PUT',
            f'{self._path}/manifests/{tag or digest}',
            self._push,
            ok=_STORED,
            headers={'Content-Type': media_type},
            body=data,
        )
        self._stored(reply.headers, digest)
        return digest

    def _stored(self, headers: Message, digest: str) -> None:
        said = headers.get('Docker-Content-Digest')
        if said is not None:
            self._compare(said, digest, f'what was sent to {self.reference.name}')

    def _compare(self, said: str, true: str, what: str) -> None:
        if said != true:
            shown = (
                hashlib.sha256(said.encode()).hexdigest() if not said.isprintable() else said[:80]
            )
            raise PackagingError(
                f'{self.reference.registry} says that {what} has the digest {shown}, but it is {true}: refused.'
            )
