"""What is read from a registry is what was asked for, or it is refused; refusals say what to do."""

from __future__ import annotations

import email.utils
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.images import faulty_registry as faulty
from tests.unit.images.faulty_registry import FaultyRegistry, replies
from tests.unit.images.registry_desk import Clock, client, described

from xmanager.errors import PackagingError
from xmanager.images.reference import Reference
from xmanager.images.registry import Registry, this_platform
from xmanager.images.values import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Platform,
    canonical_json,
    digest_of,
)

DATA = random.Random(6).randbytes(1_500_000)
CONFIG = canonical_json(
    {'architecture': 'amd64', 'os': 'linux', 'rootfs': {'type': 'layers', 'diff_ids': []}}
)


@pytest.fixture
def server() -> Iterator[FaultyRegistry]:
    with faulty.running() as running:
        yield running


def manifest(kind: str = OCI_MANIFEST, config: bytes = CONFIG) -> dict[str, Any]:
    blob = {'mediaType': 'x', 'digest': digest_of(config), 'size': len(config)}
    return {'schemaVersion': 2, 'mediaType': kind, 'config': blob, 'layers': []}


@pytest.mark.parametrize('kind', [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_is_read(kind: str, server: FaultyRegistry) -> None:
    digest = server.put_manifest('team/app', '1', manifest(kind), kind)
    server.put_blob('team/app', CONFIG)
    with client(server) as registry:
        found = registry.get_manifest()
        assert (found.media_type, found.digest) == (kind, digest)
        assert registry.get_config(found) == CONFIG
    accept = server.asked[0].headers['accept']
    assert all(one in accept for one in (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))


@pytest.mark.parametrize(
    ('index', 'kind'), [(OCI_INDEX, OCI_MANIFEST), (DOCKER_INDEX, DOCKER_MANIFEST)]
)
def test_of_an_index_the_image_for_this_machine_is_taken(
    index: str, kind: str, server: FaultyRegistry
) -> None:
    own = this_platform()
    entries = []
    for platform in (Platform('s390x'), attr_variant(own), Platform('arm', 'linux', 'v7')):
        config = canonical_json({'of': str(platform)})
        digest = server.put_manifest('team/app', 'x', manifest(kind, config), kind)
        where = {'architecture': platform.architecture, 'os': 'linux', 'variant': platform.variant}
        entries.append({'mediaType': kind, 'digest': digest, 'size': 1, 'platform': where})
    value = {'schemaVersion': 2, 'mediaType': index, 'manifests': entries}
    server.put_manifest('team/app', '1', value, index)
    with client(server) as registry:
        assert registry.get_manifest().digest == entries[1]['digest']
        assert registry.get_manifest(Platform('arm', 'linux', 'v7')).digest == entries[2]['digest']
        with pytest.raises(PackagingError, match='no image for linux/mips'):
            registry.get_manifest(Platform('mips'))


def attr_variant(platform: Platform) -> Platform:
    """An index may say more of a machine than is known of this one."""
    return Platform(platform.architecture, 'linux', platform.variant or 'v8')


def test_a_manifest_other_than_the_digest_asked_for_is_refused(server: FaultyRegistry) -> None:
    digest = server.put_manifest('team/app', '1', manifest(), OCI_MANIFEST)
    other = json.dumps(manifest()).encode() + b' '
    server.fail('GET', 'manifests', replies(200, {'Content-Type': OCI_MANIFEST}, other))
    with (
        client(server, f'team/app@{digest}') as registry,
        pytest.raises(PackagingError, match='digest'),
    ):
        registry.get_manifest()


def test_a_registry_that_lies_about_the_digest_of_a_tag_is_refused(server: FaultyRegistry) -> None:
    lie = {'Docker-Content-Digest': f'sha256:{"0" * 64}'}
    server.fail('GET', 'manifests', replies(200, lie, json.dumps(manifest()).encode()))
    with client(server) as registry, pytest.raises(PackagingError, match='says that the manifest'):
        registry.get_manifest()


def test_a_manifest_without_end_is_not_read(server: FaultyRegistry) -> None:
    server.fail('GET', 'manifests', replies(200, {}, bytes(5 * 2**20)))
    with client(server) as registry, pytest.raises(PackagingError, match='more than 4194304 bytes'):
        registry.get_manifest()


def test_a_manifest_is_written_with_its_tag(server: FaultyRegistry) -> None:
    data = canonical_json(manifest())
    with client(server) as registry:
        assert registry.put_manifest(data, OCI_MANIFEST, 'v2') == digest_of(data)
        assert registry.has_manifest(digest_of(data))
    assert server.manifests['team/app', 'v2'] == (OCI_MANIFEST, data)


def test_a_lie_about_a_manifest_that_was_written_is_refused(server: FaultyRegistry) -> None:
    server.fail('PUT', 'manifests', replies(201, {'Docker-Content-Digest': 'sha256:00'}))
    with client(server) as registry, pytest.raises(PackagingError, match=r'sha256:00.*refused'):
        registry.put_manifest(b'{}', OCI_MANIFEST)


@pytest.mark.parametrize('after', [0, 1, 700_000, 1_499_999])
def test_a_download_that_is_cut_goes_on_from_there(after: int, server: FaultyRegistry) -> None:
    server.put_blob('team/app', DATA)
    server.fail('GET', 'blobs', *[faulty.cuts_download(after)] * 2)
    with client(server) as registry:
        assert b''.join(registry.get_blob(described(DATA))) == DATA
    if after:
        assert server.asked[1].headers['range'] == f'bytes={after}-'


def test_a_registry_that_knows_no_ranges_sends_all_again(server: FaultyRegistry) -> None:
    server.put_blob('team/app', DATA)
    server.fail('GET', 'blobs', faulty.cuts_download(700_000), replies(200, {}, DATA))
    with client(server) as registry:
        assert b''.join(registry.get_blob(described(DATA))) == DATA


@pytest.mark.parametrize('said', ['bytes 800000-1499999/1500000', 'nonsense', ''])
def test_another_range_than_asked_for_is_refused(said: str, server: FaultyRegistry) -> None:
    server.put_blob('team/app', DATA)
    server.fail('GET', 'blobs', faulty.cuts_download(700_000))
    server.fail('GET', 'blobs', replies(206, {'Content-Range': said}, DATA[800_000:]))
    with client(server) as registry, pytest.raises(PackagingError, match='refused'):
        list(registry.get_blob(described(DATA)))


@pytest.mark.parametrize(
    'change', [lambda d: d[:-1] + b'?', lambda d: d + b'?', lambda d: b'?' + d]
)
def test_a_blob_that_is_another_is_refused_before_its_last_block(
    change: Any, server: FaultyRegistry
) -> None:
    server.blobs['team/app', described(DATA).digest] = change(DATA)
    got: list[bytes] = []
    with client(server) as registry, pytest.raises(PackagingError, match='refused'):
        got.extend(registry.get_blob(described(DATA)))
    assert len(b''.join(got)) < len(DATA)


def test_a_blob_that_is_too_short_is_told(server: FaultyRegistry) -> None:
    server.blobs['team/app', described(DATA).digest] = DATA[:-1]
    with client(server) as registry, pytest.raises(PackagingError):
        list(registry.get_blob(described(DATA)))


def test_blobs_elsewhere_are_fetched_there_without_our_login(
    server: FaultyRegistry, tmp_path: Path
) -> None:
    server.fail('GET', 'blobs', faulty.wants_login('Basic realm=x', 'Basic YWRhOmh1c2g='))
    with faulty.running() as storage:
        storage.put_blob('bucket', DATA)
        where = f'http://{storage.host}/v2/bucket/blobs/{described(DATA).digest}?signed=1'
        server.fail('GET', 'blobs', replies(307, {'Location': where}))
        with client(server, environ=logged_in(server, tmp_path)) as registry:
            assert b''.join(registry.get_blob(described(DATA))) == DATA
        assert server.asked[-1].headers['authorization']
        assert 'authorization' not in storage.asked[0].headers


def logged_in(server: FaultyRegistry, folder: Path) -> dict[str, str]:
    entry = {server.host: {'auth': 'YWRhOmh1c2g='}}
    (folder / 'config.json').write_text(json.dumps({'auths': entry}))
    return {'DOCKER_CONFIG': str(folder), 'HOME': '/nowhere'}


@pytest.mark.parametrize(
    ('location', 'said'),
    [
        ('http://storage.test/x', 'without TLS'),
        ('file:///etc/passwd', 'no URL'),
        ('', 'to nowhere'),
    ],
)
def test_a_redirect_to_where_nobody_should_go_is_refused(
    location: str, said: str, server: FaultyRegistry
) -> None:
    server.fail('GET', 'blobs', replies(307, {'Location': location}))
    with client(server) as registry, pytest.raises(PackagingError, match=said):
        list(registry.get_blob(described(DATA)))


def test_redirects_come_to_an_end(server: FaultyRegistry) -> None:
    server.fail('GET', '', *[replies(302, {'Location': '/again'})] * 9)
    with client(server) as registry, pytest.raises(PackagingError, match='more than 5 times'):
        list(registry.get_blob(described(DATA)))


def test_a_redirect_shows_that_a_blob_is_there(server: FaultyRegistry) -> None:
    server.fail('HEAD', 'blobs', replies(307, {'Location': 'https://storage.test/x'}))
    with client(server) as registry:
        assert registry.has_blob(described(DATA).digest)


@pytest.mark.parametrize(
    ('status', 'said'),
    [
        (401, 'wants a login.*Run `docker login 127.0.0.1:'),
        (403, 'forbids it.*`docker login 127.0.0.1:'),
        (404, 'knows no such name'),
        (413, 'too large'),
        (418, 'answered with 418'),
    ],
)
def test_a_refusal_says_what_to_do(status: int, said: str, server: FaultyRegistry) -> None:
    body = faulty.error('NO', 'because\x1b[31m\n' + 'x' * 9999)
    server.fail('GET', 'manifests', replies(status, {}, body))
    with client(server) as registry, pytest.raises(PackagingError, match=said) as caught:
        registry.get_manifest()
    text = str(caught.value)
    assert 'NO: because' in text
    assert text.isprintable()
    assert len(text) < 600


@pytest.mark.parametrize('form', ['seconds', 'date'])
@pytest.mark.parametrize('status', [429, 503])
def test_a_busy_registry_is_waited_for_as_it_says(
    form: str, status: int, server: FaultyRegistry
) -> None:
    clock = Clock()
    header = '7' if form == 'seconds' else email.utils.formatdate(clock.now + 7, usegmt=True)
    server.put_manifest('team/app', '1', manifest(), OCI_MANIFEST)
    server.fail('GET', 'manifests', replies(status, {'Retry-After': header}))
    with client(server, clock=clock) as registry:
        registry.get_manifest()
    assert clock.slept == [7.0]
    assert clock.told == [f'waiting 7 s: {server.host} is busy ({status})']


def test_a_registry_that_wants_to_be_left_alone_for_an_hour_is_not_waited_for(
    server: FaultyRegistry,
) -> None:
    clock = Clock()
    server.fail('GET', 'manifests', replies(429, {'Retry-After': '3600'}))
    with client(server, clock=clock) as registry, pytest.raises(PackagingError, match='in 60 min'):
        registry.get_manifest()
    assert not clock.slept


@pytest.mark.parametrize('header', [{}, {'Retry-After': 'soon'}, {'Retry-After': '-3'}])
def test_one_that_does_not_say_when_is_asked_ever_more_seldom(
    header: dict[str, str], server: FaultyRegistry
) -> None:
    clock = Clock()
    server.fail('GET', 'manifests', *[replies(429, header)] * 20)
    with client(server, clock=clock) as registry, pytest.raises(PackagingError, match='is busy'):
        registry.get_manifest()
    assert len(clock.slept) == 8
    assert clock.slept == sorted(clock.slept)


def test_nobody_listening_is_told_at_once() -> None:
    clock = Clock()
    reference = Reference.parse('127.0.0.1:9/team/app')
    said = pytest.raises(PackagingError, match=r'127\.0\.0\.1:9 could not be reached')
    with Registry(reference, {}, patience=clock.patience) as registry, said:
        registry.get_manifest()
    assert not clock.slept


def test_connections_are_used_again(server: FaultyRegistry) -> None:
    server.put_manifest('team/app', '1', manifest(), OCI_MANIFEST)
    with client(server) as registry:
        for _ in range(3):
            registry.get_manifest()
        idle = registry._transport._idle
        assert [len(shelf) for shelf in idle.values()] == [1]


def test_a_connection_that_idled_too_long_is_replaced_without_a_pause(
    server: FaultyRegistry,
) -> None:
    clock = Clock()
    server.put_manifest('team/app', '1', manifest(), OCI_MANIFEST)
    with client(server, clock=clock) as registry:
        registry.get_manifest()
        server.fail('GET', 'manifests', faulty.hangs_up)
        registry.get_manifest()
    assert not clock.slept
