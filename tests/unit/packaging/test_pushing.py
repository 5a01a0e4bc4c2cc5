"""A push sends what is missing and nothing else, the manifest last."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.unit.images import faulty_registry as faulty
from tests.unit.images.faulty_registry import FaultyRegistry
from tests.unit.packaging.pictures import as_base, image

from xmanager.errors import PackagingError
from xmanager.images.reference import Reference
from xmanager.images.values import DOCKER_MANIFEST, OCI_MANIFEST
from xmanager.packaging.pushing import push


@pytest.fixture
def server() -> Iterator[FaultyRegistry]:
    with faulty.running() as running:
        yield running


def quiet(step: str) -> None:
    pass


def at(server: FaultyRegistry, name: str) -> Reference:
    return Reference.parse(f'{server.host}/{name}')


@pytest.mark.parametrize('kind', [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_arrives_whole(kind: str, server: FaultyRegistry, tmp_path: Path) -> None:
    picture = image(tmp_path, [10, 0, 100_000], manifest_type=kind)
    name = push(picture, at(server, 'team/app:v1'), {}, quiet)
    assert re.fullmatch(rf'{server.host}/team/app@sha256:[0-9a-f]{{64}}', name)
    assert server.manifests['team/app', 'v1'] == (kind, picture.manifest())
    assert server.manifests['team/app', name.partition('@')[2]] == (kind, picture.manifest())
    for layer in picture.layers:
        assert layer.descriptor is not None
        assert layer.path is not None
        assert server.blobs['team/app', layer.descriptor.digest] == layer.path.read_bytes()
    assert server.blobs['team/app', picture.id] == picture.config
    assert server.asked[-1].method == 'PUT'
    assert 'manifests/v1' in server.asked[-1].path


def test_what_is_there_is_not_sent_again(server: FaultyRegistry, tmp_path: Path) -> None:
    picture = image(tmp_path, [10, 20])
    first = push(picture, at(server, 'team/app:v1'), {}, quiet)
    server.asked.clear()
    assert push(picture, at(server, 'team/app:v2'), {}, quiet) == first
    assert server.count('POST') == 0
    assert server.count('PUT') == 1


def test_a_layer_that_stands_twice_is_sent_once(server: FaultyRegistry, tmp_path: Path) -> None:
    picture = image(tmp_path, [10])
    push(attrs.evolve(picture, layers=picture.layers * 2), at(server, 'team/app:v1'), {}, quiet)
    assert server.count('PUT', 'uploads') == 2


def test_without_a_tag_only_the_digest_names_it(server: FaultyRegistry, tmp_path: Path) -> None:
    target = attrs.evolve(at(server, 'team/app'), tag='')
    name = push(image(tmp_path, [10]), target, {}, quiet)
    assert list(server.manifests) == [('team/app', name.partition('@')[2])]


def test_a_base_of_the_same_registry_is_mounted(server: FaultyRegistry, tmp_path: Path) -> None:
    base = image(tmp_path, [50_000, 60_000])
    push(base, at(server, 'team/base:1'), {}, quiet)
    server.asked.clear()
    picture = image(tmp_path, [10], 1, as_base(base, at(server, 'team/base:1')))
    push(picture, at(server, 'team/app:v1'), {}, quiet)
    assert server.count('POST', 'mount=') == 2
    assert server.count('GET') == 0
    assert sum(one.received for one in server.asked) < 3000


def test_a_base_that_can_not_be_mounted_passes_through(
    server: FaultyRegistry, tmp_path: Path
) -> None:
    base = image(tmp_path, [50_000])
    push(base, at(server, 'team/base:1'), {}, quiet)
    server.fail('POST', 'mount', faulty.replies(403))
    picture = image(tmp_path, [10], 1, as_base(base, at(server, 'team/base:1')))
    push(picture, at(server, 'team/app:v1'), {}, quiet)
    assert ('team/app', as_base(base, at(server, 'x'))[0].diff_id) in server.blobs


def test_in_the_repository_of_the_base_nothing_of_it_is_touched(
    server: FaultyRegistry, tmp_path: Path
) -> None:
    base = image(tmp_path, [50_000])
    push(base, at(server, 'team/app:base'), {}, quiet)
    server.asked.clear()
    picture = image(tmp_path, [10], 1, as_base(base, at(server, 'team/app:base')))
    push(picture, at(server, 'team/app:v1'), {}, quiet)
    assert (server.count('POST', 'mount='), server.count('GET')) == (0, 0)


def test_a_base_of_another_registry_passes_through(server: FaultyRegistry, tmp_path: Path) -> None:
    with faulty.running() as other:
        base = image(tmp_path, [3_000_000, 50_000])
        push(base, at(other, 'team/base:1'), {}, quiet)
        said: list[str] = []
        picture = image(tmp_path, [10], 1, as_base(base, at(other, 'team/base:1')))
        push(picture, at(server, 'team/app:v1'), {}, said.append)
    assert len(server.blobs) == 4
    assert said[-1].startswith(f'uploading to {server.host}: ')
    assert said[-1].endswith(' of 4 MB')


def test_a_layer_that_nobody_has_is_told(server: FaultyRegistry, tmp_path: Path) -> None:
    picture = image(tmp_path, [10])
    lost = attrs.evolve(picture.layers[0], path=None)
    with pytest.raises(PackagingError, match='neither in a file nor in a registry'):
        push(attrs.evolve(picture, layers=(lost,)), at(server, 'team/app:v1'), {}, quiet)
    assert not server.asked


def test_the_first_failure_ends_the_push_and_no_manifest_is_written(
    server: FaultyRegistry, tmp_path: Path
) -> None:
    server.fail('POST', 'uploads', faulty.replies(403))
    picture = image(tmp_path, [10] * 9)
    with pytest.raises(PackagingError, match='forbids it'):
        push(picture, at(server, 'team/app:v1'), {}, quiet)
    assert not server.manifests


def test_a_failure_does_not_wait_for_the_pauses_of_others(
    server: FaultyRegistry, tmp_path: Path
) -> None:
    busy = faulty.replies(429, {'Retry-After': '200'})
    server.fail('HEAD', 'blobs', busy, busy, faulty.replies(403))
    with pytest.raises(PackagingError, match='forbids it'):
        push(image(tmp_path, [10] * 3), at(server, 'team/app:v1'), {}, quiet)


def test_a_failure_does_not_wait_for_answers_to_others(
    server: FaultyRegistry, tmp_path: Path
) -> None:
    gone = threading.Event()

    def never_answers(handler: faulty.Handler) -> bool:
        gone.wait(60)
        handler.hang_up()
        return True

    refuses = faulty.replies(403)

    def refuses_when_the_others_hang(handler: faulty.Handler) -> bool:
        deadline = time.monotonic() + 20
        while server.faults and time.monotonic() < deadline:
            time.sleep(0.005)
        return refuses(handler)

    server.fail('HEAD', 'blobs', refuses_when_the_others_hang, never_answers, never_answers)
    try:
        with pytest.raises(PackagingError, match='forbids it'):
            push(image(tmp_path, [10] * 2), at(server, 'team/app:v1'), {}, quiet)
    finally:
        assert not gone.is_set()
        gone.set()
