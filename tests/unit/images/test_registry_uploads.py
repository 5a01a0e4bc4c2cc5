"""Blobs reach a registry whatever happens on the way, and nothing is believed that isn't so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.images import faulty_registry as faulty
from tests.unit.images.faulty_registry import FaultyRegistry, replies
from tests.unit.images.registry_desk import Clock, client, described

from xmanager.errors import PackagingError

DATA = random.Random(5).randbytes(3_000_000)


@pytest.fixture
def server() -> Iterator[FaultyRegistry]:
    with faulty.running() as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / 'layer'
    path.write_bytes(DATA)
    return path


def test_a_blob_takes_one_post_and_one_put(server: FaultyRegistry, path: Path) -> None:
    sent: list[int] = []
    with client(server) as registry:
        registry.upload(described(DATA), path, sent.append)
    assert [one.method for one in server.asked] == ['POST', 'PUT']
    assert server.blobs['team/app', described(DATA).digest] == DATA
    assert sum(sent) == len(DATA)


@pytest.mark.parametrize('data', [b'', b'{}'])
def test_bytes_are_sent_too(data: bytes, server: FaultyRegistry) -> None:
    with client(server) as registry:
        registry.upload(described(data), data)
    assert server.blobs['team/app', described(data).digest] == data


@pytest.mark.parametrize('absolute', [True, False])
@pytest.mark.parametrize('state', ['', '?_state=a%2Fb%3D'])
def test_the_place_of_an_upload_may_have_any_form(
    absolute: bool, state: str, server: FaultyRegistry
) -> None:
    server.absolute_locations, server.state = absolute, state
    with client(server) as registry:
        registry.upload(described(b'x'), b'x')
    assert server.asked[-1].path.endswith(
        f'{state or "?"}&digest={described(b"x").digest}'.replace('?&', '?')
    )


def test_an_upload_that_is_cut_goes_on_where_the_registry_says(
    server: FaultyRegistry, path: Path
) -> None:
    server.fail('PUT', 'uploads', faulty.cuts_upload(1_000_000))
    sent: list[int] = []
    with client(server) as registry:
        registry.upload(described(DATA), path, sent.append)
    assert server.blobs['team/app', described(DATA).digest] == DATA
    assert [one.method for one in server.asked] == ['POST', 'PUT', 'HEAD', 'GET', 'PATCH', 'PUT']
    patch = server.asked[-2]
    assert (patch.headers['content-range'], patch.received) == ('1000000-2999999', 2_000_000)
    assert sum(sent) == len(DATA)


def test_it_starts_again_where_the_registry_can_not_say(server: FaultyRegistry, path: Path) -> None:
    server.resumes = False
    server.fail('PUT', 'uploads', faulty.cuts_upload(1_000_000))
    sent: list[int] = []
    with client(server) as registry:
        registry.upload(described(DATA), path, sent.append)
    assert server.blobs['team/app', described(DATA).digest] == DATA
    assert server.count('POST') == 2
    assert sum(sent) == len(DATA)


@pytest.mark.parametrize(
    'said', ['0-0', '0-9999999', 'nonsense', '', 'bytes 5-7', '0-99999999999999999999']
)
def test_a_range_that_can_not_be_is_not_believed(
    said: str, server: FaultyRegistry, path: Path
) -> None:
    server.fail('PUT', 'uploads', faulty.cuts_upload(1_000_000))
    server.fail('GET', 'uploads', replies(204, {'Range': said}))
    with client(server) as registry:
        registry.upload(described(DATA), path)
    assert server.blobs['team/app', described(DATA).digest] == DATA
    assert server.count('POST') == 2


@pytest.mark.parametrize('said', ['0-4', '0-1999999', '0-2999998'])
def test_a_wrong_range_is_found_out_and_the_blob_starts_again(
    said: str, server: FaultyRegistry, path: Path
) -> None:
    server.fail('PUT', 'uploads', faulty.cuts_upload(1_000_000))
    server.fail('GET', 'uploads', replies(204, {'Range': said}))
    with client(server) as registry:
        registry.upload(described(DATA), path)
    assert server.blobs['team/app', described(DATA).digest] == DATA


def test_a_whole_upload_whose_answer_was_lost_is_not_sent_again(
    server: FaultyRegistry, path: Path
) -> None:
    server.fail('PUT', 'uploads', faulty.answers_but_hangs_up)
    with client(server) as registry:
        registry.upload(described(DATA), path)
    assert server.count('PUT') == 1


@pytest.mark.parametrize(
    'act', [faulty.hangs_up, replies(500), replies(502), replies(404), replies(503)]
)
def test_passing_trouble_is_waited_out(act: faulty.Act, server: FaultyRegistry, path: Path) -> None:
    clock = Clock()
    server.fail('PUT', 'uploads', act, act, act)
    with client(server, clock=clock) as registry:
        registry.upload(described(DATA), path)
    assert server.blobs['team/app', described(DATA).digest] == DATA
    assert clock.slept == sorted(clock.slept)


def test_trouble_that_stays_is_told(server: FaultyRegistry) -> None:
    server.fail('POST', 'uploads', *[replies(500, {}, faulty.error('UNKNOWN', 'disk full'))] * 5)
    with (
        client(server) as registry,
        pytest.raises(PackagingError, match='5 times in a row') as caught,
    ):
        registry.upload(described(b'x'), b'x')
    assert 'answered with 500 (UNKNOWN: disk full)' in str(caught.value)


def test_a_registry_that_stored_something_else_is_refused(server: FaultyRegistry) -> None:
    server.fail('PUT', 'uploads', replies(201, {'Docker-Content-Digest': f'sha256:{"0" * 64}'}))
    with client(server) as registry, pytest.raises(PackagingError, match='says that what was sent'):
        registry.upload(described(b'x'), b'x')


def test_a_digest_that_the_registry_finds_wrong_is_told(server: FaultyRegistry) -> None:
    server.fail('PUT', 'uploads', replies(400, {}, faulty.error('DIGEST_INVALID', 'no match')))
    with (
        client(server) as registry,
        pytest.raises(PackagingError, match='DIGEST_INVALID: no match'),
    ):
        registry.upload(described(b'x'), b'x')
    assert server.count('PUT') == 1


def test_a_file_that_became_shorter_is_told(server: FaultyRegistry, path: Path) -> None:
    descriptor = described(DATA)
    path.write_bytes(DATA[:-1])
    with client(server) as registry, pytest.raises(PackagingError, match='became shorter'):
        registry.upload(descriptor, path)


@pytest.mark.parametrize('location', ['ftp://x/y', 'http://a b/', 'http://[', 'http://u:p@h/'])
def test_a_place_that_is_none_is_refused(location: str, server: FaultyRegistry) -> None:
    server.fail('POST', 'uploads', replies(202, {'Location': location}))
    with client(server) as registry, pytest.raises(PackagingError, match='no URL of a registry'):
        registry.upload(described(b'x'), b'x')


def test_no_place_at_all_is_told(server: FaultyRegistry) -> None:
    server.fail('POST', 'uploads', replies(202))
    with client(server) as registry, pytest.raises(PackagingError, match='did not say where'):
        registry.upload(described(b'x'), b'x')


def test_a_blob_of_another_repository_is_mounted(server: FaultyRegistry) -> None:
    digest = server.put_blob('team/base', DATA)
    with client(server) as registry:
        assert registry.mount(digest, 'team/base')
        assert registry.has_blob(digest)
        assert not registry.mount(digest, 'team/other')


@pytest.mark.parametrize('status', [202, 401, 403, 404, 405])
def test_a_registry_may_refuse_to_mount(status: int, server: FaultyRegistry) -> None:
    server.fail('POST', 'mount', replies(status, {'Location': '/v2/x'}))
    with client(server) as registry:
        assert not registry.mount(described(DATA).digest, 'team/base')


def test_a_mount_of_something_else_is_refused(server: FaultyRegistry) -> None:
    server.fail('POST', 'mount', replies(201, {'Docker-Content-Digest': f'sha256:{"0" * 64}'}))
    with client(server) as registry, pytest.raises(PackagingError, match='refused'):
        registry.mount(described(DATA).digest, 'team/base')


def test_a_blob_passes_from_one_registry_to_another(server: FaultyRegistry) -> None:
    with faulty.running() as source:
        source.put_blob('team/base', DATA)
        source.fail('GET', 'blobs', faulty.cuts_download(700_000))
        server.fail('PUT', 'uploads', faulty.cuts_upload(1_000_000))
        with client(server) as registry, client(source, 'team/base') as base:
            registry.upload_stream(described(DATA), base)
    assert server.blobs['team/app', described(DATA).digest] == DATA


def test_a_source_that_lies_does_not_get_its_blob_through(server: FaultyRegistry) -> None:
    with faulty.running() as source:
        source.blobs['team/base', described(DATA).digest] = DATA[:-1] + b'?'
        refused = pytest.raises(PackagingError, match='refused')
        with client(server) as registry, client(source, 'team/base') as base, refused:
            registry.upload_stream(described(DATA), base)
    assert not server.blobs


def test_an_upload_is_not_sent_in_clear_to_another_host(server: FaultyRegistry) -> None:
    server.fail('POST', 'uploads', replies(202, {'Location': 'http://other.test/v2/upload'}))
    refused = pytest.raises(PackagingError, match=r'sends to other\.test without TLS: refused')
    with client(server) as registry, refused:
        registry.upload(described(b'x'), b'x')
    assert server.count('PUT') == 0
